"""AMP122: `amp.scale_loss` of Apex, which `scaler.scale(loss)` replaces."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule


@rule("AMP122", "apex-scale-loss", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    if migration.use.path == "apex.amp.scale_loss":
        yield from migrated(migration, "`amp.scale_loss` is gone; `scaler.scale(loss).backward()` takes its place")
