"""AMP511: a checkpoint does not say how it recomputes."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.small_print import open_checkpoints
from ampify.model.step import FileModel
from ampify.rule import Finding, rule


@rule("AMP511", "checkpoint-use-reentrant", Severity.INFO, (("utils.checkpoint", f"autocast|{needs.IDLE}"),))
def check(model: FileModel) -> Iterator[Finding]:
    for call in open_checkpoints(model):
        message = "This checkpoint does not say `use_reentrant`; both ways keep autocast as it was"
        yield Finding(model.code.tree.span(call), message)
