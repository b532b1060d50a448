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
    if not coloured(out):
        for line in lines:
            out.write("".join(text for text, _ in line) + "\n")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, force_terminal=True, color_system="standard", no_color=False, highlight=False)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)


def coloured(out: TextIO) -> bool:
    """As ruff has it: NO_COLOR goes first, then what forces colours, on the terminal's streams and never in a file.

    An empty variable counts as none. `bixense.com/clicolors` tells of the variables that begin with CLICOLOR.
    """
    said = os.environ.get
    if said("NO_COLOR"):
        return False
    if (said("FORCE_COLOR") or said("CLICOLOR_FORCE", "0") not in ("", "0")) and out in (sys.stdout, sys.stderr):
        return True
    return out.isatty() and said("TERM") != "dumb" and said("CLICOLOR") != "0"
