"""AMP224: `scale` is given something that is no tensor."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.scalers import not_tensors
from ampify.model.step import FileModel
from ampify.rewrite.repair import shown
from ampify.rewrite.repair_scaler import given_instead
from ampify.rule import Finding, rule


@rule("AMP224", "scale-needs-tensor", Severity.ERROR, needs.SCALER)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in not_tensors(model):
        message = f"`{shown(tree, found.call.func)}` takes tensors, and this is {found.what}"
        yield Finding(tree.span(found.value), message, given_instead(tree, found))
