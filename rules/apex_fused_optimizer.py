"""AMP131: fused optimizers of Apex that torch has as well."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse
from ampify.rewrite.fused import called, in_torch
from ampify.rule import Finding, rule, table

OPTIMIZERS = table(__file__)


@rule("AMP131", "apex-fused-optimizer", Severity.INFO, needs.APEX)
def check(use: ApiUse) -> Iterator[Finding]:
    if name := called(use, OPTIMIZERS):
        message = f"`{name}` of Apex has a counterpart in torch: `{OPTIMIZERS[name]['new']}`"
        yield Finding(use.span, message, in_torch(use, OPTIMIZERS, "AMP131"))
