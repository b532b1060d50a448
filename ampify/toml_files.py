"""TOML files: what they hold, and at which line a key stands. Knows no key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

_LINE = re.compile(r"(?P<what>.*) \(at line (?P<line>\d+), column \d+\)")


class Flawed(ValueError):
    """A file that is no TOML, or cannot be read; the message names file and line."""


@cache
def read(file: Path) -> dict[str, Any] | None:
    """The parsed file, None where there is none; raises `Flawed`."""
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (OSError, ValueError) as error:
        told = _LINE.fullmatch(str(error))
        where, what = (f"{file}:{told['line']}", told["what"]) if told else (str(file), error)
        raise Flawed(f"{where}: {what}") from None


def part(data: object, *keys: str) -> dict[str, Any]:
    """The table at ``keys``; an empty one where something else is."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def line_of(file: Path, has: Callable[[dict[str, Any]], object], word: str = "") -> int | None:
    """The line at which that begins which the file ``has``, or of ``word`` in it; None where that cannot be told.

    `tomllib` tells no places: it begins below the longest head of the file that is TOML and lacks it.
    """
    lines = file.read_text("utf-8-sig").splitlines(keepends=True)
    first = next((n for n in range(len(lines), -1, -1) if _lacks("".join(lines[:n]), has)), len(lines))
    if first == len(lines):
        return None
    named = re.compile(rf"[\"'\s,\[]{re.escape(word)}\b" if word else "")
    return next((n for n, line in enumerate(lines[first:], first + 1) if named.search(line)), first + 1)


def _lacks(head: str, has: Callable[[dict[str, Any]], object]) -> bool:
    try:
        return not has(tomllib.loads(head))
    except ValueError:
        return False
