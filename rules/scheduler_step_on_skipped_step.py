"""AMP222: a scheduler moves although the scaler may have skipped the step."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.schedules import ahead
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import hold_back, shown
from ampify.rule import Finding, rule


@rule("AMP222", "scheduler-step-on-skipped-step", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree, found = step.tree, [*ahead(step)]
    for update in dict.fromkeys(one.update for one in found):
        same = [one for one in found if one.update is update]
        fix = hold_back(step, same)
        for one in same:
            message = f"`{shown(tree, one.call)}` moves on even where the scaler has skipped the step of its optimizer"
            yield Finding(tree.span(one.call), message, fix, (Note("it skips this step", tree.span(one.step.node)),))
