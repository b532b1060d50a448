"""AMP102: `torch.cuda.amp.GradScaler`, which `torch.amp.GradScaler` replaces."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse
from ampify.rewrite.successor import Successor, replace
from ampify.rule import Finding, rule, table

SCALER = Successor.of(table(__file__))


@rule("AMP102", "deprecated-cuda-amp-gradscaler", Severity.WARNING, needs.SCALER)
def check(use: ApiUse) -> Iterator[Finding]:
    if SCALER.succeeds(use):
        message = '`torch.cuda.amp.GradScaler` is deprecated since PyTorch 2.4; use `torch.amp.GradScaler("cuda", ...)`'
        yield Finding(use.span, message, replace(use, SCALER, "AMP102"))
