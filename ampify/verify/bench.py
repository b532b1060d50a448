"""L4: what AMP gains in time and memory, against float32 and against TF32. Figures alone: nothing fails here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Literal

from ampify.verify.arms import Arm
from ampify.verify.endings import failure
from ampify.verify.numerics import Engaged
from ampify.verify.record import Outcome
from ampify.verify.request import Request

Run = Callable[[Arm], Outcome]
Setting = Literal["float32", "TF32", "AMP"]

WARMUP, ITERATIONS = 5, 20
COUNTED = 2
"""Attempts of an optimizer after which the share of low precision is known."""
LITTLE = 0.5
"""Share of matrix work in low precision below which it is worth a word."""

TIMED: Mapping[str, Any] = {
    "record": False,
    "deterministic": False,
    "compile": True,
    "bench": {"warmup": WARMUP, "iterations": ITERATIONS},
}
"""Nothing is recorded, and the script runs as it would."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One setting: milliseconds of each iteration, and the largest amount of memory in bytes."""

    setting: Setting
    times_ms: tuple[float, ...]
    peak_bytes: int

    @property
    def median_ms(self) -> float:
        return median(self.times_ms)

    @property
    def spread_ms(self) -> float:
        """The interquartile range."""
        if len(self.times_ms) < 2:
            return 0.0
        first, _, third = quantiles(self.times_ms, n=4, method="inclusive")
        return third - first


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """What L4 measured; ``runs`` is empty where it could not. ``share``: of matrix work, done in low precision."""

    summary: str
    device: str | None = None
    runs: tuple[Timed, ...] = ()
    share: float | None = None
    notes: tuple[str, ...] = ()

    def of(self, setting: Setting) -> Timed | None:
        """The figures of one setting."""
        return next((run for run in self.runs if run.setting == setting), None)

    def speedup(self, against: Setting) -> float | None:
        """How many times faster AMP is."""
        amp, other = self.of("AMP"), self.of(against)
        return other.median_ms / amp.median_ms if amp and other and amp.median_ms else None

    @property
    def memory(self) -> float | None:
        """Peak memory of AMP in parts of that of float32."""
        amp, plain = self.of("AMP"), self.of("float32")
        return amp.peak_bytes / plain.peak_bytes if amp and plain and plain.peak_bytes else None


def plan(request: Request) -> dict[Setting, Arm]:
    """The runs that are timed: the reference in two settings, and the candidate with the script's own."""
    forced = {"autocast": "on", "dtype": request.dtype} if request.dtype else {}
    return {
        "float32": Arm("L4 float32", "reference", {**TIMED, "tf32": False}),
        "TF32": Arm("L4 TF32", "reference", {**TIMED, "tf32": True}),
        "AMP": Arm("L4 AMP", "candidate", {**TIMED, **forced}),
    }


def measure(run: Run, request: Request) -> BenchResult:
    """L4: time the three settings, and count the candidate's matrix work; the first run tells whether there is CUDA."""
    timed: list[Timed] = []
    device = None
    for setting, arm in plan(request).items():
        outcome = run(arm)
        if flaw := failure(outcome):
            return BenchResult(summary=f"not measured: {setting} fails: {flaw.type}: {flaw.message}")
        found = next(iter(outcome.record.named("bench")), {})
        if found.get("device") is None:
            return BenchResult(summary="not measured: no CUDA device")
        if not found["times_ms"]:
            return BenchResult(summary=f"not measured: fewer than {WARMUP + 1} steps", device=found["device"])
        device = found["device"]
        timed.append(Timed(setting, tuple(found["times_ms"]), found["peak_bytes"]))
    forced = {"autocast": "on", "dtype": request.dtype} if request.dtype else {}
    counted = Engaged(run(Arm("L4 matrix work", "candidate", {"count": True, "steps": COUNTED, **forced})))
    return judge(tuple(timed), device, counted.share)


def judge(runs: tuple[Timed, ...], device: str | None, share: float | None) -> BenchResult:
    """The figures in words."""
    result = BenchResult(summary="", device=device, runs=runs, share=share)
    plain, tf32, memory = result.speedup("float32"), result.speedup("TF32"), result.memory
    if plain is None or tf32 is None:
        return result
    worth = f"x{plain:.2f} against float32, x{tf32:.2f} against TF32"
    if tf32 < 1:
        worth += ": slower than TF32, not worth it for speed"
    notes = [] if share is None or share >= LITTLE else [f"only {share:.0%} of the matrix work is in low precision"]
    return BenchResult(
        summary=worth + (f"; memory x{memory:.2f}" if memory is not None else ""),
        device=device,
        runs=runs,
        share=share,
        notes=tuple(notes),
    )
