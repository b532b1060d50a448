"""Where two runs of the reference differ: whether the candidate is at least as near to it as reruns are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ampify.verify.arms import Arm, Runs
from ampify.verify.endings import failure
from ampify.verify.numerics import FACTOR, FLOOR
from ampify.verify.record import Outcome
from ampify.verify.traces import Deviation, Trace, deviation

RERUNS = 3


def band(runs: Runs, reference: Arm, candidate: Arm) -> str:
    """In words: how far the candidate is from the reference, in units of the farthest of three reruns."""
    fields: dict[str, Any] = {"sketch": True, "watch": {}}
    arm = reference.but("band reference", **fields)
    first, *others = (runs.run(arm, again) for again in range(RERUNS + 1))
    other = runs.run(candidate.but(f"band {candidate.name}", **fields))
    for outcome in (first, *others, other):
        if flaw := failure(outcome):
            return f"no band: {flaw.type}: {flaw.message}"
    near = [_deviation(first, each) for each in others]
    return _words(dict(_ratios(_deviation(first, other), near)))


def _deviation(reference: Outcome, other: Outcome) -> Deviation:
    trace = Trace(reference.record)
    return deviation(trace, Trace(other.record), trace)


def _ratios(found: Deviation, near: list[Deviation]) -> Iterator[tuple[str, float]]:
    yield "loss", _ratio(found.loss, [each.loss for each in near])
    for o in found.gradients:
        yield f"gradients of optimizer {o}", _ratio(found.gradients[o], [each.gradients.get(o, 0.0) for each in near])
        yield (
            f"parameters of optimizer {o}",
            _ratio(found.parameters[o], [each.parameters.get(o, 0.0) for each in near]),
        )


def _ratio(value: float, near: list[float]) -> float:
    return value / max(*near, FLOOR)


def _words(ratios: dict[str, float]) -> str:
    inside = all(ratio <= FACTOR for ratio in ratios.values())
    worst = max(ratios, key=lambda name: ratios[name])
    where = "as near as reruns of the reference are" if inside else "farther than reruns of the reference are"
    return f"{where}: {worst} {ratios[worst]:.2g} times as far as the farthest of {RERUNS}"
