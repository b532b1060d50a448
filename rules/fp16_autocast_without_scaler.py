"""AMP201: a float16 loss goes backward, and nothing scales it."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.loss_regions import unscaled
from ampify.model.step import TrainingStep
from ampify.rule import Finding, rule

MESSAGE = "Small gradients of this loss become zero in float16: there is no GradScaler, and the region is not bfloat16"


@rule("AMP201", "fp16-autocast-without-scaler", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in unscaled(step):
        notes = (Note("it is computed in float16 here", tree.head(found.region)),)
        yield Finding(tree.span(found.backward.node), MESSAGE, notes=notes)
