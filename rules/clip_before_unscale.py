"""AMP206: gradients are clipped while they are scaled."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, unscale
from ampify.rule import Finding, rule


@rule("AMP206", "clip-before-unscale", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.CLIP:
            message = f"Gradients are clipped while they are multiplied by the loss scale{path_to(found)}"
            notes = (Note("they are scaled here", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, unscale(step, found), notes)
