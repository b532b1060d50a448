"""AMP508: a model runs in threads that autocast does not reach."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.step import FileModel
from ampify.model.threads import threaded
from ampify.rule import Finding, rule


@rule("AMP508", "autocast-thread", Severity.WARNING, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in threaded(model):
        message = "Autocast is off in the threads that this starts, so the model runs in float32 there"
        if found.replicas:
            message = "The replicas of `DataParallel` run in float16: only that autocast is on gets to their threads"
        notes = (Note("the region begins here", tree.head(found.region)),)
        yield Finding(tree.span(found.call), message, notes=notes)
