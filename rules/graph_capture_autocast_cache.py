"""AMP513: a graph is captured under autocast that keeps casts of the weights."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.misplaced import captured
from ampify.model.step import FileModel
from ampify.rewrite.regions import without_cache
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP513", "graph-capture-autocast-cache", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in captured(model):
        message = f"`{shown(tree, found.call.func)}` raises under autocast that keeps casts of weights"
        notes = (Note("the region begins here", tree.head(found.region)),)
        yield Finding(tree.span(found.call), message, without_cache(model.code, found.region), notes)
