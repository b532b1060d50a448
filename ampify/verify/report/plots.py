"""What a page shows as pictures, each an SVG: losses, deviation by layer, time and memory. Needs matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ampify.verify.numerics import Statistic
from ampify.verify.verdict import Verdict

Row = tuple[str, tuple[float, ...]]
"""A name and a value for each series."""


def plots(verdict: Verdict) -> Iterator[str]:
    """The plots that the verdict has figures for."""
    numbers = verdict.numerics
    if any(verdict.losses.values()):
        yield _losses("Loss at each backward call, AMP off", verdict.losses)
    if numbers and numbers.losses:
        yield _losses("Loss at each backward call, AMP on", numbers.losses)
    if numbers and numbers.statistics:
        rows = [(_title(each), (each.value, each.null)) for each in numbers.statistics]
        yield _bars("Relative deviation with AMP on", rows, ("candidate", "rounding alone"))
    if numbers and numbers.layers:
        rows = [(layer.name, (layer.value, layer.null)) for layer in numbers.layers]
        yield _bars("Relative deviation of the first gradient, by layer", rows, ("candidate", "rounding alone"))
    if verdict.bench and verdict.bench.runs:
        runs = verdict.bench.runs
        yield _bars("Time of a step, ms", [(run.setting, (run.median_ms,)) for run in runs], ("median",))
        yield _bars("Peak memory, MiB", [(run.setting, (run.peak_bytes / 2**20,)) for run in runs], ("peak",))


def _title(statistic: Statistic) -> str:
    return statistic.name if statistic.optimizer is None else f"{statistic.name}, optimizer {statistic.optimizer}"


def _losses(title: str, losses: Mapping[str, Sequence[float]]) -> str:
    figure, axes = _axes(title, "backward call", "loss")
    for style, (side, values) in zip(("-", "--", ":"), losses.items(), strict=False):
        axes.plot(range(1, len(values) + 1), [_finite(loss) for loss in values], style, label=side, marker=".")
    axes.legend()
    return _svg(figure)


def _bars(title: str, rows: Sequence[Row], series: tuple[str, ...]) -> str:
    """One group of bars a row, one bar a series."""
    figure, axes = _axes(title, "", "")
    width = 0.8 / len(series)
    for number, name in enumerate(series):
        places = [row + (number - (len(series) - 1) / 2) * width for row in range(len(rows))]
        axes.bar(places, [_finite(values[number]) for _, values in rows], width, label=name)
    axes.set_xticks(range(len(rows)), [name for name, _ in rows], rotation=20 if len(rows) > 3 else 0, ha="center")
    if len(series) > 1:
        axes.legend()
    return _svg(figure)


def _axes(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=across, ylabel=up)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def _finite(value: float) -> float:
    """A gap where a value is infinite, which matplotlib would try to scale to."""
    return value if math.isfinite(value) else math.nan


def _svg(figure: Figure) -> str:
    """The element alone, so that it can stand in a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg")
    return out.getvalue()[out.getvalue().index("<svg") :]
