"""AMP601: a checkpoint has the state of the optimizer, and not that of the scaler."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.states import unsaved
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import save_state
from ampify.rule import Finding, rule


@rule("AMP601", "scaler-state-not-saved", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    for saving in unsaved(step):
        message = f"The checkpoint has the state of the optimizer, but not that of `{step.scaler}`"
        yield Finding(step.tree.span(saving.state), message, save_state(step, saving))
