"""AMP220: one loss goes backward twice."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, shown
from ampify.rewrite.repair_scaler import drop_plain_backward
from ampify.rule import Finding, rule


@rule("AMP220", "backward-twice", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.BACKWARD_TWICE:
            message = (
                f"`{shown(tree, found.act.node)}` goes through a graph that another backward frees{path_to(found)}"
            )
            notes = (Note("the other backward", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, drop_plain_backward(step, found), notes)
