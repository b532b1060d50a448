"""AMP507: a generator or coroutine is suspended inside an autocast region, or decorated with one."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.misplaced import suspended
from ampify.model.step import FileModel
from ampify.rule import Finding, rule


@rule("AMP507", "yield-in-autocast", Severity.WARNING, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in suspended(model):
        notes = (Note("autocast is entered here", tree.head(found.region)),)
        if found.decorates:
            message = f"Autocast is off in a function that has a `{found.word}`, in spite of this decorator"
            yield Finding(tree.span(found.region), message, severity=Severity.ERROR)
        else:
            message = f"This `{found.word}` leaves the function with autocast on, for whatever runs next"
            yield Finding(tree.span(found.node), message, notes=notes)
