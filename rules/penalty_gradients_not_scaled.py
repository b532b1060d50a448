"""AMP227: gradients for a penalty are not scaled and unscaled by hand."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.scaled_values import penalties
from ampify.model.step import TrainingStep
from ampify.rule import Finding, rule

SCALED = "These gradients are multiplied by the loss scale, and so is the penalty that is made of them"
UNSCALED = "These gradients of a float16 value are not scaled: small ones become zero, and the penalty with them"


@rule("AMP227", "penalty-gradients-not-scaled", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    for found in penalties(step):
        message, severity = (SCALED, Severity.ERROR) if found.scaled else (UNSCALED, Severity.WARNING)
        yield Finding(step.tree.span(found.act.node), message, severity=severity)
