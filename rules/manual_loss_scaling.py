"""AMP219: a static loss scale by hand."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.hand_scaling import by_hand
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP219", "manual-loss-scaling", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in by_hand(step):
        loss = shown(tree, found.backward.loss)
        message = f"`{loss}` is scaled by a number that nothing adapts, and infinite gradients are applied"
        notes = (Note("it is divided away here", tree.span(found.division)),)
        yield Finding(tree.span(found.backward.node), message, notes=notes)
