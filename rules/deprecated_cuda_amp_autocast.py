"""AMP101: `torch.cuda.amp.autocast`, which `torch.autocast` replaces."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse
from ampify.rewrite.successor import Successor, replace
from ampify.rule import Finding, rule, table

AUTOCAST = Successor.of(table(__file__))


@rule("AMP101", "deprecated-cuda-amp-autocast", Severity.WARNING, needs.AUTOCAST)
def check(use: ApiUse) -> Iterator[Finding]:
    if AUTOCAST.succeeds(use):
        message = (
            '`torch.cuda.amp.autocast` is deprecated since PyTorch 2.4; use `torch.autocast(device_type="cuda", ...)`'
        )
        yield Finding(use.span, message, replace(use, AUTOCAST, "AMP101"))
