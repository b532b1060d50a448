"""AMP305: a loss function of PyTorch is cast to half precision, which does nothing, or harms its weights."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.casts import half_criteria
from ampify.model.step import FileModel
from ampify.rewrite.repair import shown, without_cast
from ampify.rule import Finding, rule


@rule("AMP305", "half-criterion", Severity.INFO, ((needs.CAST, "Loss"),))
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in half_criteria(model):
        what = "rounds the weights of the loss" if found.weighted else "does nothing: the loss has no parameters"
        message = f"This cast {what}: `{shown(tree, found.cast.call)}`"
        yield Finding(tree.span(found.cast.call), message, without_cast(tree, found.cast))
