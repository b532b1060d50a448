"""AMP707: a training step that steps through XLA is left as it is."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.plan import Decision
from ampify.rule import Finding, refused, rule


@rule("AMP707", "xla-device", Severity.INFO)
def check(decision: Decision) -> Iterator[Finding]:
    yield from refused(decision, "AMP707")
