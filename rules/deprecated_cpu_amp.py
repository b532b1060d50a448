"""AMP103: `torch.cpu.amp`, whose classes `torch.autocast` and `torch.amp.GradScaler` replace."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse
from ampify.rewrite.successor import Successor, replace
from ampify.rule import Finding, rule, table

ROWS = {name: Successor.of(row) for name, row in table(__file__).items()}


@rule("AMP103", "deprecated-cpu-amp", Severity.WARNING, (*needs.AUTOCAST, *needs.SCALER))
def check(use: ApiUse) -> Iterator[Finding]:
    for name, row in ROWS.items():
        if row.succeeds(use):
            new = f"{row.new[0]}({row.device}, ...)"
            message = f"`torch.cpu.amp.{name}` is deprecated since PyTorch 2.4; use `{new}`"
            yield Finding(use.span, message, replace(use, row, "AMP103"))
