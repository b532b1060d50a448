"""A fix that somebody is asked about: what it is for, and what it would change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ampify.diagnostic import Diagnostic
from ampify.source.document import ASSUMED, BORDER, split
from ampify.source.magics import unmask
from ampify.source.text import SEAM

Page = tuple[str, str, str]
"""A title, the text before, the text after."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A finding at a place such as ``train.py:3:5``, and the text of its files without and with its fix."""

    finding: Diagnostic
    place: str
    paths: tuple[str, ...]
    before: str
    after: str

    def pages(self) -> Iterator[Page]:
        """The files that change, of notebooks the cells."""
        texts = zip(self.paths, self.before.split(SEAM), self.after.split(SEAM), strict=True)
        for title, before, after in (page for path, *both in texts for page in _pages(path, *both)):
            if before != after:
                yield title, _shown(before), _shown(after)


def _pages(path: str, before: str, after: str) -> Iterator[Page]:
    if BORDER not in before:
        yield path, before, after
        return
    for (number, old), (_, new) in zip(split(before), split(after), strict=True):
        yield f"{path}:cell {number}", old, new


def _shown(text: str) -> str:
    """Without what the file does not hold."""
    return unmask(re.sub(rf"^.*{ASSUMED}\n", "", text, flags=re.M))
