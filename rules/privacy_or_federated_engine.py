"""AMP710: a training step whose gradients a privacy engine clips is left in float32."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.plan import Decision
from ampify.rule import Finding, refused, rule


@rule("AMP710", "privacy-or-federated-engine", Severity.INFO)
def check(decision: Decision) -> Iterator[Finding]:
    yield from refused(decision, "AMP710")
