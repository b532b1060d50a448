"""Files: which to look at, which cannot matter, and how to replace one so that it is either old or new."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ampify.source import walk
from ampify.source.walk import JOURNAL as JOURNAL
from ampify.source.walk import LARGEST_NOTEBOOK as LARGEST_NOTEBOOK
from ampify.source.walk import matters as matters

_MARK = ".ampify-"
_YOUNG = 60
"""Seconds; what is staged is renamed or removed within far less."""


class FileChanged(OSError):
    """The file is no longer what was read."""


def find(paths: Iterable[Path], failed: walk.Failed) -> Iterator[Path]:
    """The files to look at, each once: those named, and those git does not ignore in the folders named."""
    return map(Path, walk.find(map(str, paths), failed))


def largest(path: Path, code: float) -> float:
    """The bytes that a file may have, given those that its code may have."""
    return max(code, LARGEST_NOTEBOOK) if path.suffix == ".ipynb" else code


def write(path: Path, old: bytes, new: bytes) -> None:
    """Replace ``old`` by ``new`` in one step, keeping mode and owner; a link stays, what it leads to is replaced."""
    for _, error in write_all([(path, old, new)]):
        raise error


def write_all(changes: Iterable[tuple[Path, bytes, bytes]]) -> list[tuple[Path, Exception]]:
    """Replace what files hold, each old by new, in all of them or in none; what stood in the way, file by file.

    Everything is on the disk before the first file is replaced, so that a full disk is met while nothing has changed.
    """
    failures, staged, done = list[tuple[Path, Exception]](), list[_Staged](), list[_Staged]()
    path = Path()
    with ExitStack() as last:
        try:
            for path, old, new in changes:
                staged.append(_stage(path, old, new))
            if len(staged) > 1:
                last.enter_context(_journal(staged))
            for each in staged:
                path = each.path
                each.commit()
                done.append(each)
        except BaseException as error:
            failures += [(each.path, failure) for each in done if (failure := each.undo())]
            if not isinstance(error, OSError):
                raise
            failures.insert(0, (path, error))
        finally:
            for each in staged:
                Path(each.temporary).unlink(missing_ok=True)
        for folder in {each.real.parent for each in staged}:
            sync_folder(folder)
    return failures


def journals(found: Iterable[Path]) -> list[Path]:
    """The folders, above or beside the files found, that hold a journal of a run that is writing or was killed."""
    return [*map(Path, walk.journals(map(str, found)))]


def is_temporary(name: str, of: str) -> bool:
    """Whether a name is one that `write_all` gives to the copy of a file called ``of``."""
    return name.startswith(f".{of}{_MARK}") and name.endswith(".tmp") and Path(name).name == name


@dataclass(frozen=True, slots=True)
class _Staged:
    """A change that only has to be renamed into its place."""

    path: Path
    real: Path
    temporary: str
    old: bytes
    new: bytes

    def commit(self) -> None:
        if self.real.read_bytes() != self.old:
            raise FileChanged(errno.EBUSY, "was changed by another program meanwhile")
        os.replace(self.temporary, self.real)  # noqa: PTH105 - a plain string on both sides

    def undo(self) -> OSError | None:
        """Put back what the file held; what somebody else has written there since stays."""
        try:
            write(self.path, self.new, self.old)
        except OSError as error:
            return error
        return None


def _journal(staged: Iterable[_Staged]) -> AbstractContextManager[None]:
    from ampify.source.journal import Entry, kept  # most runs replace no files together

    return kept([Entry(each.real, each.old, each.new, Path(each.temporary)) for each in staged])


def _stage(path: Path, old: bytes, new: bytes) -> _Staged:
    real = path.resolve(strict=True)
    status = real.stat()
    if not status.st_mode & 0o222 or not os.access(real, os.W_OK):  # a rename would go through all the same
        raise PermissionError(errno.EACCES, "is read-only")
    prefix = f".{real.name}{_MARK}"
    sweep(real.parent, prefix)
    handle, temporary = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=real.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(new)
            file.flush()
            os.fsync(handle)
        _dress(temporary, status)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return _Staged(path, real, temporary, old, new)


def sweep(folder: Path, prefix: str) -> None:
    """Remove what a run that was killed has left in a folder; what is young may be another run's."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.startswith(prefix) and entry.stat(follow_symlinks=False).st_mtime < time.time() - _YOUNG:
                Path(entry.path).unlink(missing_ok=True)


def put(path: Path, data: bytes) -> None:
    """Write a file that need not be there yet, in one step; what is no regular file, such as a pipe, is written to."""
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()  # with the mode that the user's umask gives to new files
    write(path, path.read_bytes(), data)


def _dress(temporary: str, status: os.stat_result) -> None:
    if hasattr(os, "chown"):
        with suppress(OSError):  # only root may give files away
            os.chown(temporary, status.st_uid, status.st_gid)
    Path(temporary).chmod(stat.S_IMODE(status.st_mode))


def sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; not every system lets a folder be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
