"""AMP401: a binary cross entropy of probabilities under CUDA autocast."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.regions import unsafe_losses
from ampify.model.step import FileModel
from ampify.rewrite.repair import island, shown
from ampify.rule import Finding, rule


@rule("AMP401", "bce-unsafe-autocast", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for loss in unsafe_losses(model):
        message = f"`{shown(tree, loss.call.func)}` takes probabilities, which raises under CUDA autocast"
        notes = (Note("the autocast region begins here", tree.head(loss.region)),)
        yield Finding(tree.span(loss.call), message, island(model, loss), notes)
