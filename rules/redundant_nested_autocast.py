"""AMP515: an autocast region inside one with the same arguments."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.misplaced import nested
from ampify.model.step import FileModel
from ampify.rewrite.regions import unnested
from ampify.rule import Finding, rule


@rule("AMP515", "redundant-nested-autocast", Severity.INFO, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in nested(model):
        notes = (Note("the outer region begins here", tree.head(found.outer)),)
        yield Finding(
            tree.head(found.inner), "This autocast region repeats the one around it", unnested(tree, found), notes
        )
