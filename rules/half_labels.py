"""AMP302: class labels, or other indices, are cast to half precision."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.casts import half_labels
from ampify.model.step import FileModel
from ampify.rewrite.repair import shown, without_cast
from ampify.rule import Finding, rule

NEEDS = ((needs.CAST, "CrossEntropyLoss|NLLLoss|cross_entropy|nll_loss|one_hot|mbedding"),)


@rule("AMP302", "half-labels", Severity.ERROR, NEEDS)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in half_labels(model):
        message = f"Class indices must stay integers: `{shown(tree, found.cast.call)}`"
        notes = (Note("they are needed as integers here", tree.span(found.taker)),)
        yield Finding(tree.span(found.cast.call), message, without_cast(tree, found.cast), notes)
