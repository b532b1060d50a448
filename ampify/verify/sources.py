"""The two programs that are compared, as texts by file: found from the files that a run loads. Runs nothing."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from ampify import engine
from ampify.config import Settings
from ampify.diagnostic import Diagnostic
from ampify.offer import Offer
from ampify.rewrite.erase import EraseFailed, erase_text
from ampify.source.document import Undecodable
from ampify.source.files import matters
from ampify.source.ignores import skips_file
from ampify.source.python import PythonDocument, decode
from ampify.source.text import SEAM, SourceText
from ampify.together import gather
from ampify.verify.verdict import Mode, Place

_REASONS = ("AMP0", "AMP904")
"""Codes that tell why a step is not converted."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Reference and candidate: the files whose text differs from the disk. ``mode`` tells where they come from."""

    reference: Mapping[Path, str] = field(default_factory=dict)
    candidate: Mapping[Path, str] = field(default_factory=dict)
    mode: Mode = "given"

    @property
    def changed(self) -> dict[Path, tuple[range, ...]]:
        """The statements of the candidate that the reference does not have: the lines of each, by file."""
        pairs = {path: (_text(path, self.reference), _text(path, self.candidate)) for path in self._paths}
        found = {path: tuple(_new_statements(*pair)) for path, pair in pairs.items()}
        return {path: statements for path, statements in found.items() if statements}

    def place(self, side: Mapping[Path, str], path: str, line: int) -> Place:
        """A line of one side, with its text."""
        return Place(path, line, SourceText(_text(Path(path), side)).text_of_line(line).strip())

    @property
    def _paths(self) -> list[Path]:
        return sorted({*self.reference, *self.candidate})


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to compare: why, and where."""

    reason: str
    places: tuple[tuple[Place, str], ...] = ()


def find(
    loaded: Iterable[Path], settings: Callable[[Path], Settings], ask: Callable[[Offer], bool] | None = None
) -> Sources | Nothing:
    """What to compare: with AMP in the files, the program without it; without, what ``--fix`` makes of it.

    ``ask`` says which of the fixes are wanted, else all are.
    """
    texts, erased = dict(_read(sorted(set(loaded)))), dict[Path, str]()
    for group in gather([PythonDocument(path, text, "utf-8") for path, text in texts.items()]):
        try:
            paths = [str(path) for path in group.paths]
            whole = erase_text(group.text, paths=paths) if matters(group.text.encode()) else group.text
        except EraseFailed as error:
            return Nothing(f"AMP cannot be taken out of {', '.join(map(str, group.paths))}: {error}")
        erased.update(zip(group.paths, whole.split(SEAM), strict=True))
    if reference := {path: text for path, text in erased.items() if text != texts[path]}:
        return Sources(reference, {}, "audit")
    return _converted(texts, settings, ask)


def _converted(
    texts: Mapping[Path, str], settings: Callable[[Path], Settings], ask: Callable[[Offer], bool] | None
) -> Sources | Nothing:
    after, left = engine.fix_texts(texts, settings, ask)
    if candidate := {path: text for path, text in after.items() if text != texts[path]}:
        return Sources({}, candidate, "convert")
    refusals = tuple((_place(d, texts), f"{d.code}: {d.message}") for d in left if d.code.startswith(_REASONS))
    why = "no training step can be converted" if refusals else "there is no training step in the files it loads"
    return Nothing(f"There is no AMP in the files that the script loads, and {why}", refusals)


def _place(finding: Diagnostic, texts: Mapping[Path, str]) -> Place:
    source = SourceText(texts[Path(finding.path)])
    line = source.line(finding.span.start)
    return Place(finding.path, line, source.text_of_line(line).strip())


def _read(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The texts that ampify may touch."""
    for path in paths:
        try:
            raw = path.read_bytes()
            text = decode(path, raw).text
        except (OSError, Undecodable):
            continue
        if not skips_file(text):
            yield path, text


def _text(path: Path, side: Mapping[Path, str]) -> str:
    if path in side:
        return side[path]
    try:
        return decode(path, path.read_bytes()).text
    except (OSError, Undecodable):
        return ""


def _new_statements(before: str, after: str) -> Iterator[range]:
    """The heads of statements with a line that is new; a line that is only indented anew is not."""
    old, new = ([line.strip() for line in text.splitlines()] for text in (before, after))
    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    lines = {line + 1 for tag, _, _, start, end in codes if tag in ("insert", "replace") for line in range(start, end)}
    yield from (head for head in _heads(after) if not lines.isdisjoint(head))


def _heads(text: str) -> list[range]:
    """The lines of every statement that leaves a trace when it runs; of a compound one, those before its body."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of the compiler, such as invalid escapes
            tree = ast.parse(text)
    except SyntaxError:
        return []
    heads = [_head(node) for node in ast.walk(tree) if isinstance(node, ast.stmt) and _leaves_trace(node)]
    return sorted(heads, key=lambda head: (head.start, head.stop))


def _leaves_trace(node: ast.stmt) -> bool:
    match node:
        case ast.Global() | ast.Nonlocal() | ast.AnnAssign(value=None) | ast.Expr(value=ast.Constant()):
            return False
    return True


def _head(node: ast.stmt) -> range:
    decorators = [decorator.lineno for decorator in getattr(node, "decorator_list", ())]
    first = min([node.lineno, *decorators])
    inner = [child.lineno for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
    last = (node.end_lineno or node.lineno) if not inner else max(min(inner) - 1, node.lineno)
    return range(first, last + 1)
