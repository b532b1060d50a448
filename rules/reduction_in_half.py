"""AMP406: squares, exponentials and sums of a loss in float16, outside of autocast."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.leaving import growing
from ampify.model.step import FileModel
from ampify.rewrite.repair import floated, shown
from ampify.rule import Finding, rule


@rule("AMP406", "reduction-in-half", Severity.WARNING, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in growing(model):
        message = f"`{shown(tree, found.node)}` runs in float16 here, outside of autocast, and overflows above 65504"
        yield Finding(tree.span(found.node), message, floated(tree, found.tensor))
