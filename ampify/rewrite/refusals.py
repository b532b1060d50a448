"""Findings for training steps that are left in float32: what the rules AMP010 to AMP021 have in common."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Note
from ampify.rewrite.plan import Decision
from ampify.rule import Finding


def refused(decision: Decision, code: str) -> Iterator[Finding]:
    """The finding at the head of the step, with a note at the place that stands in the way."""
    if (obstacle := decision.refused(code)) is not None:
        message = f"This training step is left in float32: {obstacle.reason}"
        yield Finding(decision.step.span, message, notes=(Note("this stands in the way", obstacle.span),))
