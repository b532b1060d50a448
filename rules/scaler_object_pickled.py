"""AMP603: a scaler itself is saved, not its state."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.scaler_objects import pickled
from ampify.model.step import FileModel
from ampify.rewrite.repair import shown
from ampify.rewrite.scaler_states import state_of
from ampify.rule import Finding, rule


@rule("AMP603", "scaler-object-pickled", Severity.WARNING, needs.SCALER)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in pickled(model):
        message = f"The scaler `{shown(tree, found.scaler)}` itself is saved, which `torch.load` refuses to read"
        notes = (Note("it is saved here", tree.span(found.call.func)),)
        yield Finding(tree.span(found.scaler), message, state_of(tree, found), notes)
