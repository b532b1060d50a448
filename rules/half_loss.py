"""AMP303: a loss, or what it is computed from, is cast to float16 by hand."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.casts import half_losses
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import shown, without_cast
from ampify.rule import Finding, rule


@rule("AMP303", "half-loss", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    for cast in half_losses(step) if step.mixed else ():
        what = "The loss" if cast.of_loss else "The input of the loss"
        message = f"{what} is cast to float16: `{shown(step.tree, cast.call)}`"
        yield Finding(step.tree.span(cast.call), message, without_cast(step.tree, cast))
