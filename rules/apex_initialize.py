"""AMP121: `amp.initialize` of Apex, which torch.amp has no need of."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, rule


@rule("AMP121", "apex-initialize", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    if migration.use.path == "apex.amp.initialize":
        yield Finding(migration.use.span, "x " + str(migration.reason), migration.fix)
