"""AMP512: a compiled module whose backward runs under the autocast of its forward."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.compiled import compiled
from ampify.model.step import TrainingStep
from ampify.rule import Finding, rule

MESSAGE = (
    "The backward of this compiled module runs under autocast as well, unless "
    '`torch._functorch.config.backward_pass_autocast = "off"`'
)


@rule("AMP512", "compiled-backward-autocast", Severity.INFO)
def check(step: TrainingStep) -> Iterator[Finding]:
    for found in compiled(step):
        notes = (Note("its forward runs in float16 here", step.tree.head(found.region)),)
        yield Finding(step.tree.span(found.made), MESSAGE, notes=notes)
