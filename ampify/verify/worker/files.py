"""Leads `open`, the functions of `os` and `torch.save` to the mirror, whatever name a module has for them."""

from __future__ import annotations

import builtins
import functools
import glob
import io
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any, Callable

from .scratch import NAMES, Mirror, disk

_READERS = ("access", "getxattr", "listxattr", "lstat", "pathconf", "stat", "statvfs")
_CHANGERS = ("chmod", "chown", "lchown", "removexattr", "setxattr", "truncate", "utime")
_MAKERS = ("mkdir", "mkfifo", "mknod")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_AT = ("dir_fd", "src_dir_fd", "dst_dir_fd")
_OF_TWO = (disk.link, disk.rename, disk.replace, disk.symlink)
_DEEP = (glob, pathlib)
"""Modules whose classes hold some of the functions."""


class Entry(os.PathLike):  # type: ignore[type-arg]  # Python 3.9
    """An `os.DirEntry` whose path is the one that the script knows."""

    def __init__(self, entry: os.DirEntry[str], folder: str) -> None:
        self._entry, self.path = entry, os.path.join(folder, entry.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self._entry.name!r}>"


class Entries:
    """What `os.scandir` gives."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Entry]:
        return self._entries

    def __next__(self) -> Entry:
        return next(self._entries)

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


class Files:
    """The functions that stand in for those of `os`, and for `open`."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self.functions: dict[str, Callable[..., Any]] = {
            **{name: self._reader(getattr(disk, name)) for name in _READERS if name in NAMES},
            **{name: self._changer(getattr(disk, name)) for name in _CHANGERS if name in NAMES},
            **{name: self._maker(getattr(disk, name)) for name in _MAKERS if name in NAMES},
            **{name: self._remover(getattr(disk, name)) for name in ("remove", "unlink", "rmdir")},
            "rename": mirror.moving, "replace": mirror.moving, "link": self._link, "symlink": self._symlink,
            "readlink": self._readlink, "chdir": self._chdir, "getcwd": mirror.cwd, "open": self._open,
            "getcwdb": lambda: os.fsencode(mirror.cwd()), "listdir": self._listdir, "scandir": self._scandir,
        }  # fmt: skip

    def file(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """`open`."""
        if "x" in mode:
            place = self._mirror.making(file)
        elif any(each in mode for each in "wa+"):
            place = self._mirror.writing(file, fresh="w" in mode)
        else:
            place = self._mirror.reading(file)
        return disk.file(place, mode, *args, **kwargs)

    def _open(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT and flags & os.O_EXCL:
            place = self._mirror.making(path)
        elif flags & _WRITES:
            place = self._mirror.writing(path, fresh=bool(flags & os.O_TRUNC))
        else:
            place = self._mirror.reading(path)
        number: int = disk.open(place, flags, *args, **kwargs)
        return number

    def _reader(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path, *args, **kwargs: real(self._mirror.reading(path), *args, **kwargs)

    def _changer(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(path: Any, *args: Any, **kwargs: Any) -> Any:
            disk.lstat(self._mirror.reading(path))  # not there: that error
            return real(self._mirror.writing(path), *args, **kwargs)

        return change

    def _maker(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path, *args, **kwargs: real(self._mirror.making(path), *args, **kwargs)

    def _remover(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path: self._mirror.removing(path, real)

    def _link(self, src: Any, dst: Any, **_: Any) -> None:
        """To a copy in the mirror: writing to a link of a file on the disk would change that file."""
        disk.lstat(self._mirror.reading(src))  # not there: that error
        disk.link(self._mirror.writing(src), self._mirror.making(dst))

    def _symlink(self, src: Any, dst: Any, *args: Any, **kwargs: Any) -> None:
        place = self._mirror.making(dst)
        disk.symlink(self._mirror.link_target(os.fsdecode(src), dst), place, *args, **kwargs)

    def _readlink(self, path: Any) -> Any:
        target = disk.readlink(self._mirror.reading(path))
        return self._mirror.shown(target) if isinstance(target, str) else target

    def _chdir(self, path: Any) -> None:
        disk.chdir(self._mirror.standing(path))

    def _listdir(self, path: Any = ".") -> Any:
        own = self._mirror.merged(path)
        if own is None:
            return disk.listdir(self._mirror.reading(path))
        names = list(self._mirror.names(own))
        return [os.fsencode(name) for name in names] if isinstance(path, bytes) else names

    def _scandir(self, path: Any = ".") -> Any:
        own = self._mirror.merged(path)
        if own is None or isinstance(path, bytes):
            return disk.scandir(self._mirror.reading(path))
        names = self._mirror.names(own)
        entries = {folder: {each.name: each for each in disk.scandir(folder)} for folder in set(names.values())}
        return Entries([Entry(entries[folder][name], os.fspath(path)) for name, folder in names.items()])


def install(mirror: Mirror) -> None:
    """From now on the script writes to the mirror."""
    files = Files(mirror)
    stand_ins = {id(disk.file): _as(disk.file, files.file)}
    for name, function in files.functions.items():
        stand_ins[id(getattr(disk, name))] = _as(getattr(disk, name), function)
        setattr(os, name, stand_ins[id(getattr(disk, name))])
    builtins.open = io.open = stand_ins[id(disk.file)]
    for owner, name, held in captures():
        stand_in = stand_ins[id(held)]
        setattr(owner, name, staticmethod(stand_in) if isinstance(owner, type) else stand_in)
    for functions in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        functions.update(stand_ins[id(each)] for each in list(functions) if id(each) in stand_ins)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # by open folders it would walk the disk alone


def install_torch(mirror: Mirror, torch: Any) -> None:
    """The same for what torch writes and reads without `open`."""

    def around(owner: Any, name: str, number: int, place: Callable[[Any], Any]) -> None:
        real = getattr(owner, name)

        @functools.wraps(real)
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(args) > number and isinstance(args[number], (str, os.PathLike)):
                args = (*args[:number], place(args[number]), *args[number + 1 :])
            elif isinstance(kwargs.get("f"), (str, os.PathLike)):
                kwargs["f"] = place(kwargs["f"])
            return real(*args, **kwargs)

        setattr(owner, name, call)

    around(torch, "save", 1, functools.partial(mirror.writing, fresh=True))
    around(torch, "load", 0, mirror.reading)
    around(torch.jit, "save", 1, functools.partial(mirror.writing, fresh=True))
    around(torch.jit, "load", 0, mirror.reading)


@functools.cache
def captures() -> tuple[tuple[Any, str, Any], ...]:
    """Owner, name and function, where modules hold them under names of their own (`from builtins import open`)."""
    wanted = {id(each): each for name, each in vars(disk).items() if name != "code"}
    found = []
    for name, module in list(sys.modules.items()):
        if name in ("os", os.name, "builtins", "io", "_io", "_pyio") or name.startswith(__package__):
            continue
        classes = [each for each in vars(module).values() if isinstance(each, type)] if module in _DEEP else ()
        for owner in (module, *classes):
            for attribute, value in list(getattr(owner, "__dict__", {}).items()):
                held = value.__func__ if type(value) is staticmethod else value
                if id(held) in wanted:
                    found.append((owner, attribute, held))
    return tuple(found)


def _as(real: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` under the name of ``real``, which does what is relative to open folders; errors name the given."""

    @functools.wraps(real)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(kwargs.get(name) is not None for name in _AT):
            return real(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except OSError as error:
            given = (*args, *kwargs.values(), ".", ".")
            error.filename = given[0]
            error.filename2 = given[1] if real in _OF_TWO else None
            raise

    return call
