"""Text as Markdown shows it letter for letter, whatever was quoted in it."""

from __future__ import annotations

import re

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_MEANS_SOMETHING = re.compile(r"([\\`*_{}\[\]<>#~&!])")


def prose(text: str) -> str:
    """One line of a message; what stands between its backticks is code."""
    text, at, pieces = _line(text), 0, list[str]()
    for match in _CODE.finditer(text):
        pieces += _escaped(text[at : match.start()]), match[0]
        at = match.end()
    return "".join(pieces) + _escaped(text[at:])


def code(text: str) -> str:
    """Text between backticks, more of them than it has itself."""
    text = _line(text)
    fence = "`" * next(n for n in range(1, len(text) + 2) if re.search(rf"(?<!`)`{{{n}}}(?!`)", text) is None)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def row(*cells: str) -> str:
    """A row of a table; a bar would end a cell, in code too."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _line(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return _MEANS_SOMETHING.sub(r"\\\1", text)
