"""AMP309: a float64 tensor is given to a layer or a matrix product under autocast."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.step import FileModel
from ampify.model.strict import doubles
from ampify.rewrite.repair import floated, shown
from ampify.rule import Finding, rule


@rule("AMP309", "float64-under-autocast", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in doubles(model):
        message = f"`{shown(tree, found.operand)}` is float64, which autocast does not cast, and meets half precision"
        yield Finding(tree.span(found.operand), message, floated(tree, found.operand))
