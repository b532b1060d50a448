"""AMP126: `amp.master_params` of Apex."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule


@rule("AMP126", "apex-master-params", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    if migration.use.path == "apex.amp.master_params":
        message = "`amp.master_params` is gone; the parameters of the optimizer are what it gave"
        yield from migrated(migration, message)
