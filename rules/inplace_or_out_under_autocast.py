"""AMP408: a matrix product in place, or into a given tensor, of different dtypes."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.step import FileModel
from ampify.model.strict import products_in_place
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP408", "inplace-or-out-under-autocast", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in products_in_place(model):
        message = f"Autocast does not cast for a product that writes into `{shown(tree, found.operand)}`"
        yield Finding(tree.span(found.node), message)
