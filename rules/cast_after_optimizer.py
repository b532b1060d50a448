"""AMP312: a model is cast to half precision in the middle of its training."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.halved import halved
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP312", "cast-after-optimizer", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in (h for h in halved(step) if h.in_loop):
        cast = shown(tree, found.cast.call)
        message = f"The model is cast while it is trained; the optimizer keeps the state of its old dtype: `{cast}`"
        notes = (Note("this optimizer steps its weights", tree.span(found.optimizer)),)
        yield Finding(tree.span(found.cast.call), message, None, notes)
