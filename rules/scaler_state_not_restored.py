"""AMP602: the state of the optimizer is loaded, and that of the scaler is not."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.states import unrestored
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import restore_state
from ampify.rule import Finding, rule


@rule("AMP602", "scaler-state-not-restored", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    for checkpoint in unrestored(step):
        assert checkpoint.load is not None
        message = f"The state of the optimizer is loaded, but not that of `{step.scaler}`"
        yield Finding(step.tree.span(checkpoint.load), message, restore_state(step, checkpoint))
