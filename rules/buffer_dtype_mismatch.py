"""AMP310: a half-precision result is put into a float32 tensor by index."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.step import FileModel
from ampify.model.strict import buffers
from ampify.rewrite.repair import like, shown
from ampify.rule import Finding, rule


@rule("AMP310", "buffer-dtype-mismatch", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in buffers(model):
        value = shown(tree, found.operand)
        message = f"`{value}` is in half precision, and the float32 tensor it is put into by index takes no other dtype"
        yield Finding(tree.span(found.node), message, like(tree, found))
