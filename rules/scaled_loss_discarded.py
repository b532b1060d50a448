"""AMP203: the scaled loss is thrown away."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import shown
from ampify.rewrite.repair_scaler import scale_at_backward
from ampify.rule import Finding, rule


@rule("AMP203", "scaled-loss-discarded", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.DISCARDED_SCALE:
            message = f"Nothing uses the result of `{shown(tree, found.act.node)}`: `scale` gives a new tensor"
            notes = (Note("this goes backward unscaled", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, scale_at_backward(step, found), notes)
