"""AMP604: the state of a scaler is loaded though it may be empty."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.scaler_objects import maybe_empty
from ampify.model.step import FileModel
from ampify.rewrite.scaler_states import if_any
from ampify.rule import Finding, rule


@rule("AMP604", "empty-scaler-state", Severity.WARNING, needs.SCALER)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in maybe_empty(model):
        message = "This raises where the state is of a run with mixed precision off, for then it is empty"
        notes = (
            Note("whether the scaler is on is an option", tree.span(found.made)),
            Note("the state is saved in either case", tree.span(found.saved)),
        )
        yield Finding(tree.span(found.load), message, if_any(tree, found), notes)
