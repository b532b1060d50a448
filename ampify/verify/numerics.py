"""L3: whether training with AMP on stays within what rounding to its dtype explains. Arithmetic only, no torch.

The reference is run again with every matrix operation rounded at random to the short mantissa, exponents untouched: the
null model. What a correct conversion costs by precision lies within such runs; anything beyond is range or a mistake.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ampify.verify.arms import Arm
from ampify.verify.endings import failure
from ampify.verify.record import Outcome, Start
from ampify.verify.request import Request
from ampify.verify.traces import Deviation, Trace, deviation, norm

Run = Callable[[Arm], Outcome]
Status = Literal["holds", "fails", "not run"]

STEPS = 20
NULLS, WIDE, MORE = 3, 4, 16
"""Runs of the null model: with the dtype's own mantissa, with 2 bits less, and more of the latter before L3 fails."""
FACTOR = 3.0
"""A statistic must exceed the null model so many times, and the wider one besides: no false alarm in 540 runs."""
FLOOR = 2.0**-20
"""What float32 itself may cost; less is no finding."""
UNSAFE = 0.3
OFTEN = 0.25
"""Share of skipped steps that is worth a note, after the first `SETTLING` attempts, in which a scale may settle."""
SETTLING = 5
SHOWN = 5

BASE: Mapping[str, Any] = {"masks": True, "sketch": True}
"""What all L3 runs have in common: random numbers do not depend on the dtype."""
LOW = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Statistic:
    """A relative deviation of the candidate, and the largest of the null model and of the wider one."""

    name: Literal["gradients", "parameters", "loss"]
    optimizer: int | None
    value: float
    null: float
    wide: float

    @property
    def ratio(self) -> float:
        """The deviation in units of the null model."""
        return self.value / self.null if self.null else (math.inf if self.value else 0.0)

    @property
    def exceeds(self) -> bool:
        return not self.value <= max(FACTOR * self.null, self.wide, FLOOR)


@dataclass(frozen=True, slots=True)
class Layer:
    """The deviation of one parameter's first gradient, and the largest of the null model."""

    name: str
    value: float
    null: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericsResult:
    """What L3 found. ``share``: of the floating point operations of matrix work those in a low dtype."""

    status: Status
    summary: str
    dtype: str | None = None
    device: str = ""
    share: float | None = None
    statistics: tuple[Statistic, ...] = ()
    layers: tuple[Layer, ...] = ()
    skipped: int = 0
    attempts: int = 0
    escalated: bool = False
    notes: tuple[str, ...] = ()
    losses: Mapping[str, tuple[float, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs that follow from what the candidate did."""

    control: Arm
    nulls: tuple[Arm, ...]
    wide: tuple[Arm, ...]
    more: tuple[Arm, ...]


def measure(run: Run, request: Request) -> NumericsResult:
    """L3: run the candidate with AMP on, its control, and the null model; then judge."""
    candidate, notes = _candidate(run, request)
    found = _unusable(candidate, notes)
    if found:
        return found
    outcomes = plan(candidate.outcome, request, candidate.dtype or "")
    control = run(outcomes.control)
    if flaw := failure(control):
        return _not_run(f"the reference does not run: {flaw.type}: {flaw.message}", notes)
    nulls, wide = ([run(arm) for arm in arms] for arms in (outcomes.nulls, outcomes.wide))
    result = judge(candidate, control, nulls, wide)
    if result.status == "fails" and any(statistic.exceeds for statistic in result.statistics):
        result = replace(judge(candidate, control, nulls, [*wide, *map(run, outcomes.more)]), escalated=True)
    return replace(result, notes=(*notes, *result.notes))


@dataclass(frozen=True, slots=True)
class Engaged:
    """A run of the candidate, and how much of its matrix work was done in which low dtype."""

    outcome: Outcome

    @property
    def flops(self) -> Counter[str]:
        """By dtype."""
        found: Counter[str] = Counter()
        for event in self.outcome.record.named("ops"):
            for name, count in event.items():
                found[name.rpartition(":")[2]] += max(1, count["flops"])
        return found

    @property
    def dtype(self) -> str | None:
        """The low dtype that does most of the work."""
        flops = self.flops
        return max((dtype for dtype in LOW if flops[dtype]), key=flops.__getitem__, default=None)

    @property
    def share(self) -> float:
        """Of the work in low dtypes, from 0 to 1."""
        total = self.flops.total()
        return sum(self.flops[dtype] for dtype in LOW) / total if total else 0.0

    @property
    def device(self) -> str:
        return next((start.cuda or "CPU" for start in self.outcome.record.of(Start)), "CPU")


def candidate_arm(request: Request, **fields: Any) -> Arm:
    """The candidate with AMP as it asks for it, or in the dtype that the request asks for."""
    forced = {"autocast": "on", "dtype": request.dtype} if request.dtype else {}
    return Arm("L3 candidate", "candidate", {**BASE, **_steps(request), "count": True, **forced, **fields})


def _steps(request: Request) -> dict[str, int]:
    return {"steps": max(STEPS, request.steps)}


def _candidate(run: Run, request: Request) -> tuple[Engaged, list[str]]:
    """The candidate's run; on the CPU regions made for CUDA are on too, in bfloat16, which needs no loss scale."""
    found = Engaged(run(candidate_arm(request)))
    if found.device != "CPU":
        return found, []
    notes = ["L3 ran on the CPU: a stand-in for CUDA, whose kernels round differently"]
    if found.dtype is None and not request.dtype and not failure(found.outcome):
        found = Engaged(run(candidate_arm(request, autocast="on", dtype="bfloat16")))
        notes.append("autocast was forced on, in bfloat16: the script's own regions are off without CUDA")
    return found, notes


def _unusable(candidate: Engaged, notes: Sequence[str]) -> NumericsResult | None:
    """The result where the candidate's run already tells it."""
    trace = Trace(candidate.outcome.record)
    if flaw := failure(candidate.outcome):
        what = f"with AMP on the candidate fails: {flaw.type}: {flaw.message}"
        if candidate.device == "CPU" and candidate.dtype != "bfloat16":
            return _not_run(f"{what} (the CPU lacks operations in float16)", notes)
        return NumericsResult(status="fails", summary=what, notes=tuple(notes))
    if candidate.dtype is None:
        what = "autocast is not engaged: no matrix operation ran in float16 or bfloat16"
        return NumericsResult(status="fails", summary=what, share=0.0, device=candidate.device, notes=tuple(notes))
    if not any(trace.stepped.values()):
        return NumericsResult(status="fails", summary="every step was skipped", notes=tuple(notes))
    return None


def _not_run(why: str, notes: Sequence[str]) -> NumericsResult:
    return NumericsResult(status="not run", summary=why, notes=tuple(notes))


def plan(candidate: Outcome, request: Request, dtype: str) -> Plan:
    """The reference, leaving out the steps that the candidate skipped, and the null models around it."""
    skip = tuple({"optimizer": o, "attempt": n} for o, n in sorted(Trace(candidate.record).skipped))
    fields = {**BASE, **_steps(request), "autocast": "off", "scaler": "off", "skip": skip}
    control = Arm("L3 control", "reference", fields)

    def nulls(name: str, guard: int, seeds: range) -> tuple[Arm, ...]:
        roundings = ({"dtype": dtype, "seed": seed, "guard": guard} for seed in seeds)
        return tuple(control.but(f"L3 {name} {rounding['seed']}", rounding=rounding) for rounding in roundings)

    wide = nulls("wide null", 2, range(WIDE + MORE))
    return Plan(control, nulls("null", 0, range(100, 100 + NULLS)), wide[:WIDE], wide[WIDE:])


def judge(candidate: Engaged, control: Outcome, nulls: Sequence[Outcome], wide: Sequence[Outcome]) -> NumericsResult:
    """Whether the candidate is as near to the control as the null models are, and finite."""
    trace, reference = Trace(candidate.outcome.record), Trace(control.record)
    near = [deviation(reference, Trace(each.record), trace) for each in nulls]
    far = [deviation(reference, Trace(each.record), trace) for each in wide]
    found = deviation(reference, trace, trace)
    statistics = tuple(_statistics(found, near, far))
    layers = tuple(_layers(found, near, trace))
    status, summary = _verdict(trace, reference, statistics)
    return NumericsResult(
        status=status,
        summary=summary,
        dtype=candidate.dtype,
        device=candidate.device,
        share=candidate.share,
        statistics=statistics,
        layers=layers,
        skipped=len(trace.skipped),
        attempts=len(trace.skipped) + sum(map(len, trace.stepped.values())),
        notes=tuple(_notes(trace, reference, statistics, candidate.share)),
        losses={"reference": reference.losses, "candidate": trace.losses},
    )


def _verdict(trace: Trace, reference: Trace, statistics: Sequence[Statistic]) -> tuple[Status, str]:
    if not _finite(reference):
        return "not run", "the reference is not finite"
    if trace.digests == reference.digests:
        return "fails", "autocast is not engaged: losses and gradients have the bits of float32"
    if not _finite(trace) or not all(math.isfinite(each.value) for each in statistics):
        return "fails", "losses, gradients or parameters are not finite"
    worst = max(statistics, key=lambda each: each.ratio)
    if any(each.exceeds for each in statistics):
        worst = max((each for each in statistics if each.exceeds), key=lambda each: each.ratio)
        return "fails", f"{worst.name} deviate {worst.ratio:.1f} times as much as rounding explains"
    return "holds", f"at most {worst.ratio:.2f} times what rounding explains ({worst.name})"


def _finite(trace: Trace) -> bool:
    return all(math.isfinite(loss) for loss, counts in zip(trace.losses, trace.counted, strict=True) if counts)


def _statistics(found: Deviation, near: Sequence[Deviation], far: Sequence[Deviation]) -> Iterator[Statistic]:
    for o, value in found.gradients.items():
        yield Statistic(
            "gradients", o, value, _largest(d.gradients[o] for d in near), _largest(d.gradients[o] for d in far)
        )
    for o, value in found.parameters.items():
        yield Statistic(
            "parameters", o, value, _largest(d.parameters[o] for d in near), _largest(d.parameters[o] for d in far)
        )
    yield Statistic("loss", None, found.loss, _largest(d.loss for d in near), _largest(d.loss for d in far))


def _largest(values: Iterator[float]) -> float:
    return max(values, default=0.0)


def _layers(found: Deviation, near: Sequence[Deviation], trace: Trace) -> Iterator[Layer]:
    """Those with the largest excess over the null model."""
    layers = [
        Layer(trace.names[o][i] if i < len(trace.names.get(o, ())) else f"parameter {i}", value, null)
        for (o, i), value in found.layers.items()
        for null in [_largest(d.layers.get((o, i), 0.0) for d in near)]
        if value > FLOOR
    ]
    yield from sorted(layers, key=lambda layer: layer.value / (layer.null or FLOOR), reverse=True)[:SHOWN]


def _notes(trace: Trace, reference: Trace, statistics: Sequence[Statistic], share: float) -> Iterator[str]:
    late = [n for o, n in trace.skipped if n > SETTLING]
    attempts = late + [n for steps in trace.stepped.values() for n in steps if n > SETTLING]
    if len(late) > OFTEN * len(attempts):
        yield f"{len(late)} of the last {len(attempts)} steps were skipped: the loss scale does not settle"
    if any(each.name == "gradients" and each.null > UNSAFE for each in statistics):
        moved = max(each.null for each in statistics if each.name == "gradients")
        yield f"not AMP-safe in this dtype: rounding alone moves the gradient by {moved:.0%}"
    if share < 0.5:
        yield f"only {share:.0%} of the matrix work is done in low precision"
    if vanished := tuple(_vanished(trace, reference)):
        yield f"gradients that vanish with AMP on: {', '.join(vanished[:SHOWN])}"
    if len(trace.losses) != len(reference.losses):
        yield f"{len(trace.losses)} backward passes with AMP on, {len(reference.losses)} without"


def _vanished(trace: Trace, reference: Trace) -> Iterator[str]:
    """Parameters whose first gradient is zero throughout, though that of the reference is not."""
    for o, attempts in trace.stepped.items():
        at = (o, attempts[0]) if attempts else (o, 0)
        for i, (a, b) in enumerate(zip(reference.gradient(at), trace.gradient(at), strict=False)):
            if norm((a,)) > 0 and b is not None and not any(b):
                yield trace.names.get(o, ())[i] if i < len(trace.names.get(o, ())) else f"parameter {i}"
