"""AMP702: a scaler of one's own where a framework scales, or goes backward, itself."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.doubled import doubled
from ampify.model.step import FileModel
from ampify.rule import Finding, rule


@rule("AMP702", "manual-amp-inside-framework", Severity.ERROR, needs.STEP)
def check(model: FileModel) -> Iterator[Finding]:
    for found in doubled(model):
        message = f"A `GradScaler` is used inside the training of {found.framework.name}, which does this itself"
        yield Finding(model.code.tree.span(found.act.node), message, notes=(Note(found.reason, found.where),))
