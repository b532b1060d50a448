"""AMP217: a scaler is to unscale gradients in float16."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.half_parameters import half_parameters
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP217", "fp16-parameters-with-scaler", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in half_parameters(step):
        message = f"The parameters of `{shown(tree, found.module)}` are float16, whose gradients a scaler refuses"
        notes = (Note("this step raises", tree.span(found.step.node)),)
        yield Finding(tree.span(found.cast), message, notes=notes)
