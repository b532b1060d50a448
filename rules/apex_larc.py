"""AMP134: parts of Apex that torch has nothing for."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule


@rule("AMP134", "apex-larc", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    use = migration.use
    name = use.path.rpartition(".")[2]
    if not use.is_import and (use.path.startswith("apex.RNN.") or use.path == "apex.parallel.LARC"):
        yield from migrated(migration, f"`{name}` was removed from Apex, and torch has nothing like it")
