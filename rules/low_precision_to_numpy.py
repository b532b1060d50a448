"""AMP308: a half-precision result of autocast becomes an array of NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.leaving import arrays
from ampify.model.step import FileModel
from ampify.rewrite.repair import floated, shown
from ampify.rule import Finding, rule


@rule("AMP308", "low-precision-to-numpy", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found, bfloat16 in arrays(model):
        tensor = shown(tree, found.tensor)
        message = f"`{tensor}` is in float16 here, and the array will be"
        if bfloat16:
            message = f"`{tensor}` is in bfloat16 here, which NumPy does not have"
        severity = Severity.ERROR if bfloat16 else Severity.INFO
        yield Finding(tree.span(found.node), message, floated(tree, found.tensor, safe=bfloat16), severity=severity)
