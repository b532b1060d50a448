"""AMP502: the optimizer steps inside an autocast region, which keeps casts of the weights from before."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.enclosed import steps_inside
from ampify.model.regions import backwards_inside
from ampify.model.step import TrainingStep
from ampify.rewrite.regions import without_cache
from ampify.rewrite.repair import end_region_before
from ampify.rule import Finding, rule


@rule("AMP502", "optimizer-step-in-autocast", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    reported = {inside.region for inside in backwards_inside(step)}  # by AMP501
    for found in steps_inside(step):
        begins = Note("the region begins here", tree.head(found.region))
        span = tree.span(found.step.node)
        if found.again is not None:
            message = "The optimizer steps inside the autocast region, and a later forward there uses the old weights"
            notes = (Note("this runs with old weights", tree.span(found.again)), begins)
            yield Finding(span, message, without_cache(step.code, found.region), notes)
        elif found.region not in reported:
            message = "The optimizer steps inside the autocast region, which keeps casts of the old weights"
            yield Finding(span, message, end_region_before(step, found), (begins,), Severity.WARNING)
