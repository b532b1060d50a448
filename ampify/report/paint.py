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


_CONTROLS = [n for n in (*range(0x20), *range(0x7F, 0xA0)) if n != ord("\t")]
_INVISIBLE = (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""What ends a line, or turns the direction in which a line is shown."""
_ESCAPES = {n: f"\\x{n:02x}" for n in _CONTROLS} | {n: f"\\u{n:04x}" for n in _INVISIBLE}


def visible(text: str) -> str:
    """A text on one line that no terminal obeys: what is quoted may be anybody's."""
    return text.translate(_ESCAPES)


def paint(lines: Iterable[Line], out: TextIO, *, exact: bool = False) -> None:
    """Print lines, what a terminal would obey made visible; ``exact``: only where they are printed in colours."""
    if not coloured(out):
        for line in lines:
            text = "".join(text for text, _ in line)
            out.write((text if exact else visible(text)) + "\n")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, force_terminal=True, color_system="standard", no_color=False, highlight=False)
    for line in lines:
        console.print(Text.assemble(*((visible(text), style) for text, style in line)), soft_wrap=True)


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
