"""Which rules are on, and whose fixes: layers of codes and of beginnings of codes, as ruff has them. Knows no rule."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path

Codes = tuple[str, ...]

ALL = "AMP"
"""The beginning of every code."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What one layer says: a file, one that it extends, or the command line. None: it leaves that to those below."""

    select: Codes | None = None
    extend_select: Codes = ()
    ignore: Codes = ()
    fixable: Codes | None = None
    extend_fixable: Codes = ()
    unfixable: Codes = ()


@dataclass(frozen=True, slots=True)
class FileIgnore:
    """Codes that are of no interest in some files: those whose name, or whose path from ``folder``, is ``pattern``."""

    folder: str
    pattern: str
    codes: Codes

    def covers(self, path: str, code: str) -> bool:
        return code.startswith(self.codes) and _matches(path, self.folder, self.pattern)


def selected(layers: Iterable[Selection], code: str) -> bool:
    """Whether findings of ``code`` are wanted."""
    return _decided(((each.select, each.extend_select, each.ignore) for each in layers), code)


def fixable(layers: Iterable[Selection], code: str) -> bool:
    """Whether findings of ``code`` may be mended."""
    return _decided(((each.fixable, each.extend_fixable, each.unfixable) for each in layers), code)


def wins(code: str, over: Codes, under: Codes) -> bool:
    """Whether ``over`` names ``code`` at least as closely as ``under`` does, and at all."""
    return (closeness := _closest(over, code)) > 0 and closeness >= _closest(under, code)


def _decided(layers: Iterable[tuple[Codes | None, Codes, Codes]], code: str) -> bool:
    """A layer that chooses takes nothing from those below; one that only adds or removes changes what they say.

    Within a layer the closest beginning of the code decides, and what removes it goes before what adds it.
    """
    on = True
    for chosen, added, removed in layers:
        wanted = (*(chosen or ()), *added)
        if wins(code, removed, wanted):
            on = False
        elif chosen is not None or _closest(wanted, code):
            on = _closest(wanted, code) > 0
    return on


def _closest(prefixes: Codes, code: str) -> int:
    return max((len(prefix) for prefix in prefixes if code.startswith(prefix)), default=0)


@cache
def _matches(path: str, folder: str, pattern: str) -> bool:
    from glob import escape  # seldom needed

    wanted = pattern.removeprefix("!")
    whole = Path(path).absolute()
    spellings = chain.from_iterable((each, each.replace("**/", "")) for each in _alternatives(wanted))
    found = any(
        fnmatchcase(whole.name, each) or fnmatchcase(whole.as_posix(), f"{escape(Path(folder).as_posix())}/{each}")
        for each in spellings
    )
    return found is not pattern.startswith("!")


def _alternatives(pattern: str) -> list[str]:
    """``{a,b}.py`` as ``a.py`` and ``b.py``."""
    if (braces := re.search(r"\{([^{}]*)\}", pattern)) is None:
        return [pattern]
    heads = (pattern[: braces.start()] + each + pattern[braces.end() :] for each in braces[1].split(","))
    return [found for head in heads for found in _alternatives(head)]
