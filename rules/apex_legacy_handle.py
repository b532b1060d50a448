"""AMP133: the handle of the Apex of 2018."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule


@rule("AMP133", "apex-legacy-handle", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    if migration.use.path == "apex.amp.init":
        yield from migrated(
            migration, "`amp.init` is an error since 2019; torch.amp has a `GradScaler` and `torch.autocast`"
        )
