"""Training steps as `ampify steps` lists them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ampify.inspection import Inspection

if TYPE_CHECKING:
    from ampify.model.graph import Edge


@dataclass(frozen=True, slots=True)
class StepNode:
    """A function, a value or something that is done in a training step, and where it stands."""

    key: str
    role: str
    label: str
    place: str


@dataclass(frozen=True, slots=True)
class StepReport:
    """A training step, as `ampify steps` lists it."""

    path: str
    cell: int | None
    line: int
    where: str
    models: tuple[str, ...]
    optimizers: tuple[str, ...]
    losses: tuple[str, ...]
    scaler: str | None
    decision: str
    code: str | None
    reason: str
    nodes: tuple[StepNode, ...] = ()
    edges: tuple[Edge, ...] = ()

    @property
    def row(self) -> str:
        """Its line, in a notebook with the cell."""
        return f"{self.line}" if self.cell is None else f"cell {self.cell}:{self.line}"


def steps_in(inspection: Inspection) -> Iterator[StepReport]:
    """The training steps of a text, each with what is decided about it."""
    for step, decision in inspection.decisions(inspection.part.text):
        path, place = inspection.place(step.span.start)
        nodes = (StepNode(n.key, n.role, n.label, _row(inspection, n.start, path)) for n in step.graph.nodes)
        graph = step.graph
        yield StepReport(
            path, place.cell, place.line, step.where, step.models, step.optimizers, step.losses, step.scaler,
            decision.word, decision.code, decision.reason, tuple(nodes), graph.edges,
        )  # fmt: skip


def _row(inspection: Inspection, offset: int, home: str) -> str:
    """Where something stands, as seen from the file ``home``."""
    path, place = inspection.place(offset)
    return place.row if path == home else f"{path}:{place.row}"
