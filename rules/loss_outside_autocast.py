"""AMP503: the loss is computed after the autocast region, from values in half precision."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.left_region import losses_outside
from ampify.model.step import TrainingStep
from ampify.rewrite.regions import extend_region
from ampify.rule import Finding, rule


@rule("AMP503", "loss-outside-autocast", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    for found in losses_outside(step):
        message = (
            "The loss is computed outside the autocast region, from values in half precision and in half precision"
        )
        notes = (Note("the region before it", step.tree.head(found.region)),)
        yield Finding(step.tree.span(found.call), message, extend_region(step.tree, found), notes)
