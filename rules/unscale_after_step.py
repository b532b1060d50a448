"""AMP209: `unscale_` comes after the step."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import shown
from ampify.rewrite.repair_scaler import drop_late_unscale
from ampify.rule import Finding, rule


@rule("AMP209", "unscale-after-step", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.UNSCALE_AFTER_STEP:
            message = f"`{shown(tree, found.act.node)}` comes after the step, which has unscaled the gradients"
            notes = (Note("the step", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, drop_late_unscale(step, found), notes)
