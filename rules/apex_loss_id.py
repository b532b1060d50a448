"""AMP125: several loss scalers of Apex, which one `GradScaler` replaces."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.apex import INITIALIZE, SCALE_LOSS
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule


@rule("AMP125", "apex-loss-id", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    use = migration.use
    match use.path:
        case "apex.amp.initialize" if use.text("num_losses", INITIALIZE) not in (None, "1"):
            name = "num_losses"
        case "apex.amp.scale_loss" if use.text("loss_id", SCALE_LOSS) is not None:
            name = "loss_id"
        case _:
            return
    yield from migrated(migration, f"`{name}`: one `GradScaler` serves all losses")
