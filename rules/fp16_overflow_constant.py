"""AMP403: a number beyond the range of float16 for a tensor that autocast leaves in float16."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.constants import overflows
from ampify.model.step import FileModel
from ampify.rewrite.repair import extreme, shown
from ampify.rule import Finding, rule


@rule("AMP403", "fp16-overflow-constant", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in overflows(model):
        tensor, number = shown(tree, found.tensor), shown(tree, found.node)
        what = "which raises" if found.raises else "which makes it infinite"
        message = f"`{tensor}` is in float16 here, and `{number}` is beyond its range (65504), {what}"
        severity = Severity.ERROR if found.raises else Severity.WARNING
        yield Finding(tree.span(found.node), message, extreme(model.code, found), severity=severity)
