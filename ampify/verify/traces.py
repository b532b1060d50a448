"""How far one training run is from another: distances between what two records saw. Judges nothing, needs no torch."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ampify.verify.record import Backward, Grads, Names, Params, Record, Sketch

Attempt = tuple[int, int]
"""Optimizer and the number of its attempt, from 1."""
Tensors = tuple[Sequence[float] | None, ...]
"""The sketch of each parameter, None where there is no gradient. Distances of sketches estimate those of tensors."""

SHARE = 1e-3
"""Parameters that hold less of the gradient's norm say nothing about a layer."""


class Trace:
    """What one run did, by optimizer and attempt."""

    def __init__(self, record: Record) -> None:
        self._record = record

    @cached_property
    def skipped(self) -> frozenset[Attempt]:
        """The attempts that did not step."""
        return frozenset((event.o, event.n) for event in self._record.of(Params) if event.skipped)

    @cached_property
    def stepped(self) -> dict[int, tuple[int, ...]]:
        """By optimizer the attempts that did step, in order; optimizers that never came to a step are left out."""
        found: dict[int, list[int]] = {}
        for event in self._record.of(Params):
            found.setdefault(event.o, []).extend([] if event.skipped else [event.n])
        return {o: tuple(attempts) for o, attempts in found.items()}

    @cached_property
    def losses(self) -> tuple[float, ...]:
        """The scalar roots of the backward passes, without the loss scale."""
        return tuple(event.x for event in self._record.of(Backward) if event.is_loss)

    @cached_property
    def counted(self) -> tuple[bool, ...]:
        """Whether each loss led to a step that was made, or to none at all; the others belong to skipped steps."""
        found: list[bool] = []
        waiting = 0
        for event in self._record.events:
            if isinstance(event, Backward):
                waiting += event.is_loss
            elif isinstance(event, Params):
                found += [not event.skipped] * waiting
                waiting = 0
        return (*found, *[True] * waiting)

    @cached_property
    def digests(self) -> tuple[object, ...]:
        """The bits of every loss and gradient."""
        events = (event for event in self._record.events if isinstance(event, Backward | Grads))
        return tuple(event.d for event in events)

    @cached_property
    def names(self) -> Mapping[int, tuple[str, ...]]:
        """Of the parameters, by optimizer."""
        return {event.o: event.params for event in self._record.of(Names)}

    def start(self, o: int) -> Tensors:
        """The parameters before the first attempt."""
        return self._sketch("start", o, 0)

    def gradient(self, attempt: Attempt) -> Tensors:
        """What the optimizer saw."""
        return self._sketch("grads", *attempt)

    def parameters(self, attempt: Attempt) -> Tensors:
        """What the attempt left behind."""
        return self._sketch("params", *attempt)

    @cached_property
    def _sketches(self) -> dict[tuple[str, int, int], Sketch]:
        return {(event.what, event.o, event.n): event for event in self._record.of(Sketch)}

    def _sketch(self, what: str, o: int, n: int) -> Tensors:
        event = self._sketches.get((what, o, n))
        return tuple(_read(self._record, event)) if event else ()


def _read(record: Record, event: Sketch) -> Iterator[Sequence[float] | None]:
    with (record.folder / event.file).open("rb") as file:
        file.seek(event.offset)
        for size in event.sizes:
            yield None if size < 0 else array("f", file.read(4 * size))


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a run is from its reference, all relative.

    ``gradients`` and ``parameters`` by optimizer: the distance of the first gradients to their norm, and that of the
    last parameters to the way they have come. ``loss``: summed over the run. ``layers``: of the first gradients, by
    optimizer and index of the parameter.
    """

    gradients: Mapping[int, float]
    parameters: Mapping[int, float]
    loss: float
    layers: Mapping[tuple[int, int], float]


def deviation(reference: Trace, other: Trace, aligned: Trace) -> Deviation:
    """How far ``other`` is from ``reference``; ``aligned`` made the attempts that count: the candidate.

    All three must have skipped the same attempts, so that before the first step that was made their states are one.
    """
    first = {o: (o, attempts[0]) for o, attempts in aligned.stepped.items() if attempts}
    last = {o: (o, _last(o, reference, other, aligned)) for o in first}
    return Deviation(
        {o: _relative(reference.gradient(at), other.gradient(at)) for o, at in first.items()},
        {o: _travelled(reference, other, at) for o, at in last.items()},
        _loss(reference, other, aligned.counted),
        {
            (at[0], i): value
            for at in first.values()
            for i, value in _layers(reference.gradient(at), other.gradient(at)).items()
        },
    )


def _last(o: int, *traces: Trace) -> int:
    """The last attempt that all runs made and stepped."""
    common = set.intersection(*(set(trace.stepped.get(o, ())) for trace in traces))
    return max(common, default=0)


def _travelled(reference: Trace, other: Trace, last: Attempt) -> float:
    end = reference.parameters(last)
    return _ratio(distance(end, other.parameters(last)), distance(reference.start(last[0]), end))


def _relative(reference: Tensors, other: Tensors) -> float:
    return _ratio(distance(reference, other), norm(reference))


def _layers(reference: Tensors, other: Tensors) -> dict[int, float]:
    least = SHARE * norm(reference)
    pairs = enumerate(zip(reference, other, strict=False))
    return {i: _relative((a,), (b,)) for i, (a, b) in pairs if norm((a,)) > least}


def _loss(reference: Trace, other: Trace, counted: tuple[bool, ...]) -> float:
    pairs = [
        (a, b) for a, b, counts in zip(reference.losses, other.losses, counted, strict=False) if counts
    ]  # a run that branches on a loss may make more of them than another
    return _ratio(math.fsum(abs(b - a) for a, b in pairs), math.fsum(abs(a) for a, _ in pairs)) if pairs else 0.0


def _ratio(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return part / whole if whole else math.inf


def distance(left: Tensors, right: Tensors) -> float:
    """Euclidean; infinite where one has a gradient that the other lacks, NaN where numbers are not finite."""
    if len(left) != len(right) or any((a is None) != (b is None) for a, b in zip(left, right, strict=True)):
        return math.inf
    pairs = ((a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None)
    return math.hypot(*(math.dist(a, b) for a, b in pairs))


def norm(tensors: Tensors) -> float:
    """Euclidean."""
    return math.hypot(*(math.hypot(*each) for each in tensors if each is not None))
