"""The training steps found, what takes part in them and what is decided: a table as wide as the terminal."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import TextIO

from ampify.listing import StepReport
from ampify.report import dot
from ampify.report.paint import Line, paint

_WIDTH = 80
"""Of what is no terminal."""
_NARROWEST = 8
_GAP = "  "
_COLUMNS = {"LINE": "bold", "IN": "", "MODEL": "", "OPTIMIZER": "", "LOSS": "", "SCALER": "", "DECISION": "bold cyan"}
"""The titles, with the colours of what stands below."""


def render(steps: Sequence[StepReport], out: TextIO, form: str) -> None:
    if form == "dot":
        dot.render(steps, out)
    elif form == "json":
        json.dump([asdict(step) for step in steps], out, indent=2)
        out.write("\n")
    else:
        width = shutil.get_terminal_size((_WIDTH, 0)).columns if out.isatty() else _WIDTH
        paint(_table(steps, width), out)
        out.write(f"{len(steps)} training step{'s' * (len(steps) != 1)}\n")


def _table(steps: Sequence[StepReport], width: int) -> Iterator[Line]:
    rows = [_cells(step) for step in steps]
    used = [n for n in range(len(_COLUMNS)) if any(row[n] for row in rows)]
    titles, styles = [*_COLUMNS], [*_COLUMNS.values()]
    widths = _fitted([max(len(titles[n]), *(len(row[n]) for row in rows)) for n in used], width) if rows else []
    if rows:
        yield from _row([titles[n] for n in used], widths, ["bold blue"] * len(used))
    path = None
    for step, row in zip(steps, rows, strict=True):
        if step.path != path:  # on a line of its own: paths are long, and are to be copied
            yield [(path := step.path, "bold")]
        yield from _row([row[n] for n in used], widths, [styles[n] for n in used])
        for line in textwrap.wrap(step.reason, max(width, 2 * _NARROWEST) - 4):
            yield [(f"    {line}", "")]


def _cells(step: StepReport) -> list[str]:
    code = f" ({step.code})" if step.code else ""
    taking_part = (", ".join(names) for names in (step.models, step.optimizers, step.losses))
    return [step.row, step.where, *taking_part, step.scaler or "", step.decision + code]


def _fitted(widths: list[int], whole: int) -> list[int]:
    """The widths of the columns, the widest made narrower until all fit; none narrower than `_NARROWEST`."""
    found = [*widths]
    while sum(found) + len(_GAP) * (len(found) - 1) > whole and (widest := max(found)) > _NARROWEST:
        found[found.index(widest)] -= 1
    return found


def _row(cells: Sequence[str], widths: Sequence[int], styles: Sequence[str]) -> Iterator[Line]:
    """A row of as many lines as its cells need: nothing is cut off."""
    columns = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(cells, widths, strict=True)]
    for pieces in zip_longest(*columns, fillvalue=""):
        line: Line = []
        for piece, width, style in zip(pieces, widths, styles, strict=True):
            line += [(f"{piece:<{width}}", style), (_GAP, "")]
        yield _stripped(line)


def _stripped(line: Line) -> Line:
    """Without blanks at its end."""
    while line and not line[-1][0].strip():
        line.pop()
    return [*line[:-1], (line[-1][0].rstrip(), line[-1][1])] if line else line
