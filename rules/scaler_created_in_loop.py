"""AMP214: a scaler does not live as long as its optimizer."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.scaler_homes import remade
from ampify.model.step import FileModel
from ampify.rule import Finding, rule


@rule("AMP214", "scaler-created-in-loop", Severity.ERROR, needs.SCALER)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in remade(model):
        often, severity = ("step", Severity.ERROR) if found.per_batch else ("round of a loop", Severity.WARNING)
        message = f"A new scaler for every {often}, though the optimizer stays: the scale is lost each time"
        yield Finding(tree.span(found.call), message, None, (Note("this loop", tree.head(found.loop)),), severity)
