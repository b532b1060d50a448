"""AMP405: an optimizer of float16 weights whose ``eps`` is 0 in float16."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.halved import divides_by_zero, halved
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP405", "optimizer-eps-underflow", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in halved(step):
        if not found.cast.bfloat16 and divides_by_zero(step.code, found.optimizer):
            message = f"The `eps` of `{shown(tree, found.optimizer.func)}` is 0 in float16, so weights become infinite"
            notes = (Note("the weights are cast to float16 here", tree.span(found.cast.call)),)
            yield Finding(tree.span(found.optimizer), message, None, notes)
