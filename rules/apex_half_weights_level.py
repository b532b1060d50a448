"""AMP123: an Apex level whose weights are in half precision."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule

KEPT = {
    "2": "weights and gradients take more memory than at O2; operations are cast one by one, as at O1",
    "3": "what was all float16 becomes mixed precision: it is slower, and it trains",
}
"""What is lost, by the number of the level; `02` for `O2` is a common slip."""


@rule("AMP123", "apex-half-weights-level", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    use = migration.use
    level = use.level() if use.path == "apex.amp.initialize" else None
    if level is not None and level[-1:] in KEPT:
        message = f"Apex `{level}` kept its weights in float16; `torch.autocast` keeps them in float32"
        yield from migrated(migration, message, KEPT[level[-1]])
