"""AMP002: a model that is trained under autocast is evaluated in float32."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.evaluation import evaluations
from ampify.model.step import FileModel
from ampify.rewrite.evaluate import under_autocast
from ampify.rule import Finding, rule


@rule("AMP002", "fp32-inference-loop", Severity.INFO, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in evaluations(model):
        notes = (Note("its model is trained under autocast here", tree.head(found.region)),)
        message = "This evaluation loop runs in float32"
        yield Finding(tree.head(found.loop), message, under_autocast(model, found), notes)
