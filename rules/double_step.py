"""AMP205: an optimizer steps twice with the same gradients."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, shown
from ampify.rewrite.repair_scaler import drop_plain_step
from ampify.rule import Finding, rule


@rule("AMP205", "double-step", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.DOUBLE_STEP:
            again = "`" + shown(tree, found.other.node) + "` has" if found.other else "a scaler has"
            message = f"`{shown(tree, found.act.node)}` applies gradients that {again} applied as well{path_to(found)}"
            notes = (Note("the other step", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, drop_plain_step(step, found), notes)
