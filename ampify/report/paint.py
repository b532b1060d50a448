"""Lines of styled pieces: plain in a pipe, coloured on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from ampify.diagnostic import Severity

Line = list[tuple[str, str]]
"""Pieces of text, each with a style of rich; ``""`` is plain."""

COLOURS = {Severity.INFO: "bold cyan", Severity.WARNING: "bold yellow", Severity.ERROR: "bold red"}


def paint(lines: Iterable[Line], out: TextIO) -> None:
    if not _coloured(out):
        for line in lines:
            out.write("".join(text for text, _ in line) + "\n")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, force_terminal=True, color_system="standard", highlight=False)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)


def _coloured(out: TextIO) -> bool:
    """As no-color.org and force-color.org have it; what is forced is the terminal's, never that of a file."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR") and out in (sys.stdout, sys.stderr):
        return True
    return out.isatty() and os.environ.get("TERM") != "dumb"
