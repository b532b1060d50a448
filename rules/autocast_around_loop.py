"""AMP506: autocast is entered once around a loop that trains, so the casts of the weights are never made anew."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.enclosed import frozen_loops
from ampify.model.step import TrainingStep
from ampify.rewrite.regions import without_cache
from ampify.rule import Finding, rule


@rule("AMP506", "autocast-around-loop", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in frozen_loops(step):
        message = (
            "This autocast region is around the whole training loop, which goes on with casts of the first weights"
        )
        notes = (
            Note("the loop begins here", tree.head(found.loop)),
            Note("the weights change here", tree.span(found.step.node)),
        )
        yield Finding(tree.head(found.region), message, without_cache(step.code, found.region), notes)
