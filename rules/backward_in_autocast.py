"""AMP501: the backward pass runs inside the autocast region of the forward pass."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.regions import backwards_inside
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import end_region_before
from ampify.rule import Finding, rule


@rule("AMP501", "backward-in-autocast", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    for found in backwards_inside(step):
        notes = (Note("the region begins here", step.tree.head(found.region)),)
        message = "The backward pass runs inside the autocast region"
        yield Finding(step.tree.span(found.backward.node), message, end_region_before(step, found), notes)
