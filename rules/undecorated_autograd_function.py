"""AMP510: an autograd function multiplies matrices under autocast without `custom_fwd` and `custom_bwd`."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.step import FileModel
from ampify.model.undecorated import undecorated
from ampify.rewrite.repair import decorated
from ampify.rule import Finding, rule


@rule("AMP510", "undecorated-autograd-function", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in undecorated(model):
        message = "This runs under autocast, and its `backward` does not; decorate both with `custom_fwd`, `custom_bwd`"
        notes = (Note("it is applied here", tree.span(found.applied)),)
        yield Finding(tree.span(found.forward.name), message, decorated(model, found), notes)
