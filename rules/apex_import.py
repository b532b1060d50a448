"""AMP120: an import of what was removed from NVIDIA Apex."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule


@rule("AMP120", "apex-import", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    if migration.use.is_import:
        package = ".".join(migration.use.path.split(".")[:2])
        yield from migrated(migration, f"`{package}` was removed from Apex in May 2025; torch has its own")
