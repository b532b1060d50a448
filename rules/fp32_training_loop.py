from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.flags import Unheard
from ampify.rewrite.plan import Decision, RewritePlan
from ampify.rule import Finding, rule


@rule("AMP001", "fp32-training-loop", Severity.INFO)
def check(decision: Decision) -> Iterator[Finding]:
    if isinstance(plan := decision.outcome, RewritePlan):
        step = decision.step
        notes = [Note("the optimizer is made here", step.tree.head(h.after)) for h in step.reach.homes]
        if plan.unheard is not None:
            notes.append(Note(_unheard(plan.unheard), step.tree.head(plan.unheard.option.node)))
        yield Finding(step.span, "This training step runs in float32", plan.fix, tuple(notes))


def _unheard(unheard: Unheard) -> str:
    option, doubt = unheard.option.spelled, unheard.doubt
    reason = f"`{doubt}` may read it already" if doubt else "it cannot be read everywhere that autocast is switched on"
    return f"`{option}` is not made to switch mixed precision: {reason}"
