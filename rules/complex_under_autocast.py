"""AMP409: a complex tensor meets a half-precision result in a matrix product."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.step import FileModel
from ampify.model.strict import complexes
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP409", "complex-under-autocast", Severity.WARNING, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in complexes(model):
        message = f"`{shown(tree, found.operand)}` is complex, which autocast does not cast, and meets half precision"
        yield Finding(tree.span(found.node), message)
