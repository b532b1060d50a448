"""AMP304: what a module is given in an autocast region is cast to half precision by hand."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.casts import half_inputs
from ampify.model.step import FileModel
from ampify.rewrite.repair import shown, without_cast
from ampify.rule import Finding, rule


@rule("AMP304", "half-inputs-under-autocast", Severity.WARNING, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for cast in half_inputs(model):
        message = f"Autocast casts inputs where it helps; this loses precision before: `{shown(tree, cast.call)}`"
        yield Finding(tree.span(cast.call), message, without_cast(tree, cast))
