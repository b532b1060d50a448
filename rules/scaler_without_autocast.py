"""AMP504: the loss is scaled, and nothing is in half precision."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.idle import idle_scalers
from ampify.model.step import TrainingStep
from ampify.rule import Finding, rule


@rule("AMP504", "scaler-without-autocast", Severity.INFO)
def check(step: TrainingStep) -> Iterator[Finding]:
    for act in idle_scalers(step):
        message = "The loss is scaled, but nothing in sight runs under autocast: in float32 that has no effect"
        yield Finding(step.tree.span(act.node), message)
