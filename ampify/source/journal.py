"""Files that are replaced together: a journal beside them lets the next run finish what a killed one has begun.

It holds the old and the new text of each, is on the disk before the first rename, and goes away after the last one. The
run that writes holds a lock on it, which the system takes from one that is killed.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampify.source import files, walk

try:
    import fcntl
except ImportError:  # Windows: two runs that write the same project at once are told apart by what the files hold
    fcntl = None  # type: ignore[assignment]

NAME = files.JOURNAL


@dataclass(frozen=True, slots=True)
class Entry:
    """A file with what it held, what it is to hold, and the copy that is renamed to it."""

    path: Path
    old: bytes
    new: bytes
    temporary: Path

    @property
    def state(self) -> str:
        """``old``, ``new``, or ``other`` where somebody else has been at work since."""
        try:
            held = self.path.read_bytes()
        except OSError:
            return "other"
        return "new" if held == self.new else "old" if held == self.old else "other"


@dataclass(frozen=True, slots=True)
class Settled:
    """What is to say of a journal that was found; ``done`` where nothing is left to do."""

    folder: Path
    message: str
    done: bool


@contextmanager
def kept(entries: Sequence[Entry]) -> Iterator[None]:
    """A journal of these files as long as this lasts; raises `OSError` where none can be written."""
    folder = Path(os.path.commonpath([entry.path.parent for entry in entries]))
    with _opened(folder / NAME, os.O_RDWR | os.O_CREAT, wait=True) as handle:
        if handle is None:
            raise PermissionError(errno.EACCES, f"`{NAME}` in `{folder.name}` is another user's")
        if _entries(folder, _read(handle)):
            raise OSError(errno.EBUSY, "what a run that was stopped has begun here is to be finished first; run again")
        try:
            _write(handle, folder, entries)
            files.sync_folder(folder)
            yield
        finally:
            (folder / NAME).unlink(missing_ok=True)


def settle(folders: Iterable[Path], found: Iterable[Path], *, write: bool) -> Iterator[Settled]:
    """Finish, or take back, what runs that were killed have left half done, of whose journals ``folders`` are.

    Without ``write`` it is only told, and so it is where a file of the project is not among those ``found``.
    """
    here = {path.resolve() for path in found}
    for folder in folders:
        with ExitStack() as stack:
            try:
                handle = stack.enter_context(_opened(folder / NAME, os.O_RDONLY, wait=False))
            except OSError:  # it has gone, or is somebody else's
                continue
            try:
                if handle is not None:
                    yield from _settle(folder, _entries(folder, _read(handle)), here, write=write)
            except OSError as error:
                said = f"what a run that was stopped has begun cannot be finished: {error.strerror or error}"
                yield Settled(folder, said, done=False)


def _settle(folder: Path, entries: list[Entry], here: set[Path], *, write: bool) -> Iterator[Settled]:
    states = [entry.state for entry in entries]
    changed, count = states.count("new"), len(entries)
    half = 0 < changed < count
    if half and not (write and all(entry.path in here for entry in entries)):
        said = f"a run that was stopped has changed {changed} of {count} files that belong together"
        yield Settled(folder, f"{said}; `--fix` over this folder finishes it", done=False)
    elif write:
        if half:
            yield _finish(folder, entries) if "other" not in states else _take_back(folder, entries)
        for entry in entries:
            entry.temporary.unlink(missing_ok=True)
        (folder / NAME).unlink(missing_ok=True)


def _finish(folder: Path, entries: list[Entry]) -> Settled:
    left = [entry for entry in entries if entry.state == "old"]
    for entry in left:
        files.write(entry.path, entry.old, entry.new)
    return Settled(folder, f"finished what a run that was stopped had begun: {_names(folder, left)}", done=True)


def _take_back(folder: Path, entries: list[Entry]) -> Settled:
    """Somebody else has changed one of the files, which stays as it is."""
    others = [entry for entry in entries if entry.state == "other"]
    new = [entry for entry in entries if entry.state == "new"]
    for entry in new:
        files.write(entry.path, entry.new, entry.old)
    said = f"took back what a run that was stopped had begun: {_names(folder, new)}"
    other = f"{_names(folder, others)} was changed by another program since, and stays"
    return Settled(folder, f"{said}; {other}", done=True)


def _names(folder: Path, entries: Iterable[Entry]) -> str:
    return ", ".join(f"`{entry.path.relative_to(folder)}`" for entry in entries)


# ---------------------------------------------------------------------- the file


@contextmanager
def _opened(path: Path, flags: int, *, wait: bool) -> Iterator[int | None]:
    """The journal, locked; None where another run is at work with it, or where it is not this user's own file."""
    while True:
        handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if not _own(handle) or not _lock(handle, wait=wait):
                yield None
                return
            if _same(handle, path):
                yield handle
                return
        finally:
            os.close(handle)
        if not flags & os.O_CREAT:  # it was finished meanwhile
            yield None
            return


def _own(handle: int) -> bool:
    """Whether it is a plain file of this user: what others lay beside a project gives no orders."""
    status = os.fstat(handle)
    return stat.S_ISREG(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid())


def _lock(handle: int, *, wait: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _same(handle: int, path: Path) -> bool:
    """Whether the file is still there under its name."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _read(handle: int) -> bytes:
    with os.fdopen(os.dup(handle), "rb") as file:
        return file.read()


def _write(handle: int, folder: Path, entries: Iterable[Entry]) -> None:
    rows = [
        {
            "path": entry.path.relative_to(folder).as_posix(),
            "old": base64.b64encode(entry.old).decode(),
            "new": base64.b64encode(entry.new).decode(),
            "temporary": entry.temporary.name,
        }
        for entry in entries
    ]
    body = json.dumps(rows).encode()
    with os.fdopen(os.dup(handle), "wb") as file:
        file.truncate(0)
        file.write(_head(body) + b"\n" + body)
        file.flush()
        os.fsync(file.fileno())


def _head(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode()


def _entries(folder: Path, raw: bytes) -> list[Entry]:
    """What a journal says; nothing where it was not written to its end, so that no file had been replaced yet."""
    head, _, body = raw.partition(b"\n")
    if head != _head(body):
        return []
    try:
        found = [_entry(folder, row) for row in json.loads(body)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return [entry for entry in found if entry is not None] if None not in found else []


def _entry(folder: Path, row: Any) -> Entry | None:
    """None where a path leads out of the folder, or through a link."""
    path, temporary = folder.resolve() / row["path"], str(row["temporary"])
    inside = path.resolve() == path and path.is_relative_to(folder.resolve()) and path.suffix in walk.SUFFIXES
    if not inside or not files.is_temporary(temporary, path.name):
        return None
    return Entry(path, base64.b64decode(row["old"]), base64.b64decode(row["new"]), path.with_name(temporary))
