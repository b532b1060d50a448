"""AMP229: a scaler refuses a number."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.scalers import Limit, numbers
from ampify.model.step import FileModel
from ampify.rewrite.repair import shown
from ampify.rule import Finding, rule

LIMITS = {
    Limit.GROWTH: "`growth_factor` must be greater than 1",
    Limit.BACKOFF: "`backoff_factor` must be less than 1",
    Limit.SCALE: "`update` takes a float",
}


@rule("AMP229", "invalid-scaler-configuration", Severity.ERROR, needs.SCALER)
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for found in numbers(model):
        yield Finding(tree.span(found.value), f"{LIMITS[found.limit]}, and this is `{shown(tree, found.value)}`")
