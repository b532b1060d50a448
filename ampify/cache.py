"""What runs have found, unit by unit, kept as long as what they depend on. One file in JSON: a cache may come from a
stranger, and must not be able to do more than to be wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ampify import __version__, rows
from ampify.config import Settings
from ampify.inspection import FileReport
from ampify.source import importers
from ampify.source.asked import still_holds
from ampify.source.document import Part
from ampify.source.files import sweep
from ampify.unit import Outcome, Result, Unit

FOLDER = ".ampify_cache"
_FILE = "runs.json"
_RUNS = 16
"""Runs with different paths or options that are remembered."""
_TICK = 20_000_000
"""Nanoseconds in which two writes can give a file the same time."""
_CONFIGURES = ("ampify.toml", "pyproject.toml", "ruff.toml", ".ruff.toml", "setup.cfg")
_PINS = (("requirements", ".txt"), ("environment", ".yml"), ("environment", ".yaml"))

_BROKEN = (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError)
"""What comes of a cache that ampify has not written, or of files that cannot be read."""

Stamp = list[int]
"""When a file was written, when it was changed otherwise, how large it is."""


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache in ``folder``; ``options`` are what a run was asked besides its paths."""

    folder: Path
    options: object
    configs: Callable[[Path], Iterable[Path]] = lambda _: ()
    """The files that configure a file or folder."""

    def memory(self, paths: Sequence[Path], found: Sequence[Path]) -> Memory:
        """What is kept of runs on these paths, which lead to the files ``found``; to be asked before these are read."""
        asked = [os.getcwd(), [str(path) for path in paths], self.options]  # noqa: PTH109
        return Memory(self, _digest(asked), found, self.load(), _stamps(found), time.time_ns())

    def load(self) -> _Kept:
        """All that is kept; nothing if that is not what ampify has written."""
        try:
            raw = (self.folder / _FILE).read_bytes()
            head, _, body = raw.partition(b"\n")
            kept = json.loads(body) if head.decode() == _head(body) else None
        except (OSError, ValueError, RecursionError):
            kept = None
        return kept if isinstance(kept, dict) else {"runs": {}, "units": {}}

    def keep(self, key: str, run: Any, units: Mapping[str, Any]) -> None:
        """Remember a run beside those that other processes may have written meanwhile."""
        kept = self.load()
        with suppress(*_BROKEN):
            runs = dict([*((k, each) for k, each in kept["runs"].items() if k != key), (key, run)][-_RUNS:])
            wanted = {unit for each in runs.values() for unit in each["units"]}
            every = {**kept["units"], **units}
            self._write({"runs": runs, "units": {unit: every[unit] for unit in wanted if unit in every}})

    def _write(self, kept: _Kept) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        ignore = self.folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("# Written by ampify.\n*\n", "utf-8")
        body = json.dumps(kept).encode()
        sweep(self.folder, _FILE + "_")
        handle, temporary = tempfile.mkstemp(prefix=_FILE + "_", suffix=".tmp", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_head(body).encode() + b"\n" + body)
            os.replace(temporary, self.folder / _FILE)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


_Kept = dict[str, dict[str, Any]]
"""``runs`` by what they were asked, and the ``units`` they consist of by what is in them."""


@dataclass(slots=True)
class Memory:
    """What is remembered, and noted, of one run. Its files are known by their stamps; if any has changed, units are
    known by what is in their files, and by what they have asked about others."""

    cache: Cache
    key: str
    found: Sequence[Path]
    kept: _Kept
    stamps: dict[str, Stamp | None]
    began: int
    """Nanoseconds."""
    units: dict[str, Any] = field(default_factory=dict)
    whole: bool = True
    """Whether all units could be noted."""

    def run(self) -> list[FileReport] | None:
        """What was reported; None if there was no such run, or if anything has changed since."""
        try:
            run = self.kept["runs"][self.key]
            units = [self.kept["units"][key] for key in run["units"]]
            if run["files"] != self.stamps or run["around"] != self._around(units):
                return None
            return [rows.report(row, self._parts(row[0])) for unit in units for row in unit["reports"]]
        except _BROKEN:
            return None

    def _parts(self, path: str) -> tuple[Part, ...]:
        if path not in self.stamps:
            raise ValueError(f"{path} is not a file of this run")
        return rows.parts(Path(path))

    def result(self, unit: Unit, settings: Callable[[Path], Settings]) -> Result | None:
        """What came of a unit with just this in its files, if all that it asked has the same answer still."""
        key = _unit_key(unit, settings)
        try:
            kept = self.kept["units"][key]
            asked = tuple((name, tuple(given), answer) for name, given, answer in kept["asked"])
            if not all(map(still_holds, asked)):
                return None
            told = [rows.report(row, unit.parts(row[0])) for row in kept["reports"]]
        except _BROKEN:
            return None
        return Result((Outcome(unit.paths[0], b"", b"", tuple(told)),), asked=asked)

    def note(self, unit: Unit, settings: Callable[[Path], Settings], result: Result) -> None:
        """Have a unit remembered, unless something of it went wrong or cannot be."""
        told = [rows.row(report, unit.parts(report.path)) for report in result.reports]
        if result.errors or None in told:
            self.whole = False
        else:
            self.units[_unit_key(unit, settings)] = {"asked": result.asked, "reports": told}

    def keep(self) -> None:
        """Remember what was noted."""
        around = self._around(self.units.values())
        known = self.whole and not self._is_fresh(self.stamps) and not self._is_fresh(around["stamps"])
        run = {"files": self.stamps if known else None, "around": around, "units": [*self.units]}
        self.cache.keep(self.key, run, self.units)

    def _around(self, units: Iterable[Any]) -> Any:
        """The state of what configures the files, and of what has been asked; searched projects are known by stamps."""
        asked = [question for unit in units for question in unit["asked"]]
        searched = {
            importers.consulted(Path(given[0]["path"])) for name, given, _ in asked if name in importers.SEARCHES
        }
        first = {path.parent: path for path in self.found}
        stamps = _around(self.found, searched) | _stamps(f for path in first.values() for f in self.cache.configs(path))
        return {"stamps": stamps, "holds": [still_holds(each) for each in asked if each[0] not in importers.SEARCHES]}

    def _is_fresh(self, stamps: dict[str, Stamp | None]) -> bool:
        """Whether a file may have been written once more after it was read without a change of its time."""
        newest = max((max(stamp[:2]) for stamp in stamps.values() if stamp is not None), default=0)
        return newest > self.began - _TICK


def home(start: Path) -> Path | None:
    """Where the cache of a project is: beside its configuration or repository, else in ``start``; never at home."""
    start = start.absolute()
    marks = (".git", "ampify.toml", "pyproject.toml")
    root = next((f for f in (start, *start.parents) if any((f / mark).exists() for mark in marks)), start)
    return None if root in (Path.home(), Path(root.anchor)) else root / FOLDER


def clean(folder: Path) -> bool:
    """Remove a cache; whether there was one. A folder that ampify has not made is left alone."""
    if not (folder / _FILE).is_file():
        return False
    shutil.rmtree(folder) if folder.name == FOLDER else (folder / _FILE).unlink()
    return True


# ---------------------------------------------------------------------- what a run depends on


def _head(body: bytes) -> str:
    """Of which program a cache is, and that it is whole."""
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    return f"ampify {__version__} {sys.hexversion:x} {_program()} {digest}"


def _program() -> str:
    """The state of ampify itself, which changes in a checkout without its version."""
    home = Path(__file__).parent
    folders = [home, home.parent / "rules"] if (home.parent / "rules").is_dir() else []
    newest = [stamp for folder in folders for stamp in _stamps(sorted(folder.rglob("*.[pt][yo]*"))).values()]
    return hashlib.blake2b(json.dumps(newest).encode(), digest_size=8).hexdigest()


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size]


def _stamps(found: Iterable[Path]) -> dict[str, Stamp | None]:
    return {(name := str(path)): _stamp(name) for path in found}


def _around(found: Sequence[Path], projects: Iterable[Path]) -> dict[str, Stamp | None]:
    """The state of what configures the files of a run, and of the projects that were searched."""
    folders = {parent for path in {os.path.dirname(os.path.abspath(p)) for p in found} for parent in _parents(path)}  # noqa: PTH120, PTH100
    stamps = {name: _stamp(name) for folder in sorted(folders) for name in _configuring(folder)}
    for folder in sorted(projects):
        stamps |= _stamps(importers.code_files(folder))
    return stamps


def _parents(folder: str) -> Iterator[str]:
    while True:
        yield folder
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder:
            return
        folder = above


def _configuring(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
    pins = (n for n in names if any(n.startswith(head) and n.endswith(tail) for head, tail in _PINS))
    return [f"{folder}/{name}" for name in sorted((*pins, *(n for n in names if n in _CONFIGURES)))]


def _unit_key(unit: Unit, settings: Callable[[Path], Settings]) -> str:
    """What a result depends on beside the answers to its questions."""
    raws = [_digest(raw) if isinstance(raw, bytes) else None for raw in unit.raws]
    documents = (*unit.group.documents, *unit.group.around) if unit.group else ()
    texts = [(str(document.path), document.parts[0].text) for document in documents]
    said = [repr(settings(path)) for path in unit.paths]
    return _digest([os.getcwd(), [str(path) for path in unit.paths], raws, texts, said])  # noqa: PTH109


def _digest(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value, default=str).encode()
    return hashlib.blake2b(raw, digest_size=16).hexdigest()
