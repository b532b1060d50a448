"""AMP127: the state of Apex in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule


@rule("AMP127", "apex-amp-state-dict", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    if migration.use.path in ("apex.amp.state_dict", "apex.amp.load_state_dict"):
        message = "The state of Apex is gone; the `GradScaler` has a state of its own"
        lost = "checkpoints of Apex still load, without their loss scale; `ampify explain AMP127` shows how to read it"
        yield from migrated(migration, message, lost)
