"""Which files to look at, and which cannot matter: on plain strings, and with the cheapest imports.

Every run begins here; `typing` or `pathlib` alone would double the start of Python.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as of `typing`
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Failed = Callable[[OSError], None]
    Decides = Callable[[str], bool | None]
    """Whether a path (of a folder: with a slash at its end) is ignored; None where no pattern says."""

LARGEST = 2_000_000
"""Bytes of code; parsing costs 94 bytes of memory a byte with `ast`, several times that with LibCST."""
LARGEST_NOTEBOOK = 100_000_000
"""Bytes, most of which are the images among the outputs."""

JOURNAL = ".ampify-journal"
"""What a run notes down that replaces several files."""
SUFFIXES = (".py", ".pyi", ".ipynb", ".md")

_NEEDLES = (b"torch", b"apex", b"deepspeed", b"fastai", b"fairseq")
"""Searched by `in` on bytes, which is 11 times faster than one regular expression."""
_ENGLISH = (b"accelerate", b"transformers", b"lightning")
"""Words of any prose as well: they count where they are imported, quoted, or part of a longer name."""
_NAMED = (b"import", b"from", b",", b".", b"(", b"_", b"\\", b"'", b'"')
_SKIPPED = frozenset({
    ".eggs", ".git", ".hg", ".ipynb_checkpoints", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".svn", ".tox",
    ".venv", "__pycache__", "__pypackages__", "node_modules", "site-packages",
})  # fmt: skip


def find(paths: Iterable[str], failed: Failed) -> Iterator[str]:
    """The files to look at, each once: those named, and those git does not ignore in the folders named."""
    seen: set[str] = set()
    for path in paths:
        for file, real in _walk(path, failed) if os.path.isdir(path) else ((path, os.path.realpath(path)),):
            if real not in seen:
                seen.add(real)
                yield file


def journals(found: Iterable[str]) -> list[str]:
    """The folders, above or beside the files found, that hold a journal of a run that is writing or was killed."""
    folders, here = set[str](), os.getcwd()
    for file in found:
        folder = os.path.dirname(os.path.join(here, file))
        while folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)
    return [each for each in sorted(folders) if os.path.lexists(f"{each}/{JOURNAL}")]


def matters(raw: bytes) -> bool:
    """Whether a file with these bytes can have anything to do with mixed precision."""
    return any(needle in raw for needle in _NEEDLES) or any(_names(raw, word) for word in _ENGLISH)


def _names(raw: bytes, word: bytes) -> bool:
    at = raw.find(word)
    while at >= 0:
        behind = raw[at + len(word) : at + len(word) + 1]
        if not behind.isalpha() and raw[max(at - 20, 0) : at].rstrip().endswith(_NAMED):
            return True
        at = raw.find(word, at + 1)
    return False


def _walk(root: str, failed: Failed) -> Iterator[tuple[str, str]]:
    """Files with their real paths; files first, then folders, both by name. Links to folders are not followed, so there
    are no loops; nor are links to files outside of ``root``: whoever wrote the tree does not say what else is read and
    written. A folder that turns out to be a virtual environment is left alone, unless it was named."""
    real = os.path.realpath(root)
    stack = [(root, real, _outer(real))]
    while stack:
        folder, place, ignores = stack.pop()
        try:
            entries = {entry.name: entry for entry in os.scandir(folder)}
        except OSError as error:
            failed(error)
            continue
        if "pyvenv.cfg" in entries and place != real:
            continue
        if ".gitignore" in entries:
            ignores = (*ignores, *_ignores(place, ".gitignore"))
        folders, prefix = [], f"{place.rstrip('/')}/"
        for name in sorted(entries):
            path, entry = prefix + name, entries[name]
            if entry.is_dir(follow_symlinks=False):
                if name not in _SKIPPED and not _ignored(f"{path}/", ignores):
                    folders.append((entry.path, path, ignores))
            elif name.endswith(SUFFIXES) and _inside(entry, real) and not _ignored(path, ignores):
                yield entry.path, os.path.realpath(path) if entry.is_symlink() else path
        stack += reversed(folders)


def _inside(entry: os.DirEntry[str], root: str) -> bool:
    """Whether it is a file of the tree, be it through a link."""
    below = f"{root.rstrip('/')}/"
    return entry.is_file() and (not entry.is_symlink() or os.path.realpath(entry.path).startswith(below))


def above(folder: str) -> Iterator[str]:
    """A folder, given by its absolute path, and those above it."""
    yield folder
    while (outer := os.path.dirname(folder)) != folder:
        yield (folder := outer)


def _outer(root: str) -> tuple[Decides, ...]:
    """The ignore files above ``root`` up to the root of its repository; none where they ignore ``root`` itself."""
    found: tuple[Decides, ...] = ()
    for folder in above(root):
        if folder != root:
            found = (*_ignores(folder, ".gitignore"), *found)
        if os.path.exists(f"{folder}/.git"):
            found = (*_ignores(folder, ".git/info/exclude"), *found)
            return () if _ignored(f"{root}/", found) else found
    return ()


def _ignores(folder: str, name: str) -> Iterator[Decides]:
    """What one file of ignore patterns says; they are relative to its folder."""
    try:
        with open(f"{folder}/{name}", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(lines)
    yield lambda path: spec.check_file(path[len(folder) :].lstrip("/")).include


def _ignored(path: str, ignores: tuple[Decides, ...]) -> bool:
    """As git has it: the innermost ignore file that says anything decides."""
    for decides in reversed(ignores):
        if (decision := decides(path)) is not None:
            return decision
    return False
