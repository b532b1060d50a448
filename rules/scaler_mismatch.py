"""AMP215: a loss is scaled by one scaler, and its gradients are divided by another."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule


@rule("AMP215", "scaler-mismatch", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.OTHER_SCALER:
            message = f"`{shown(tree, found.act.node)}` is not of the scaler that has scaled the loss"
            notes = (Note("it is scaled here", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, notes=notes)
