"""AMP116: autocast that is entered and never left."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.entered import left_open
from ampify.model.step import FileModel
from ampify.rule import Finding, rule


@rule("AMP116", "unpaired-autocast-enter", Severity.ERROR, (("autocast", "__enter__"),))
def check(model: FileModel) -> Iterator[Finding]:
    for span in left_open(model.code):
        yield Finding(span, "Autocast is entered and never left, so it stays on and its cache of weights is kept")
