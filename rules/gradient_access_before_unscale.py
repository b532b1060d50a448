"""AMP207: gradients are used while they are scaled."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to
from ampify.rewrite.repair_scaler import unscale_before_use
from ampify.rule import Finding, rule

USES = {Wrong.READ: (Severity.WARNING, "read"), Wrong.WRITE: (Severity.ERROR, "changed")}


@rule("AMP207", "gradient-access-before-unscale", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong in USES:
            severity, verb = USES[found.wrong]
            message = f"Gradients are {verb} while they are multiplied by the loss scale{path_to(found)}"
            notes = (Note("they are scaled here", tree.span(found.other.node)),) if found.other else ()
            span = tree.head(found.act.node)
            yield Finding(span, message, unscale_before_use(step, found), notes, severity)
