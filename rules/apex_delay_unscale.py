"""AMP124: `delay_unscale` of Apex, which torch.amp does not need."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.apex import SCALE_LOSS
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule

NOT_NEEDED = ("delay_unscale", "delay_overflow_check")


@rule("AMP124", "apex-delay-unscale", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    use = migration.use
    given = [name for name in NOT_NEEDED if use.text(name, SCALE_LOSS) not in (None, "False")]
    if use.path == "apex.amp.scale_loss" and given:
        message = f"`{given[0]}` has no counterpart: gradients stay scaled until `unscale_` or `step`"
        yield from migrated(migration, message)
