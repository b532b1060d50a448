"""AMP225: a scaled loss is shown as the loss."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.scaled_values import reused
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP225", "scaled-loss-reused", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in reused(step):
        message = f"`{shown(tree, found.use)}` is the scaled loss here, not the loss"
        yield Finding(tree.span(found.use), message, notes=(Note("it is scaled here", tree.span(found.made)),))
