"""AMP213: an iteration is left between `unscale_` and `update`."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, shown
from ampify.rewrite.repair_scaler import update_before_jump
from ampify.rule import Finding, rule


@rule("AMP213", "skip-path-without-update", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.SKIPPED_UPDATE:
            jump = shown(tree, found.act.node)
            message = f"`{jump}` leaves the iteration after `unscale_` and before `update`{path_to(found)}"
            notes = (Note("this raises in the next iteration", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, update_before_jump(step, found), notes)
