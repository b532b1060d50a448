"""Modules and functions of libraries that do not work in half precision, by a table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

_KNOWN = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
_INERT: dict[str, list[str]] = _KNOWN.pop("inert")
_MULTIPLYING: dict[str, list[str]] = _KNOWN.pop("multiplying")
_SUMMING: dict[str, list[str]] = _KNOWN.pop("summing")
_POOLING: dict[str, list[str]] = _KNOWN.pop("pooling")


def hazard(paths: Iterable[str]) -> str | None:
    """Why a module must not run under autocast, given the import paths of its class."""
    for package, name in map(_class, paths):
        if (reason := _KNOWN.get(package, {}).get(name)) is not None:
            return f"`{name}` {reason}"
    return None


def sums(paths: Iterable[str]) -> str | None:
    """Why a module that adds up neighbours must not run under autocast."""
    for package, name in map(_class, paths):
        if name in _SUMMING.get(package, ()):
            return f"`{name}` sums over all neighbours undivided, and float16 ends at 65504 (AMP403)"
    return None


def multiplies(paths: Iterable[str]) -> str | None:
    """The class of a module that multiplies with the adjacency matrix that it is given, if one does."""
    return next((name for package, name in map(_class, paths) if name in _MULTIPLYING.get(package, ())), None)


def lowers_nothing(path: str) -> bool:
    """Whether a class is known to compute nothing that autocast runs in half precision."""
    package, name = _class(path)
    return name in _INERT.get(package, ())


def pools(path: str) -> bool:
    """Whether a function adds up any number of rows of its first argument, in the dtype that it has."""
    package, name = _class(path)
    return name in _POOLING.get(package, ())


def defined(file: str, name: str) -> Iterator[str]:
    """The import paths that a class may have whose definition is in sight: that library is looked at itself."""
    yield from (f"{folder}.{name}" for folder in PurePath(file).parts[:-1] if folder in _KNOWN)


def _class(path: str) -> tuple[str, str]:
    return path.partition(".")[0], path.rpartition(".")[2]
