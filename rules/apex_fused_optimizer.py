"""AMP131: fused optimizers of Apex that torch has as well."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse, How
from ampify.rewrite.fused import in_torch
from ampify.rule import Finding, rule, table

OPTIMIZERS = table(__file__)
PACKAGE = "apex.optimizers."


@rule("AMP131", "apex-fused-optimizer", Severity.INFO)
def check(use: ApiUse) -> Iterator[Finding]:
    names = {path.rpartition(".")[2] for path in use.paths if path.startswith(PACKAGE)}
    if use.how is How.CALL and len(use.paths) == 1 and names & {*OPTIMIZERS}:
        (name,) = names
        row = OPTIMIZERS[name]
        yield Finding(use.span, f"`{name}` of Apex has a counterpart in torch: `{row['new']}`", in_torch(use, row))
