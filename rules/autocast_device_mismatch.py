"""AMP505: an autocast region for a device that the model is never on."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.step import FileModel
from ampify.model.whereabouts import elsewhere
from ampify.rewrite.regions import for_device
from ampify.rule import Finding, rule


@rule("AMP505", "autocast-device-mismatch", Severity.WARNING, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in elsewhere(model):
        there = " or ".join(f"`{kind}`" for kind in sorted(found.there))
        message = f"Autocast for `{found.wanted}` does nothing here: the model is on {there}"
        notes = (Note("it is moved here", tree.span(found.moved)),)
        yield Finding(tree.span(found.call), message, for_device(tree, found), notes)
