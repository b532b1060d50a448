"""AMP704: a plain scaler steps a model whose gradients FSDP shards."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.sharded import unsharded
from ampify.model.step import TrainingStep
from ampify.rule import Finding, rule


@rule("AMP704", "fsdp-needs-sharded-scaler", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    for found in unsharded(step):
        message = "With sharded gradients each rank skips steps on its own; FSDP needs a `ShardedGradScaler`"
        notes = (Note("the model is sharded here", step.tree.span(found.wrapper)),)
        yield Finding(step.tree.span(found.made), message, notes=notes)
