"""What a page shows as pictures, each an SVG: losses, deviation by layer, time and memory. Needs matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ampify.verify.verdict import Verdict


def plots(verdict: Verdict) -> Iterator[str]:
    """The plots that the verdict has figures for."""
    if any(verdict.losses.values()):
        figure, axes = _axes("Loss at each backward call", "backward call", "loss")
        for style, (side, losses) in zip(("-", "--", ":"), verdict.losses.items(), strict=False):
            axes.plot(range(1, len(losses) + 1), [_finite(loss) for loss in losses], style, label=side, marker=".")
        axes.legend()
        yield _svg(figure)


def _axes(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=across, ylabel=up)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _finite(value: float) -> float:
    """A gap where a value is infinite, which matplotlib would try to scale to."""
    return value if math.isfinite(value) else math.nan


def _svg(figure: Figure) -> str:
    """The element alone, so that it can stand in a page; without the date, so that equal figures give equal text."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]
