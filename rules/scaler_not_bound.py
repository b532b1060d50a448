"""AMP232: a scaler is used on a path on which it was never made."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.step import FileModel
from ampify.model.unbound import unbound
from ampify.rule import Finding, rule


@rule("AMP232", "scaler-not-bound", Severity.ERROR, needs.SCALER)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in unbound(model):
        path = " and ".join(f"`{text}` is {'true' if truth else 'false'}" for text, truth in found.when)
        message = f"Where {path}, no scaler was made: `{found.name.value}` is not bound here"
        yield Finding(tree.span(found.name), message, None, (Note("it is made here", tree.head(found.made)),))
