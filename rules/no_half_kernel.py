"""AMP407: an operator without a half-precision kernel is given a half-precision tensor."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.step import FileModel
from ampify.model.strict import without_kernel
from ampify.rewrite.repair import floated, shown
from ampify.rule import Finding, rule


@rule("AMP407", "no-half-kernel", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found, some_sizes in without_kernel(model):
        operand = shown(tree, found.operand)
        message = f"`{operand}` is in half precision, and this operator has no kernel for it on CUDA"
        if some_sizes:
            message = f"`{operand}` is in half precision, which Fourier transforms take in powers of two only"
        severity = Severity.WARNING if some_sizes else Severity.ERROR
        yield Finding(tree.span(found.node), message, floated(tree, found.operand), severity=severity)
