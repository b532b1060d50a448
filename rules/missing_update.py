"""AMP210: an iteration ends without `update`."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, shown, update
from ampify.rule import Finding, rule


@rule("AMP210", "missing-update", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    late = [found for found in step.violations if found.wrong is Wrong.MISSING_UPDATE]
    if late:
        last = max(late, key=lambda found: tree.span(found.act.node).start)
        message = f"The iteration ends after `{shown(tree, last.act.node)}` and before `update`{path_to(last)}"
        yield Finding(tree.span(last.act.node), message, update(step, late))
