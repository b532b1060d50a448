"""AMP606: losses are added up over iterations together with their graphs."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.accumulated import kept_graphs
from ampify.model.step import TrainingStep
from ampify.rewrite.graphs import without_graph
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP606", "loss-tensor-accumulated", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in kept_graphs(step):
        total, loss = shown(tree, found.total), shown(tree, found.loss)
        message = f"`{total}` holds on to the graph of each `{loss}` that is added to it"
        notes = (Note("the loss goes backward here", tree.span(found.backward.node)),)
        yield Finding(tree.span(found.statement), message, without_graph(tree, found), notes)
