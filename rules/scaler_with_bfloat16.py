"""AMP218: a scaler for losses in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.loss_regions import needless
from ampify.model.step import FileModel
from ampify.rewrite.repair_scaler import switch_off
from ampify.rule import Finding, rule


@rule("AMP218", "scaler-with-bfloat16", Severity.WARNING, needs.SCALER)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in needless(model):
        if found.when:
            path = " and ".join(f"`{text}` is {'true' if truth else 'false'}" for text, truth in found.when)
            message = f"Where {path} the losses are in bfloat16, which needs no scaling, but this scaler stays on"
        else:
            message = "This scaler is for losses in bfloat16, whose small gradients need no scaling"
        fix = None if found.when else switch_off(tree, found.call)
        notes = (Note("they are computed in bfloat16 here", tree.head(found.region)),)
        yield Finding(tree.span(found.call), message, fix, notes)
