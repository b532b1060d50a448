"""AMP509: a module runs without gradients and then with them in one autocast region, where casts are shared."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.misplaced import starved
from ampify.model.step import FileModel
from ampify.rewrite.regions import without_cache
from ampify.rule import Finding, rule
from ampify.source.edits import Applicability


@rule("AMP509", "no-grad-forward-in-region", Severity.WARNING, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in starved(model):
        message = "This forward uses casts of weights that were made without gradients, so the weights get none"
        notes = (
            Note("they were made here", tree.span(found.without)),
            Note("the region begins here", tree.head(found.region)),
        )
        fix = without_cache(model.code, found.region, Applicability.UNSAFE)
        yield Finding(tree.span(found.trained), message, fix, notes)
