"""The books of the loss scale: what a scaler did in one run must add up, whatever the results. Needs no reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ampify.verify.record import Backward, Event, Grads, Optimizer, Place, Record, Scale, Scaler, Step, Unscale, Update

INIT = 2.0**12
"""The first scale of a walking scaler."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One flaw in the books."""

    message: str
    at: Place | None
    step: int | None = None
    optimizer: int | None = None


def audit(record: Record, steps: int) -> list[Entry]:
    """Every flaw, the first of each kind. ``record`` is of a run of ``steps`` in which the scalers walked."""
    checks = (_rebuilt(record), _unused(record), _stale(record), _walk(record, interval(steps)), _direct(record))
    return [entry for check in checks for entry in (next(check, None),) if entry]


def interval(steps: int) -> int:
    """How many steps without overflow let a walking scale double."""
    return 1 + steps // 64


def _rebuilt(record: Record) -> Iterator[Entry]:
    """Scalers made while training goes on: each begins with the first scale again, and never learns."""
    last = None
    for index, event in enumerate(record.events):
        match event:
            case Backward():
                last = index
            case Scaler(at=at) if last is not None and not _new_optimizer(record.events, last):
                yield Entry("A new `GradScaler` is made after training began: it forgets the scale it had found", at)


def _new_optimizer(events: tuple[Event, ...], start: int) -> bool:
    """Whether an optimizer is made before the next backward call, as for another fold or another model."""
    for event in events[start + 1 :]:
        match event:
            case Optimizer():
                return True
            case Backward():
                return False
    return False


def _unused(record: Record) -> Iterator[Entry]:
    """Losses that are scaled, and then not the ones whose gradients are taken."""
    scaled: Scale | None = None
    for event in record.events:
        match event:
            case Scale():
                scaled = event
            case Backward():
                scaled = None
            case Step(o=o, n=n) if scaled:
                yield Entry("The scaled loss is not used: there is no backward call before the step", scaled.at, n, o)


def _stale(record: Record) -> Iterator[Entry]:
    """Gradients that are divided by another scale than their loss was multiplied with."""
    scales: dict[int, float] = {}
    for event in record.events:
        match event:
            case Scale(s=s, v=v):
                scales[s] = v
            case Unscale(s=s, o=o, v=v, at=at) if s in scales and scales[s] != v:
                message = f"Gradients are divided by {v:g}, their loss was multiplied by {scales[s]:g}"
                yield Entry(message, at, None, o)


@dataclass(slots=True)
class _Book:
    """What is expected of one scaler."""

    scale: float = INIT
    grown: int = 0
    skipped: bool = False
    unscaled: set[int] = field(default_factory=set)

    def expected(self, interval: int) -> set[float]:
        """The scales that may follow; gradients that were looked at and not stepped with may have overflown."""
        kept = self.scale * 2 if self.grown + 1 == interval else self.scale
        return {self.scale / 2} if self.skipped else {kept, self.scale / 2} if self.unscaled else {kept}

    def update(self, after: float) -> None:
        backed_off = after < self.scale
        self.grown = 0 if backed_off or after > self.scale else self.grown + 1
        self.scale, self.skipped = after, False
        self.unscaled.clear()


def _walk(record: Record, interval: int) -> Iterator[Entry]:
    """Scales that are not the first one, times 2 for what went well, times 0.5 for each overflow."""
    books: dict[int, _Book] = {}
    for event in record.events:
        match event:
            case Scaler(s=s, enabled=True):
                books[s] = _Book()
            case Unscale(s=s, o=o) if s in books:
                books[s].unscaled.add(o)
            case Step(s=s, o=o, stepped=stepped) if s in books:
                books[s].unscaled.discard(o)
                books[s].skipped |= not stepped
            case Update(s=s, before=before, after=after, at=at) if s in books:
                book = books[s]
                if before != book.scale:
                    yield Entry(f"The scale was {book.scale:g} and is {before:g} without an update", at)
                if after not in (expected := book.expected(interval)):
                    yield Entry(f"The scale goes from {before:g} to {after:g}, not to {max(expected):g}", at)
                book.update(after)


def _direct(record: Record) -> Iterator[Entry]:
    """Steps past the scaler while the gradients come from scaled losses: an overflow would not be skipped."""
    backwards: dict[int, list[float]] = {event.o: [] for event in record.of(Optimizer)}
    for event in record.events:
        match event:
            case Backward(scale=scale):
                for scales in backwards.values():
                    scales.append(scale)
            case Grads(o=o, n=n, via=via, at=at):
                scales = backwards.get(o, [])
                if via == "direct" and scales and all(scale != 1 for scale in scales):
                    message = "`step` is called on the optimizer itself while its gradients come from a scaled loss"
                    yield Entry(message, at, n, o)
                backwards[o] = []
