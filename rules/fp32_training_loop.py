from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.rewrite.plan import Decision, RewritePlan
from ampify.rule import Finding, rule


@rule("AMP001", "fp32-training-loop", Severity.INFO)
def check(decision: Decision) -> Iterator[Finding]:
    if isinstance(decision.outcome, RewritePlan):
        step = decision.step
        notes = tuple(Note("the optimizer is made here", step.tree.head(h.after)) for h in step.reach.homes)
        yield Finding(step.span, "This training step runs in float32", decision.outcome.fix, notes)
