"""AMP311: a result of autocast meets float32 in a matrix product outside of it."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.leaving import meetings
from ampify.model.step import FileModel
from ampify.rewrite.repair import floated, shown
from ampify.rule import Finding, rule


@rule("AMP311", "autocast-result-escapes", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in meetings(model):
        tensor = shown(tree, found.tensor)
        message = f"`{tensor}` is in half precision and meets float32 here, where autocast does not cast it"
        yield Finding(tree.span(found.node), message, floated(tree, found.tensor))
