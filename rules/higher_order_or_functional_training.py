from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.plan import Decision
from ampify.rule import Finding, refused, rule


@rule("AMP012", "higher-order-or-functional-training", Severity.INFO)
def check(decision: Decision) -> Iterator[Finding]:
    yield from refused(decision, "AMP012")
