"""AMP204: an optimizer steps by itself, with gradients that are a scaler's business."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import shown, step_by_scaler
from ampify.rule import Finding, rule

WRONG = {
    Wrong.BARE_STEP: (Severity.ERROR, "applies gradients that are still multiplied by the loss scale"),
    Wrong.BARE_STEP_UNSCALED: (Severity.WARNING, "applies unscaled gradients even where they are infinite or NaN"),
}


@rule("AMP204", "plain-step-on-scaled-gradients", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong in WRONG:
            severity, what = WRONG[found.wrong]
            message = f"`{shown(tree, found.act.node)}` {what}"
            notes = (Note("they are scaled here", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, step_by_scaler(step, found), notes, severity)
