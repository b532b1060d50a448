"""AMP202: a scaler steps with gradients that were never scaled."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import Backward, TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import scale, shown
from ampify.rule import Finding, rule


@rule("AMP202", "unscaled-backward", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.UNSCALED_BACKWARD and isinstance(found.act, Backward):
            loss = shown(tree, found.act.loss)
            message = f"`{loss}` is not scaled, yet the scaler divides its gradients by the loss scale"
            notes = (Note("here they are divided", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, scale(step, found), notes)
