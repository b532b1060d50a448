"""What the script writes goes to a scratch folder, and is found there when it is read: nothing on the disk changes.

Below `files` lies what was written, under its own absolute path; below `gone` a mark for each file or folder that was
removed. Both are looked at anew for each call, so that processes which the script forks see the same.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import shutil
import stat
from types import SimpleNamespace
from typing import Any, Callable

_MARK = ".gone"
_EXEMPT = ("/dev/", "/proc/", "/sys/")
NAMES = tuple(
    name
    for name in (
        "access", "chdir", "chmod", "chown", "getcwd", "getcwdb", "getxattr", "lchown", "link", "listdir", "listxattr",
        "lstat", "mkdir", "mkfifo", "mknod", "open", "pathconf", "readlink", "remove", "removexattr", "rename",
        "replace", "rmdir", "scandir", "setxattr", "stat", "statvfs", "symlink", "truncate", "unlink", "utime",
    )
    if hasattr(os, name)
)  # fmt: skip
disk = SimpleNamespace(**{name: getattr(os, name) for name in NAMES}, file=open, code=io.open_code)
"""The functions of `os`, and `open`, as they were."""


def resolve(path: str) -> str:
    """An absolute path without links."""
    parent, name = os.path.split(path)
    if not name:
        return path
    here = os.path.join(resolve(parent), name)
    try:
        target = disk.readlink(here)
    except OSError:
        return here
    return resolve(os.path.normpath(os.path.join(os.path.dirname(here), target)))


class Mirror:
    """The file system as the script sees it; paths are taken as `os` takes them, errors are those of `os`."""

    def __init__(self, out: str) -> None:
        self.out = os.path.join(resolve(os.path.abspath(out)), "")
        self._files, self._gone = self.out + "files", self.out + "gone"
        self._folder = functools.lru_cache(maxsize=None)(resolve)

    def ours(self, path: Any) -> str | None:
        """The absolute path; None for what is not mirrored: open files, devices, the arm's own folder."""
        if isinstance(path, int):
            return None
        path = os.fsdecode(path)
        if not path or "\0" in path:  # the error is that of `os`
            return None
        path = path if os.path.isabs(path) else os.path.join(self.cwd(), path)
        folder, name = os.path.split(os.path.normpath(path))
        path = os.path.join(self._folder(folder), name)
        return None if path.startswith((self.out, *_EXEMPT)) else path

    def cwd(self) -> str:
        """The folder that the script believes to be in."""
        return self.shown(disk.getcwd())

    def shown(self, path: str) -> str:
        """A path of the mirror as the script knows it."""
        return path[len(self._files) :] or "/" if path.startswith(self._files + "/") else path

    def reading(self, path: Any) -> Any:
        """Where to read what the script calls ``path``."""
        own = self.ours(path)
        if own is None:
            return path
        if _there(self._files + own) or self._removed(own):
            return self._files + own
        return own if disk.getcwd().startswith(self._files) else path

    def writing(self, path: Any, *, fresh: bool = False) -> Any:
        """Where to write it, with its content unless ``fresh``; raises FileNotFoundError without a folder."""
        own = self.ours(path)
        if own is None:
            return path
        self._make_folder(own)
        folder = _is_folder(self.reading(own))
        if folder:
            os.makedirs(self._files + own, exist_ok=True)
        elif folder is False and not fresh and not _there(self._files + own):
            shutil.copyfile(own, self._files + own)
        end = resolve(self._files + own)
        return end if end.startswith(self.out) else self.writing(end, fresh=fresh)

    def making(self, path: Any) -> Any:
        """Where to make what must not be there yet; raises FileExistsError."""
        own = self.ours(path)
        if own is not None and _there(self.reading(own)):
            raise _error(errno.EEXIST, path)
        return path if own is None else self._make_folder(own)

    def removing(self, path: Any, remove: Callable[[Any], None]) -> None:
        """Remove what was written, and mark as gone what is on the disk."""
        own = self.ours(path)
        if own is None:
            return remove(path)
        place, folders = self.reading(own), remove is disk.rmdir
        is_folder = stat.S_ISDIR(disk.lstat(place).st_mode)
        if is_folder is not folders:
            raise _error(errno.ENOTDIR if folders else errno.EISDIR, path)
        if is_folder and self.names(own):
            raise _error(errno.ENOTEMPTY, path)
        if place != own:
            remove(place)
        self._mark(own)
        return None

    def moving(self, src: Any, dst: Any) -> None:
        """Rename; what only the disk has is copied first, folders with all that is in them."""
        old, new = self.ours(src), self.ours(dst)
        if old is not None:
            src = self._own_copy(old)
        if new is not None:
            if _is_folder(self.reading(new)) and self.names(new):
                raise _error(errno.ENOTEMPTY, dst)
            dst = self._make_folder(new)
            self._mark(new)
        disk.replace(src, dst)
        if old is not None:
            self._mark(old)

    def standing(self, path: Any) -> Any:
        """Where to go: to the folder of the disk where it has one."""
        own = self.ours(path)
        if own is None:
            return path
        return own if _is_folder(own) and not self._removed(own) else self.reading(own)

    def names(self, path: str) -> dict[str, str]:
        """The entries of a folder, and the folder in which each lies."""
        place = self.reading(path)
        below = [path] if place == path or (_is_folder(path) and not self._removed(path)) else []
        found = {
            name: folder
            for folder in below
            for name in disk.listdir(folder)
            if not self._marked(os.path.join(folder, name))
        }
        if place != path:
            found.update(dict.fromkeys(disk.listdir(place), place))
        return found

    def merged(self, path: Any) -> str | None:
        """The absolute path of a folder whose entries are not just those on the disk."""
        own = self.ours(path)
        return own if own is not None and (_there(self._files + own) or _there(self._gone)) else None

    def link_target(self, target: str, at: str) -> str:
        """What a link at ``at`` must hold to lead to ``target``: the mirror unless the disk alone has it."""
        own = self.ours(os.path.join(os.path.dirname(self.ours(at) or at), target))
        if own is None:
            return target
        return own if _there(own) and not _there(self._files + own) and not self._removed(own) else self._files + own

    def _own_copy(self, own: str) -> str:
        """The mirrored file or folder, complete."""
        disk.lstat(self.reading(own))  # not there: that error
        copy = str(self.writing(own))
        if _is_folder(copy):
            for name in self.names(own):
                self._own_copy(os.path.join(own, name))
        return copy

    def _make_folder(self, own: str) -> str:
        """The place of a file in the mirror, whose folder must be there for the script."""
        folder = os.path.dirname(own)
        if not _is_folder(self.reading(folder)):
            raise _error(errno.ENOENT, own)
        os.makedirs(self._files + folder, exist_ok=True)
        return self._files + own

    def _mark(self, own: str) -> None:
        if _there(own):
            os.makedirs(self._gone + own, exist_ok=True)
            disk.file(os.path.join(self._gone + own, _MARK), "wb").close()

    def _marked(self, own: str) -> bool:
        return _there(os.path.join(self._gone + own, _MARK))

    def _removed(self, own: str) -> bool:
        """Whether the file, or a folder above it, was removed; what lies in the mirror is there all the same."""
        if not _there(self._gone):
            return False
        while not self._marked(own):
            own, name = os.path.split(own)
            if not name:
                return False
        return True


def _there(path: Any) -> bool:
    try:
        disk.lstat(path)
    except OSError:
        return False
    return True


def _is_folder(path: Any) -> bool | None:
    """None where there is nothing."""
    try:
        return stat.S_ISDIR(disk.stat(path).st_mode)
    except OSError:
        return None


def _error(code: int, path: Any) -> OSError:
    return OSError(code, os.strerror(code), path)
