"""AMP404: a guard against division by zero that is itself zero in float16."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.constants import underflows
from ampify.model.step import FileModel
from ampify.rewrite.repair import floated, shown
from ampify.rule import Finding, rule


@rule("AMP404", "fp16-underflow-eps", Severity.WARNING, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in underflows(model):
        message = f"`{shown(tree, found.tensor)}` is in float16, where this guard against zero is 0 itself"
        yield Finding(tree.span(found.node), message, floated(tree, found.tensor))
