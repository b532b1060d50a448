"""AMP221: gradients are cleared before they are used."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.step import TrainingStep
from ampify.model.violation import Wrong
from ampify.rewrite.repair import path_to, shown
from ampify.rule import Finding, rule


@rule("AMP221", "zero-grad-before-step", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in step.violations:
        if found.wrong is Wrong.CLEARED:
            message = f"`{shown(tree, found.act.node)}` clears gradients between backward and step{path_to(found)}"
            notes = (Note("this step has none", tree.span(found.other.node)),) if found.other else ()
            yield Finding(tree.span(found.act.node), message, notes=notes)
