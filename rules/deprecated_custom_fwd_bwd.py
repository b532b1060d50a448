"""AMP104: `custom_fwd` and `custom_bwd` of `torch.cuda.amp`, which those of `torch.amp` replace."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse
from ampify.rewrite.successor import Successor, replace
from ampify.rule import Finding, rule, table

ROWS = {name: Successor.of(row) for name, row in table(__file__).items()}


@rule("AMP104", "deprecated-custom-fwd-bwd", Severity.WARNING, needs.CUSTOM)
def check(use: ApiUse) -> Iterator[Finding]:
    for name, row in ROWS.items():
        if row.succeeds(use):
            message = f"`torch.cuda.amp.{name}` is deprecated since PyTorch 2.4; use `{row.new[0]}({row.device})`"
            yield Finding(use.span, message, replace(use, row, "AMP104"))
