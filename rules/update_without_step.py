"""AMP211: `update` runs although nothing was stepped."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, shown
from ampify.rule import Finding, rule


@rule("AMP211", "update-without-step", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.IDLE_UPDATE:
            message = f"`{shown(tree, found.act.node)}` runs with no step since the last `update`{path_to(found)}"
            notes = tuple(Note("the step", tree.span(one.node)) for one in found.steps[:1])
            yield Finding(tree.span(found.act.node), message, notes=notes)
