"""The ladder: which runs, in which order, and what follows from them. Shows nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ampify.config import Settings
from ampify.diagnostic import Diagnostic
from ampify.verify import bands, bench, circumstances, coverage, ledger, numerics
from ampify.verify.arms import EXACT, Arm, Runs, Track
from ampify.verify.bench import BenchResult
from ampify.verify.compare import Pair, differences
from ampify.verify.endings import failure, innermost
from ampify.verify.numerics import NumericsResult, Statistic
from ampify.verify.record import Backward, Clip, Outcome, Params, Raised, Record, Scaler, Step, Unscale, Update
from ampify.verify.replay import explained
from ampify.verify.request import Request
from ampify.verify.sources import Nothing, Sources, find
from ampify.verify.verdict import Channel, Difference, Level, Place, Status, Verdict, Word, count, diagnose
from ampify.verify.workers import WorkerFailed, Workers

L0 = ("L0", "two runs of the reference are the same")
L1 = ("L1", "the same program with AMP off")
L2 = ("L2", "the same with the loss scaled by powers of two")
L2S = ("L2s", "the same when an overflow skips a step")
LEDGER = ("ledger", "the books of the loss scale are right")
L3 = ("L3", "with AMP on, only rounding differs")
L4 = ("L4", "what AMP gains")


Find = Callable[[Iterable[Path], Callable[[Path], Settings]], Sources | Nothing]
"""Tells what to compare from the files that the script loads and the settings of ``--fix``."""

_WORDS: Mapping[str, Word] = {
    "holds": "EQUIVALENT",
    "fails": "NOT EQUIVALENT",
    "not run": "PLUMBING-EQUIVALENT",
}
"""What follows from L3 where the levels before it hold."""
_CHANNELS: Mapping[str, Channel] = {"gradients": "grads", "parameters": "params", "loss": "root"}


class CannotRun(Exception):
    """The ladder cannot be climbed: why, with a traceback or the like, and where."""

    def __init__(self, reason: str, details: str = "", place: Place | None = None) -> None:
        super().__init__(reason)
        self.reason, self.details, self.place = reason, details, place


def climb(
    request: Request,
    sources: Sources | None = None,
    workers: Workers | None = None,
    track: Track = lambda run: None,
    find: Find = find,
) -> Verdict:
    """Run the script and its counterpart, and tell level by level what holds.

    ``sources`` are the two programs, else ``find`` gets them from the files that the script loads. ``workers``, if
    given, stay open, so that many climbs share one interpreter. ``track`` is told the name of each run before it
    begins.
    """
    with _opened(request, workers) as server:
        runs = Runs(request, server, track)
        try:
            return _Climb(runs, *_start(runs, sources, find)).verdict()
        except CannotRun as stop:
            place = stop.place or Place(str(request.path or request.module), 1)
            found = (diagnose("AMP902", stop.reason, place),)
            return Verdict(
                title=request.title, word="CANNOT RUN", reason=stop.reason, details=stop.details, diagnostics=found,
                runs=tuple(runs.timings), touched=circumstances.touched(runs.outcomes),
            )  # fmt: skip
        except WorkerFailed as error:
            return Verdict(
                title=request.title,
                word="CANNOT RUN",
                reason=f"{request.python} cannot run the script",
                details=str(error),
                diagnostics=(diagnose("AMP902", str(error), Place(str(request.path or request.module), 1)),),
            )


@contextmanager
def _opened(request: Request, workers: Workers | None) -> Iterator[Workers]:
    if workers:
        yield workers
        return
    with Workers(request.python, cwd=request.cwd, launch=request.launch) as own:
        yield own


def _start(runs: Runs, sources: Sources | None, find: Find) -> tuple[Arm, dict[str, float] | None]:
    """Run the files as they are, find what is to be compared, and give the reference and what makes clipping bite."""
    runs.sources = sources or Sources()
    probe = runs.run(Arm("probe", "reference", EXACT))
    if sources is None:
        found = find(probe.record.loaded, runs.request.settings)
        if isinstance(found, Nothing):
            _must_run(runs, probe)
            raise CannotRun(found.reason, "\n".join(f"{p.path}:{p.line}: {why}" for p, why in found.places))
        runs.sources = found
    bite = _bite(probe)
    reference = Arm("reference", "reference", {**EXACT, **({"bite": bite} if bite else {})})
    _must_run(runs, runs.run(reference))
    return reference, bite


def _must_run(runs: Runs, outcome: Outcome) -> None:
    """Raises `CannotRun` for a program that fails, or that trains nothing."""
    for rank in outcome.records:
        if flaw := failure(outcome, rank):
            raise _cannot(runs, outcome, flaw)
    if not any(outcome.record.attempts.values()):
        raise CannotRun("The script ends without a step of an optimizer", outcome.output[-2000:])


def _cannot(runs: Runs, outcome: Outcome, flaw: Raised) -> CannotRun:
    steps = max(outcome.record.attempts.values(), default=0)
    when = f"after {count(steps, 'step')}" if steps else "before its first step"
    at = (innermost(outcome.stacks, runs.request.roots) if flaw.type == "Timeout" else None) or flaw.at
    place = runs.sources.place(runs.sources.reference, *at) if at else None
    where = f", at {place.path}:{place.line}" if place else ""
    reason = f"The original does not run, {when}{where}: {flaw.type}: {flaw.message}"
    if "nvidia driver" in flaw.message.lower() or "not compiled with cuda" in flaw.message.lower():
        reason += "; `--fake-cuda` imitates CUDA on the CPU"
    shown = f"{place.path}:{place.line}: {place.text}\n" if place and flaw.type == "Timeout" else ""
    return CannotRun(reason, shown + flaw.traceback, place)


def _bite(probe: Outcome) -> dict[str, float] | None:
    """Limits that make every clipping clip, where the script's own would not; half of the smallest size seen."""
    clips = [clip for record in probe.records.values() for clip in record.of(Clip)]
    if all(clip.size > clip.limit for clip in clips):
        return None
    sizes = {kind: [c.size for c in clips if c.clipped == kind and 0 < c.size < math.inf] for kind in ("norm", "value")}
    return {kind: min(found) / 2 if found else 1e300 for kind, found in sizes.items()}


class _Climb:
    """The levels of one request, once its reference runs."""

    def __init__(self, runs: Runs, reference: Arm, bite: dict[str, float] | None) -> None:
        self.runs, self.request, self.reference, self.bite = runs, runs.request, reference, bite
        watch = coverage.watched(runs.sources)
        self.plain = replace(reference, name="candidate", side="candidate").but("L1 candidate", watch=watch)
        self.scaled = self.plain.but("L2 candidate", scaler="walk")
        self.watched: list[Outcome] = []

    def verdict(self) -> Verdict:
        repeated = self._repeatable()
        if repeated.status == "fails" and self._enforced():
            repeated = self._repeatable()
        if repeated.status == "fails":
            return self._not_comparable(repeated)
        levels = [repeated, self._same_program(), *self._same_scaling()]
        if any(level.status == "fails" for level in levels):
            return self._verdict("NOT EQUIVALENT", [*levels, *_left("an exact level fails")])
        if self.request.fake_cuda:
            return self._verdict("PLUMBING-EQUIVALENT", [*levels, *_left("an imitated device says nothing of numbers")])
        return self._measured(levels)

    def _measured(self, levels: list[Level]) -> Verdict:
        """What is said with AMP on, where the exact levels hold."""
        numbers = numerics.measure(self.runs.run, self.request) if self.request.numerics else None
        gain = bench.measure(self.runs.run, self.request) if self.request.bench else None
        word = _WORDS[numbers.status] if numbers else "PLUMBING-EQUIVALENT"
        verdict = self._verdict(word, [*levels, _numbers_level(numbers), _gain_level(gain)])
        more = (*(numbers.notes if numbers else ()), *(gain.notes if gain else ()))
        return replace(verdict, numerics=numbers, bench=gain, notes=(*verdict.notes, *more))

    def _repeatable(self) -> Level:
        arms = (self.reference, self.reference.but("reference again"))
        sources = replace(self.runs.sources, candidate=self.runs.sources.reference)
        outcomes = self.runs.run(arms[0]), self.runs.run(arms[1], again=1)
        pairs = [Pair(L0[0], *outcomes, sources, None, rank) for rank in outcomes[0].records]
        found = [difference for pair in pairs for difference in differences(pair)]
        return _level(L0, found)

    def _enforced(self) -> bool:
        """Have torch raise instead of warn, if the reference runs so: some kernels repeat themselves only then."""
        if failure(self.runs.run(self.reference.but("reference, strictly deterministic", strict=True))):
            return False
        arms = (self.reference, self.plain, self.scaled)
        self.reference, self.plain, self.scaled = (arm.but(arm.name, strict=True) for arm in arms)
        return True

    def _same_program(self) -> Level:
        found, _ = self._compared(L1, self.reference, self.plain)
        return _level(L1, found)

    def _same_scaling(self) -> list[Level]:
        """L2, L2s and the ledger; of a candidate without a scaler there is nothing to say."""
        if not self._scalers(self.runs.run(self.plain)):
            return [_idle(level, "not applicable", "the candidate has no scaler") for level in (L2, L2S, LEDGER)]
        found, outcome = self._compared(L2, self.reference, self.scaled)
        overflows = [self._overflow(o, outcome) for o in self._stepped(outcome)]
        books = [self._books(LEDGER[0], each) for each in (outcome, *(overflow.outcome for overflow in overflows))]
        return [_level(L2, found), _skipping(overflows), _level(LEDGER, next((found for found in books if found), []))]

    def _overflow(self, o: int, outcome: Outcome) -> _Overflow:
        """One optimizer gets an overflow, and its step is left out of the reference."""
        n = max(1, min(self.request.steps // 2, outcome.record.attempts[o]))
        candidate = self.scaled.but(f"L2s candidate {o}", skip=_skip(o, n), skip_by="overflow")
        found, outcome = self._compared(L2S, self._control(o, n), candidate, (o, n))
        if any(
            difference.channel == "lr" for difference in found
        ):  # does it guard its scheduler against skipped steps?
            held, _ = self._compared(L2S, self._control(o, n, hold=1), candidate, (o, n))
            found = held and found
        return _Overflow(f"step {n} of optimizer {o}", found, outcome, _given_up(outcome.record, o, n))

    def _control(self, o: int, n: int, **hold: int) -> Arm:
        """The reference without that step."""
        return self.reference.but(f"L2s control {o}", skip=_skip(o, n, **hold))

    def _compared(
        self, level: tuple[str, str], reference: Arm, candidate: Arm, skipped: tuple[int, int] | None = None
    ) -> tuple[list[Difference], Outcome]:
        left, right = self.runs.run(reference), self.runs.run(candidate)
        self.watched.append(right)
        pairs = [Pair(level[0], left, right, self.runs.sources, skipped, rank) for rank in left.records]
        arms = (reference, candidate)
        return [d for pair in pairs for d in explained(differences(pair), pair, arms, self.runs)], right

    def _books(self, level: str, outcome: Outcome) -> list[Difference]:
        side = self.runs.sources.candidate
        return [
            Difference(
                level, "ledger", entry.message, entry.step, entry.optimizer,
                candidate_at=self.runs.sources.place(side, *entry.at) if entry.at else None,
            )
            for entry in ledger.audit(outcome.record, self.request.steps)
        ]  # fmt: skip

    @property
    def _covering(self) -> list[Outcome]:
        """The candidate's runs in which its scaler worked, where it has one."""
        return self.watched[1:] or self.watched

    @staticmethod
    def _scalers(outcome: Outcome) -> bool:
        return any(record.of(Scaler) for record in outcome.records.values())

    @staticmethod
    def _stepped(outcome: Outcome) -> list[int]:
        return sorted({event.o for event in outcome.record.of(Step)})

    def _not_comparable(self, repeated: Level) -> Verdict:
        """What two runs of the reference do not share cannot be asked of the candidate."""
        place, reason = repeated.differences[0].reference_at, f"Two runs of the reference differ: {_first(repeated)}"
        strict = failure(self.runs.run(self.reference.but("reference, strictly deterministic", strict=True)))
        if strict and "determinis" in strict.message:
            place = self.runs.sources.place(self.runs.sources.reference, *strict.at) if strict.at else place
            reason = f"An operation is not deterministic: {strict.message.splitlines()[0]}"
        return self._verdict("NOT COMPARABLE", [repeated, *self._bands()], reason, place)

    def _bands(self) -> Iterator[Level]:
        """In the place of bits: how near the candidate is, against reruns of the reference."""
        why = "the reference does not repeat itself"
        scaled = self._scalers(self.runs.run(self.plain))
        yield _idle(L1, "band", bands.band(self.runs, self.reference, self.plain))
        if scaled:
            yield _idle(L2, "band", bands.band(self.runs, self.reference, self.scaled))
        yield from (_idle(level, "not run", why) for level in (L2, L2S, LEDGER, L3, L4)[scaled:])

    def _verdict(self, word: Word, levels: list[Level], reason: str = "", place: Place | None = None) -> Verdict:
        runs, scaled = self.runs, self.watched[1] if len(self.watched) > 1 else None
        reference = runs.run(self.reference)
        verdict = Verdict(
            title=self.request.title,
            word=word,
            mode=runs.sources.mode,
            levels=tuple(levels),
            reason=reason,
            unverified=coverage.unverified(runs.sources, self._covering) if self.watched else (),
            notes=(*circumstances.notes(self.request, reference, scaled, self.bite), *self._strictness()),
            touched=circumstances.touched(runs.outcomes),
            runs=tuple(runs.timings),
            losses=_losses(reference=reference, **({"candidate": self.watched[0]} if self.watched else {})),
        )
        return replace(verdict, diagnostics=tuple(self._diagnostics(verdict, place)))

    def _strictness(self) -> Iterator[str]:
        if self.reference.fields.get("strict"):
            yield (
                "deterministic algorithms are enforced in the exact runs: where torch only warns, some kernels, such as"
                " those of memory-efficient attention, do not repeat themselves"
            )

    def _diagnostics(self, verdict: Verdict, place: Place | None) -> Iterator[Diagnostic]:
        """At lines of the files as they are on disk."""
        start = Place(str(self.request.path or self.request.module), 1)
        if verdict.word == "NOT COMPARABLE":
            yield diagnose("AMP902", verdict.reason, place or start)
        for level in verdict.levels:
            for difference in level.differences if level.status == "fails" and level.name != L0[0] else ():
                sides = (difference.candidate_at, difference.reference_at)
                here = sides if verdict.mode == "audit" else sides[::-1]
                yield diagnose("AMP901", f"{level.name}: {difference.message}", here[0] or here[1] or start)


@dataclass(frozen=True, slots=True)
class _Overflow:
    """What became of an overflow; of one that was ``given_up`` no step came, so that there is none to compare."""

    name: str
    found: list[Difference]
    outcome: Outcome
    given_up: bool


def _given_up(record: Record, o: int, n: int) -> bool:
    """Whether the script itself leaves attempt ``n`` out when it sees the overflow, such as by the norm."""
    unscaled, attempts = False, 0
    for event in record.events:
        match event:
            case Params(o=seen) if seen == o:
                unscaled, attempts = False, attempts + 1
            case Unscale(o=seen) if seen == o:
                unscaled = attempts == n - 1
            case Update() if unscaled:
                return True
    return False


def _skipping(overflows: list[_Overflow]) -> Level:
    """L2s from the overflows of all optimizers."""
    judged = [overflow for overflow in overflows if not overflow.given_up]
    names = ", ".join(overflow.name for overflow in judged)
    if judged:
        return _level(L2S, [difference for overflow in judged for difference in overflow.found], f"overflow at {names}")
    why = "the script itself leaves the step out" if overflows else "no optimizer is stepped through a scaler"
    return _idle(L2S, "not run", why)


def _level(level: tuple[str, str], found: list[Difference], summary: str = "") -> Level:
    if not found:
        return Level(*level, "holds", summary)
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return Level(*level, "fails", found[0].message + more, tuple(found))


def _left(why: str) -> list[Level]:
    return [_idle(level, "not run", why) for level in (L3, L4)]


def _skip(o: int, n: int, **hold: int) -> tuple[dict[str, int], ...]:
    return ({"optimizer": o, "attempt": n, **hold},)


def _idle(level: tuple[str, str], status: Status, why: str) -> Level:
    return Level(*level, status, why)


def _first(level: Level) -> str:
    difference = level.differences[0]
    return f"{difference.message} ({difference.reference} and {difference.candidate})"


def _numbers_level(found: NumericsResult | None) -> Level:
    """L3, with a difference for each statistic that exceeds what rounding explains."""
    if found is None:
        return _idle(L3, "not run", "`--numerics` runs it")
    if found.status != "fails":
        return _idle(L3, found.status, found.summary)
    name = found.layers[0].name if found.layers else ""
    beyond = [_beyond(each, name) for each in found.statistics if each.exceeds]
    return Level(*L3, "fails", found.summary, tuple(beyond or [Difference(L3[0], "root", found.summary)]))


def _beyond(statistic: Statistic, layer: str) -> Difference:
    relative = f"{statistic.value:.2g}, rounding explains {statistic.null:.2g}"
    message = f"The relative deviation of the {statistic.name} is {relative}"
    return Difference(L3[0], _CHANNELS[statistic.name], message, optimizer=statistic.optimizer, name=layer)


def _gain_level(found: BenchResult | None) -> Level:
    if found is None:
        return _idle(L4, "not run", "`--bench` measures it")
    return _idle(L4, "holds" if found.runs else "not run", found.summary)


def _losses(**sides: Outcome) -> dict[str, tuple[float, ...]]:
    return {
        side: tuple(event.x for event in outcome.record.of(Backward) if event.is_loss)
        for side, outcome in sides.items()
    }
