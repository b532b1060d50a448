"""AMP216: a closure is given to the step of a scaler."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.scalers import closures
from ampify.model.step import FileModel
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP216", "closure-passed-to-scaler", Severity.ERROR, needs.SCALER)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in closures(model):
        message = f"`{shown(tree, found.call.func)}` is given a closure, whose gradients it does not unscale"
        yield Finding(tree.span(found.value), message)
