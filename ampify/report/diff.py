"""The report as a unified diff of what the fixes would change."""

from __future__ import annotations

import io
from collections.abc import Iterator
from difflib import unified_diff
from typing import TextIO

from ampify.engine import Report
from ampify.report.paint import Line, paint

_STYLES = {"+++": "bold", "---": "bold", "+": "green", "-": "red", "@": "cyan"}


def render(report: Report, out: TextIO) -> None:
    for change in report.changes:
        paint(lines(change.title, change.before, change.after), out)


def lines(title: str, before: str, after: str) -> Iterator[Line]:
    """The lines of the diff of one page, in colours."""
    return _styled(difference(title, before, after))


def difference(path: str, before: str, after: str) -> Iterator[str]:
    """The lines of the diff; carriage returns stay, so that `patch` can apply it."""
    for line in unified_diff(_lines(before), _lines(after), path, path):
        yield line.removesuffix("\n")
        if not line.endswith(("\n", "\r")):
            yield "\\ No newline at end of file"


def _lines(text: str) -> list[str]:
    return io.StringIO(text, newline="").readlines()


def _styled(lines: Iterator[str]) -> Iterator[Line]:
    for line in lines:
        style = _STYLES.get(line[:3]) or _STYLES.get(line[:1], "")
        yield [(line, style)]
