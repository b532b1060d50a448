"""AMP607: a loop over held-out data trains."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.held_out import leaks
from ampify.model.step import FileModel
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP607", "training-in-eval-loop", Severity.ERROR, needs.STEP)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in leaks(model):
        message = f"This loop over `{shown(tree, found.loop.iter)}` trains the model on data that is held out"
        notes = (
            Note("the weights change here", tree.span(found.step.node)),
            Note("this loop is there for training", tree.head(found.proper)),
        )
        yield Finding(tree.head(found.loop), message, notes=notes)
