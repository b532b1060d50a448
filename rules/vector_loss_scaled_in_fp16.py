"""AMP230: losses in float16 are scaled one by one, where the scale overflows them."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.scaled_values import vectors
from ampify.model.step import FileModel
from ampify.rewrite.repair import shown
from ampify.rewrite.repair_scaler import reduced_first
from ampify.rule import Finding, rule


@rule("AMP230", "vector-loss-scaled-in-fp16", Severity.WARNING, needs.SCALER)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in vectors(model):
        losses = shown(tree, found.losses)
        message = f"`{losses}` is in float16, and times the scale it stays so: what is above 1 overflows"
        yield Finding(tree.span(found.scaled), message, reduced_first(tree, found))
