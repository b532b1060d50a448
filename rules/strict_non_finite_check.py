"""AMP223: a check raises where the scaler would skip the step."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.scalers import strict_checks
from ampify.model.step import TrainingStep
from ampify.rewrite.repair_scaler import lenient
from ampify.rule import Finding, rule


@rule("AMP223", "strict-non-finite-check", Severity.ERROR)
def check(step: TrainingStep) -> Iterator[Finding]:
    tree = step.tree
    for found in strict_checks(step):
        message = "`error_if_nonfinite=True` makes an error of the overflow that the scaler would skip"
        yield Finding(tree.span(found.argument), message, lenient(step, found))
