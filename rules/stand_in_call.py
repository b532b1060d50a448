"""AMP233: what stands in for AMP where it cannot be imported does not take a call."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.stand_ins import refused
from ampify.model.step import FileModel
from ampify.rule import Finding, rule


@rule("AMP233", "stand-in-call", Severity.WARNING, (*needs.SCALER, *needs.AUTOCAST))
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in refused(model):
        name = found.stand_in.name.value
        message = f"Where AMP cannot be imported, `{name}` is a stand-in that does not take this call: {found.why}"
        yield Finding(tree.span(found.call), message, None, (Note("the stand-in", tree.head(found.stand_in)),))
