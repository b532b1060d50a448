"""AMP307: float16 is made the default dtype of a program that trains."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.halved import half_defaults
from ampify.model.step import FileModel
from ampify.rewrite.repair import without_statement
from ampify.rule import Finding, rule


@rule("AMP307", "half-default-dtype", Severity.ERROR, (("set_default_dtype|set_default_tensor_type",),))
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for call in half_defaults(model):
        message = "All parameters made from here on are float16; train with float32 weights under autocast"
        yield Finding(tree.span(call), message, without_statement(tree, call))
