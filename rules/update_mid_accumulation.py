"""AMP226: the scale is set while gradients wait for their step."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, shown
from ampify.rule import Finding, rule


@rule("AMP226", "update-mid-accumulation", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.SCALE_SET:
            message = (
                f"`{shown(tree, found.act.node)}` sets the scale of gradients that wait for their step{path_to(found)}"
            )
            notes = (Note("this divides them by the new scale", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, notes=notes)
