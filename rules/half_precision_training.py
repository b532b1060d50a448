"""AMP301: a whole model is cast to half precision and trained so, without float32 weights behind it."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.halved import halved
from ampify.model.step import TrainingStep
from ampify.rewrite.repair import shown, without_casts
from ampify.rule import Finding, rule


@rule("AMP301", "half-precision-training", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in (h for h in halved(step) if not h.in_loop):
        dtype, severity = ("bfloat16", Severity.WARNING) if found.cast.bfloat16 else ("float16", Severity.ERROR)
        message = f"The model is trained in {dtype}, where small updates are lost: `{shown(tree, found.cast.call)}`"
        notes = (Note("this optimizer steps its weights", tree.span(found.optimizer)),)
        fix = without_casts(tree, (found.cast, *found.inputs))
        yield Finding(tree.span(found.cast.call), message, fix, notes, severity)
