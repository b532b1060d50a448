"""AMP212: `update` runs before the gradients that it is about are used."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, shown
from ampify.rewrite.repair_scaler import drop_early_update
from ampify.rule import Finding, rule


@rule("AMP212", "update-too-early", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.EARLY_UPDATE:
            message = f"`{shown(tree, found.act.node)}` runs before the last step that its scale is for{path_to(found)}"
            notes = (
                (Note("this divides by another scale, or once more", tree.span(found.other.node)),)
                if found.other
                else ()
            )
            yield Finding(tree.span(found.act.node), message, drop_early_update(step, found), notes)
