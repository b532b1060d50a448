"""AMP208: `unscale_` runs more often than `update`."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, shown
from ampify.rule import Finding, rule


@rule("AMP208", "unscale-more-than-once", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        match found.wrong:
            case Wrong.UNSCALE_AGAIN:
                what, where = "runs again before `update`", "the first time"
            case Wrong.BACKWARD_AFTER_UNSCALE:
                what, where = "runs before the last backward of the step", "this adds scaled gradients to unscaled ones"
            case _:
                continue
        message = f"`{shown(tree, found.act.node)}` {what}{path_to(found)}"
        notes = (Note(where, tree.span(found.other.node)),) if found.other not in (None, found.act) else ()
        yield Finding(tree.span(found.act.node), message, notes=notes)
