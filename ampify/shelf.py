"""The files of a run: each is read once, screened by its bytes, and kept only if it is to be looked at."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ampify.source import files
from ampify.source.document import Document, Undecodable
from ampify.source.formats import decode
from ampify.source.ignores import skips_file
from ampify.source.needles import Screen

_Test = Callable[[Path, bytes], bool]

if TYPE_CHECKING:
    from ampify.model.summary import FileSummary

_ACTS = Screen([(("backward(",), ("zero_grad(",), (".step()",), (".step(", "caler|CALER"))])
"""What training does: a step without arguments, or one of a scaler, of which there is one by name."""
_GRADIENTS = Screen([(("backward(",), ("zero_grad(",))])
_REMEMBERED = 256
_WORD = re.compile(rb"[^\s.,;()#\\]+")


class Shelf:
    """``matters`` tells of the bytes of a file whether it is to be looked at, ``fits`` that they are not too many."""

    def __init__(self, found: Sequence[Path], matters: _Test, fits: _Test) -> None:
        self.found, self.fits = found, fits
        self._kept: dict[Path, bytes | OSError] = {}
        self._early: list[Path] = []
        """Python files read before the first one that uses a library of ours: what they do need not be known."""
        self._late: list[Path] = []
        self._uses = False
        for path in found:
            try:
                with open(path, "rb") as file:  # noqa: PTH123 - half the time of `read_bytes`
                    raw = file.read()
            except OSError as error:
                self._kept[path] = error
                continue
            if files.matters(raw):
                self._uses = True
                if matters(path, raw):
                    self._kept[path] = raw
            if not self._uses:
                self._early.append(path)
            elif _acts(path, raw):
                self._late.append(path)

    def holds(self, path: Path) -> bool:
        """Whether a file is to be looked at, or could not be read."""
        return path in self._kept

    def held(self, path: Path) -> bytes | OSError | None:
        """The bytes of a file that is to be looked at, or why it could not be read."""
        return self._kept.get(path)

    def raw(self, path: Path) -> bytes:
        """The bytes of a file as they were when it was read first; raises `OSError`."""
        kept = self._kept.get(path)
        if isinstance(kept, OSError):
            raise kept
        return path.read_bytes() if kept is None else kept

    @property
    def acts(self) -> bool:
        """Whether a training step may begin in any Python file."""
        return any(_GRADIENTS.may_find(self.raw(path)) for path in self._acting)

    @cached_property
    def _acting(self) -> list[Path]:
        """The Python files that do what training does; none in a tree without a library of ours."""
        return [*(path for path in self._early if self._uses and _acts(path, self.raw(path))), *self._late]

    @cached_property
    def code(self) -> Modules:
        """The Python files."""
        return Modules(self, [path for path in self.found if path.suffix == ".py"], self._acting)


def _acts(path: Path, raw: bytes) -> bool:
    return path.suffix == ".py" and _ACTS.may_find(raw)


class Modules:
    """The Python files of a shelf, as `model.project` wants them: none is parsed that no training step leads to."""

    def __init__(self, shelf: Shelf, found: Sequence[Path], acting: Sequence[Path]) -> None:
        self._shelf, self._found = shelf, found
        self.paths = [str(path.absolute()) for path in found]
        self._acting = {*acting}
        self._documents: dict[int, Document | None] = {}
        self._imported: dict[int, tuple[Sequence[tuple[str, str]], Sequence[str]]] = {}
        self._bytes = lru_cache(_REMEMBERED)(self._read)

    def document(self, path: str) -> Document:
        """The file at an absolute path, which has a summary."""
        document = self._document(self._index[path])
        assert document is not None
        return document

    def summary(self, index: int) -> FileSummary | None:
        from ampify.model.summary import summarize

        document = self._document(index)
        return None if document is None else summarize(self.paths[index], document.parts[0].text)

    def size(self, index: int) -> int:
        return len(self._bytes(index))

    def acting(self) -> Iterable[int]:
        return [index for index, path in enumerate(self._found) if path in self._acting]

    def imported(self, index: int) -> tuple[Sequence[tuple[str, str]], Sequence[str]]:
        from ampify.model.summary import imported

        if index not in self._imported:
            statements = [each.strip() for each in _statements(self._bytes(index))]
            self._imported[index] = imported(each for each in statements if each.startswith((b"from", b"import")))
        return self._imported[index]

    def imports(self, index: int, name: str) -> bool:
        words = self._imports.of[index]
        return name.encode() in words or (b"*" in words and not name.startswith("_"))

    def importing(self, index: int, names: Collection[str] | None) -> Iterable[int]:
        path = self._found[index].absolute()
        package = path.name == "__init__.py"
        stem = path.parent.name if package else path.stem
        found = {*self._imports.words[stem.encode()]}
        for folder in path.parents:
            whole = self._imports.whole[folder.name.encode()] if folder.name else ()
            found |= {each for each in whole if stem.encode() in self._bytes(each)}
        if package:
            found |= {each for each in self._imports.bare if path.parent in self._found[each].absolute().parents}
        wanted = None if names is None or "" in names else [name.encode() for name in names]
        for each in sorted(found - {index}):
            raw = self._bytes(each)
            if wanted is None or b"import *" in raw or any(name in raw for name in wanted):
                yield each

    @cached_property
    def _index(self) -> dict[str, int]:
        return {path: index for index, path in enumerate(self.paths)}

    @cached_property
    def _imports(self) -> _Imports:
        return _Imports(self._found, self._bytes)

    def _read(self, index: int) -> bytes:
        try:
            return self._shelf.raw(self._found[index])
        except OSError:  # told when it is visited
            return b""

    def _document(self, index: int) -> Document | None:
        if index not in self._documents:
            self._documents[index] = self._decoded(self._found[index], self._bytes(index))
        return self._documents[index]

    def _decoded(self, path: Path, raw: bytes) -> Document | None:
        """None for what is left alone; why is told when it is visited."""
        try:
            document = decode(path, raw) if self._shelf.fits(path, raw) else None
        except Undecodable:
            return None
        return None if document is None or skips_file(document.parts[0].text) else document


class _Imports:
    """Which files name which modules in imports: ``words`` by any word, ``whole`` by those of ``import a.b``, and
    ``bare`` those with ``from . import``."""

    def __init__(self, found: Sequence[Path], read: Callable[[int], bytes]) -> None:
        stems = {part.encode() for path in found for part in (path.stem, *path.absolute().parent.parts)}
        self.words: dict[bytes, set[int]] = defaultdict(set)
        self.whole: dict[bytes, set[int]] = defaultdict(set)
        self.bare: set[int] = set()
        self.of: list[frozenset[bytes]] = []
        """The words of all imports, by file."""
        known: dict[bytes, bytes] = {}
        for index in range(len(found)):
            statements = [_WORD.findall(statement) for statement in _statements(read(index))]
            self.of.append(frozenset(known.setdefault(word, word) for words in statements for word in words))
            for words in statements:
                for word in stems.intersection(words):
                    self.words[word].add(index)
                    if b"from" not in words:
                        self.whole[word].add(index)
                if b"from" in words and words[words.index(b"from") + 1 :][:1] == [b"import"]:
                    self.bare.add(index)


def _statements(raw: bytes) -> Iterator[bytes]:
    """The import statements of a file, and whatever else has that word in it."""
    end = 0
    while (at := raw.find(b"import", end)) >= 0:
        start, end = raw.rfind(b"\n", 0, at) + 1, raw.find(b"\n", at)
        while end >= 0 and raw[start:end].rstrip().endswith(b"\\"):
            end = raw.find(b"\n", end + 1)
        if b"(" in raw[at : end if end >= 0 else len(raw)]:
            end = max(raw.find(b")", at), end)
        end = end if end >= 0 else len(raw)
        yield raw[start:end]
