"""AMP605: the model that is being trained is cast to half precision to be saved."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.small_print import halved
from ampify.model.step import TrainingStep
from ampify.rule import Finding, rule


@rule("AMP605", "half-weights-saved", Severity.WARNING)
def check(step: TrainingStep) -> Iterator[Finding]:
    for found in halved(step):
        message = "This casts the weights of the model itself, which goes on training in half precision"
        notes = (Note("it is trained in this loop", step.tree.head(found.loop)),)
        yield Finding(step.tree.span(found.call), message, notes=notes)
