"""AMP121: `amp.initialize` of Apex, which torch.amp has no need of."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.apex import INITIALIZE, ApexUse
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule

MEANT = ("'dynamic'", '"dynamic"')
LOST = {
    "loss_scale": "a `GradScaler` backs off and skips steps whatever scale it begins with",
    "min_loss_scale": "a `GradScaler` has no least scale",
    "max_loss_scale": "a `GradScaler` has no greatest scale",
    "cast_model_outputs": "`torch.autocast` leaves outputs as they are",
    "patch_torch_functions": "`torch.autocast` decides that by itself",
}
"""What has no counterpart in torch.amp."""


@rule("AMP121", "apex-initialize", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    use = migration.use
    if use.path == "apex.amp.initialize":
        message = "`amp.initialize` is gone; torch.amp has a `GradScaler`, and `torch.autocast` around the forward"
        yield from migrated(migration, message, *_lost(use))


def _lost(use: ApexUse) -> Iterator[str]:
    """What the arguments asked for that torch.amp does not do."""
    for name, lost in LOST.items():
        if (given := use.text(name, INITIALIZE)) not in (None, "None", *MEANT):
            yield f"`{name}={given}`: {lost}"
