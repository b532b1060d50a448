"""AMP128: `apex.fp16_utils`, which autocast replaces."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule


@rule("AMP128", "apex-fp16-optimizer", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    use = migration.use
    if use.path.startswith("apex.fp16_utils.") and not use.is_import:
        name = use.path.rpartition(".")[2]
        message = f"`{name}` is gone; `torch.autocast` and a `GradScaler` leave the weights in float32"
        yield from migrated(migration, message)
