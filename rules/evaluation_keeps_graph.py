"""AMP608: an evaluation loop records its operations for a backward that never comes."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.held_out import graphed
from ampify.model.step import FileModel
from ampify.rule import Finding, rule


@rule("AMP608", "evaluation-keeps-graph", Severity.INFO, needs.STEP)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in graphed(model):
        notes = (Note("this is recorded for a backward", tree.span(found.call)),)
        yield Finding(tree.head(found.loop), "This evaluation loop runs without `torch.no_grad`", notes=notes)
