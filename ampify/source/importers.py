"""Which other files of a project import a name from a file: their calls would miss a changed signature."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ampify.source.asked import question
from ampify.source.document import Undecodable
from ampify.source.files import LARGEST_NOTEBOOK
from ampify.source.formats import decode

_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg")
_CODE = (".py", ".ipynb")


@question
def importer_of(path: Path, names: Collection[str], known: Collection[Path]) -> Path | None:
    """A file of the project around ``path``, none of ``known``, that imports one of ``names``, or uses it through the
    module."""
    if not path.is_file():
        return None
    return next(_importers(path, names, known, _CODE), None)


@question
def caller_of(path: Path, name: str) -> Path | None:
    """A file of the project around ``path``, or a page of its documentation, that uses the function, or the class and
    its method, ``name`` of it, and does not just hand it on."""
    outside, _, method = name.partition(".")
    found = _importers(path, {outside}, (), (*_CODE, ".md"), method.encode()) if path.is_file() else iter(())
    return next((file for file in found if file.name != "__init__.py"), None)


def _importers(
    path: Path, names: Collection[str], known: Collection[Path], suffixes: tuple[str, ...], word: bytes = b""
) -> Iterator[Path]:
    stem = path.parent.name if path.stem == "__init__" else path.stem
    needles = [name.encode() for name in names]
    for other, raw in _sources(_project(path.resolve()), suffixes):
        if (
            other != path.resolve()
            and other not in known
            and stem.encode() in raw
            and word in raw
            and any(n in raw for n in needles)
            and _uses(raw, stem, names)
        ):
            yield other


@question
def project_file(path: Path, imported: str) -> Path | None:
    """The file of the project around ``path`` that the import path of a function leads to."""
    module, _, _ = imported.rpartition(".")
    if not module.strip(".") or not path.is_file():
        return None
    parts = module.strip(".").split(".")
    for folder in path.resolve().parents[:3]:
        for file in (folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py")):
            if file.is_file():
                return file
    return None


def _project(path: Path) -> Path:
    """The outermost folder around ``path`` that is marked as a project, else its own folder."""
    marked = [folder for folder in path.parents if any((folder / mark).exists() for mark in _MARKS)]
    return marked[0] if marked else path.parent


@question
def among_tests(path: Path) -> bool:
    """Whether a file lies in a folder ``test`` or ``tests`` of its project."""
    path = path.absolute()
    return not {"test", "tests"}.isdisjoint(path.relative_to(_project(path)).parts[:-1])


@question
def has_package(paths: Collection[str], name: str) -> bool:
    """Whether a package lies in the project of one of these files, beside it or above it."""
    folders = {folder for path in paths for folder in _folders(Path(path))}
    return any((folder / name / "__init__.py").is_file() for folder in folders)


def _folders(path: Path) -> Iterator[Path]:
    """The folders around a file, up to that of its project."""
    for folder in path.absolute().parents:
        yield folder
        if any((folder / mark).exists() for mark in (".git", "pyproject.toml", "setup.py")):
            return


SEARCHES = ("importer_of", "caller_of", "subclasser_of")
"""The questions that all files of a project are asked; the others only whether there are some files."""


def consulted(path: Path) -> Path:
    """The folder with the files that such a question about a file is answered from."""
    return _project(path.resolve())


def code_files(folder: Path, suffixes: Collection[str] = (*_CODE, ".md")) -> list[Path]:
    """The files of a project, by their suffixes."""
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes)


@cache
def _sources(folder: Path, suffixes: tuple[str, ...]) -> tuple[tuple[Path, bytes], ...]:
    """The code of the files of a project that import anything at all."""
    found = []
    for file in code_files(folder, suffixes):
        try:
            raw = _code(file)
        except (OSError, Undecodable):  # a file that nobody can read calls nothing
            continue
        if b"import" in raw and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            found.append((file, raw))
    return tuple(found)


def _code(file: Path) -> bytes:
    raw = file.read_bytes()
    if file.suffix == ".py" or len(raw) > LARGEST_NOTEBOOK:
        return raw
    return "\n".join(part.text for part in decode(file, raw).parts).encode()


@question
def subclasser_of(path: Path, names: Collection[str], known: Collection[Path]) -> Path | None:
    """A file of the project around ``path``, none of ``known``, that derives a class from one of ``names``."""
    if not path.is_file():
        return None
    for other, raw in _sources(_project(path.resolve()), _CODE):
        if (
            other != path.resolve()
            and other not in known
            and any(n.encode() in raw for n in names)
            and _derives(raw, names)
        ):
            return other
    return None


def _derives(raw: bytes, names: Collection[str]) -> bool:
    return not _said(raw).bases.isdisjoint(names)


def _uses(raw: bytes, stem: str, names: Collection[str]) -> bool:
    used = _said(raw).used.get(stem, frozenset())
    return "*" in used or not used.isdisjoint(names)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a file names of others: by the last word of a module what it uses of it (``*``: all), and base classes."""

    used: Mapping[str, AbstractSet[str]]
    bases: AbstractSet[str]


@cache
def _said(raw: bytes) -> _Said:
    try:
        nodes = [*ast.walk(ast.parse(raw))]
    except (SyntaxError, ValueError, RecursionError):
        return _Said({}, frozenset())
    modules: dict[str, set[str]] = {}
    for name, stem in (named for node in nodes for named in _modules(node)):
        modules.setdefault(name, set()).add(stem)
    used: dict[str, set[str]] = {}
    for node in nodes:
        match node:
            case ast.ImportFrom(module=module, names=names):
                used.setdefault((module or "").rpartition(".")[2], set()).update(alias.name for alias in names)
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name):
                for stem in modules.get(owner, ()):
                    used.setdefault(stem, set()).add(name)
    bases = (base for node in nodes if isinstance(node, ast.ClassDef) for base in node.bases)
    return _Said(used, {base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in bases})


def _modules(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that a statement imports modules under: ``import core.engine as e``, ``from core import engine``."""
    for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
        stem = alias.name.rpartition(".")[2]
        yield alias.asname or stem, stem
