"""IPython's own syntax in cells: masked as Python that says nothing, and taken back. Knows no notebook format.

A masked line keeps its place and its indentation. ``!pip install torch`` becomes a ``pass`` with the line in a comment;
``%time train(model)``, which runs Python, becomes that Python with the magic in a comment.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

_LINE = "#\uf8a8"
"""Begins a comment that holds a whole line."""
_PREFIX = "#\uf8a9"
"""Begins a comment that holds what stands before the code of its line."""
RESERVED = re.compile("[\uf8a7-\uf8aa]")
"""Characters of the private use area that a text of the user must not hold."""

_RUNNING = {"time", "timeit", "prun", "memit", "mprun", "lprun", "pyinstrument", "snakeviz", "heat"}
"""Line magics that are given Python to run."""
_PYTHON_CELLS = {"time", "capture", "prun", "memit", "pyinstrument", "snakeviz", "heat", "tab"}
"""Cell magics whose cell is Python in the namespace of the notebook; ``%%timeit`` has a namespace of its own."""

_ESCAPED = re.compile(r"[ \t]*(?:%|!|\?)")
_ASSIGNED = re.compile(r"[ \t]*(?P<target>[\w.,* \t\[\]]*[\w\])])[ \t]*=[ \t]*[%!]")
_HELP = re.compile(r"[ \t]*%{0,2}[\w.*\[\]]+\?{1,2}[ \t]*;?[ \t]*(?:\r?\n|\Z)")
_CELL = re.compile(r"\s*?^%%(?P<name>\w*)[^\n]*(?:\n|\Z)", re.M)
_RUN = re.compile(r"(?P<indent>[ \t]*)(?P<magic>%(?P<name>\w+)[ \t]+)(?P<rest>[^\r\n]*)(?P<end>\r?\n?)\Z")
_WORD = re.compile(r"\S+[ \t]+")
_TOKEN = re.compile(
    r'''"""(?:\\.|[^\\])*?(?:"""|\Z)|\'\'\'(?:\\.|[^\\])*?(?:\'\'\'|\Z)|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?'''
    r"|[^\"'#\\()\[\]{}\r\n]+|#[^\r\n]*|\\\r?\n|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<newline>\r\n|\n|\r)|.",
    re.S,
)
_MASKED = re.compile(
    rf"(?P<indent>[ \t]*)(?P<code>[^\r\n]*?)(?:{_LINE}(?P<line>[^\r\n]*)|{_PREFIX}(?P<prefix>[^\r\n]*))"
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: the line of its cell magic, if it has one, and its code, masked; None where that is not Python."""

    head: str
    code: str | None

    @property
    def above(self) -> int:
        """The lines above the code."""
        return len(_lines(self.head))

    @property
    def whole(self) -> str | None:
        return None if self.code is None else self.head + unmask(self.code)


def read(source: str) -> Cell:
    """The cell that ``source`` is."""
    if (magic := _CELL.match(source)) is None:
        return Cell("", mask(source))
    code = source[magic.end() :] if magic["name"] in _PYTHON_CELLS else None
    return Cell(magic[0], code if code is None else mask(code))


def mute(source: str) -> str:
    """A cell as comments: it says nothing, and keeps its place."""
    return "".join(_LINE + line for line in _lines(source))


def mask(source: str) -> str:
    """Code of a cell as Python."""
    return "".join(_mask_line(line) if magic else line for line, magic in _statements(source))


def unmask(text: str) -> str:
    """Text, or a piece of it, as it is in the notebook."""
    return _MASKED.sub(_unmasked, text) if RESERVED.search(text) else text


def prefixed(line: str) -> int:
    """How many characters stand before the code of a masked line in the notebook."""
    return len(line.partition(_PREFIX)[2].rstrip("\r"))


def hidden(text: str) -> str:
    """The lines of a masked text that are not seen as Python."""
    return "\n".join(m["line"] for m in _MASKED.finditer(text) if m["line"] is not None)


def flaw(code: str) -> tuple[str, int] | None:
    """Why Python cannot run a piece of code, with the line; None if it can."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of the compiler, such as invalid escapes
            ast.parse(code)
    except (SyntaxError, ValueError) as error:
        return getattr(error, "msg", None) or str(error), getattr(error, "lineno", None) or 1
    except (RecursionError, MemoryError):
        return "it is nested too deeply", 1
    return None


def _lines(text: str) -> list[str]:
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _unmasked(match: re.Match[str]) -> str:
    if match["line"] is not None:
        return f"{match['indent']}{match['line']}"
    return f"{match['indent']}{match['prefix']}{match['code']}"


def _statements(source: str) -> Iterator[tuple[str, bool]]:
    """The logical lines of a cell, and which of them are IPython's."""
    at = 0
    while at < len(source):
        magic = any(pattern.match(source, at) for pattern in (_ESCAPED, _ASSIGNED, _HELP))
        end = _continued(source, at) if magic else _logical(source, at)
        yield source[at:end], magic
        at = end


def _continued(source: str, at: int) -> int:
    """Where a line ends that goes on as long as a backslash stands at its end."""
    while (newline := source.find("\n", at)) >= 0:
        at = newline + 1
        if not source[:newline].rstrip("\r").endswith("\\"):
            return at
    return len(source)


def _logical(source: str, at: int) -> int:
    """Where a statement's line ends, with the strings and brackets that go over several."""
    depth = 0
    for token in _TOKEN.finditer(source, at):
        match token.lastgroup:
            case "open":
                depth += 1
            case "close":
                depth -= 1
            case "newline" if depth <= 0:
                return token.end()
    return len(source)


def _mask_line(line: str) -> str:
    if (run := _RUN.match(line)) and run["name"] in _RUNNING and (split := _python(run["rest"])) is not None:
        options, code = split
        return f"{run['indent']}{code}{_PREFIX}{run['magic']}{options}{run['end']}"
    assigned = _ASSIGNED.match(line)
    first, *rest = _lines(line)
    indent = first[: len(first) - len(first.lstrip(" \t"))]
    code = f"{assigned['target'].strip()} = get_ipython()" if assigned else "pass"
    return "".join((indent, code, _LINE, first[len(indent) :], *(_LINE + line for line in rest)))


def _python(rest: str) -> tuple[str, str] | None:
    """The options of a magic and the Python behind them."""
    at = 0
    while rest.startswith("-", at) or not _parses(rest[at:]):
        word = _WORD.match(rest, at) if rest.startswith("-") else None
        if word is None:
            return None
        at = word.end()
    return rest[:at], rest[at:]


def _parses(code: str) -> bool:
    return bool(code.strip()) and flaw(code) is None
