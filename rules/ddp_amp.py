"""AMP706: DistributedDataParallel sends scaled gradients in float16."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.small_print import compressed
from ampify.model.step import TrainingStep
from ampify.rule import Finding, rule


@rule("AMP706", "ddp-amp", Severity.INFO)
def check(step: TrainingStep) -> Iterator[Finding]:
    for call in compressed(step):
        message = "This hook casts gradients to float16 while they are scaled, so that more steps are skipped"
        yield Finding(step.tree.span(call), message)
