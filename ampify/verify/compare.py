"""Two runs, bit by bit: the first difference of each channel. Digests only; what the values are is told by `replay`."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ampify.verify.endings import failure
from ampify.verify.record import Backward, Event, Grads, Names, Outcome, Params, Record, Value
from ampify.verify.record import Place as RawPlace
from ampify.verify.sources import Sources
from ampify.verify.verdict import Channel, Difference, Place, count

Key = tuple[str, int | None, int, int]
"""A tensor of a run: kind, optimizer, attempt (which backward call), index."""

_CHANNELS: Mapping[str, Channel] = {"backward": "root", "grads": "grads", "params": "params", "buffers": "buffers"}


@dataclass(frozen=True, slots=True)
class Tensor:
    digest: str | None
    event: Event


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs of one level. ``skipped`` is the optimizer and attempt in which the candidate got an overflow."""

    level: str
    reference: Outcome
    candidate: Outcome
    sources: Sources
    skipped: tuple[int, int] | None = None
    rank: int = 0

    @property
    def left(self) -> Record:
        return self.reference.records[self.rank]

    @property
    def right(self) -> Record:
        return self.candidate.records.get(self.rank, Record((), self.left.folder))

    def difference(
        self, channel: Channel, message: str, left: RawPlace | None, right: RawPlace | None,
        *, step: int | None = None, optimizer: int | None = None, name: str = "", values: tuple[str, str] = ("", ""),
    ) -> Difference:  # fmt: skip
        """A difference with its places told."""
        where = f"rank {self.rank}: " if len(self.reference.records) > 1 else ""
        return Difference(
            self.level, channel, where + message, step, optimizer, name, *values,
            self._place(self.sources.reference, left), self._place(self.sources.candidate, right),
        )  # fmt: skip

    def _place(self, side: Mapping[Path, str], place: RawPlace | None) -> Place | None:
        return None if place is None else self.sources.place(side, *place)


def differences(pair: Pair) -> list[Difference]:
    """The first difference of every channel, in the order in which they come up in the run."""
    found = [*_tensors(pair), *_rates(pair)]
    found.sort(key=lambda ordered: ordered[0])
    raised = list(_raises(pair))
    order = [] if raised else list(_order(pair))
    return [*raised, *(difference for _, difference in found), *order, *_values(pair, cut=bool(raised))]


def unequal(pair: Pair) -> list[Key]:
    """The tensors of both runs whose bits differ, in the order of the reference."""
    left, right = tensors(pair.left), tensors(pair.right)
    common = [key for key in left if key in right and not _injected(pair, key)]
    return [key for key in common if left[key].digest != right[key].digest]


def tensors(record: Record) -> dict[Key, Tensor]:
    """Every tensor of a record, in order."""
    return {key: Tensor(digest, event) for event in record.events for key, digest in _digests(event)}


def _digests(event: Event) -> Iterator[tuple[Key, str | None]]:
    match event:
        case Backward(i=i, d=digest):
            yield ("backward", None, i, 0), digest
        case Grads(o=o, n=n, d=digests):
            yield from ((("grads", o, n, i), digest) for i, digest in enumerate(digests))
        case Params(o=o, n=n, d=digests, b=buffers):
            yield from ((("params", o, n, i), digest) for i, digest in enumerate(digests))
            yield from ((("buffers", o, n, i), digest) for i, digest in enumerate(buffers))


def _injected(pair: Pair, key: Key) -> bool:
    """Whether the tensor holds the overflow that was put there on purpose."""
    return key[0] == "grads" and (key[1], key[2]) == pair.skipped


def _tensors(pair: Pair) -> Iterator[tuple[int, Difference]]:
    left, right = tensors(pair.left), tensors(pair.right)
    seen, index = set(), {id(event): i for i, event in enumerate(pair.left.events)}
    for key in unequal(pair):
        kind, o, n, _ = key
        if (channel := _CHANNELS[kind]) in seen:
            continue
        seen.add(channel)
        mine, other = left[key], right[key]
        step = n + 1 if o is None else n
        missing = ["a gradient is missing" for each in (mine, other) if each.digest is None]
        name = _name(pair.left, key)
        values = [_shown(each) for each in (mine, other)]
        message = f"{_what(channel, name, o, step)}: {missing[0] if missing else 'other bits'}"
        yield index[id(mine.event)], pair.difference(
            channel, message, mine.event.at, other.event.at, step=step, optimizer=o, name=name,
            values=(values[0], values[1]),
        )  # fmt: skip


def _shown(tensor: Tensor) -> str:
    """A loss is known as a number; of other tensors there are only the bits."""
    match tensor.event:
        case Backward(x=x):
            return repr(x)
    return f"digest {tensor.digest}" if tensor.digest else "missing"


def _what(channel: Channel, name: str, optimizer: int | None, step: int) -> str:
    what = {"root": "The loss", "grads": f"The gradient of `{name}`"}.get(channel, f"`{name}`")
    when = f"backward call {step}" if channel == "root" else f"step {step} of optimizer {optimizer}"
    return f"{what} at {when}" if channel in ("root", "grads") else f"{what} after {when}"


def _name(record: Record, key: Key) -> str:
    """What the program calls a tensor."""
    kind, o, _, i = key
    for names in record.of(Names):
        known = names.buffers if kind == "buffers" else names.params
        if names.o == o and kind != "backward" and i < len(known):
            return known[i]
    return "loss" if kind == "backward" else f"{'buffer' if kind == 'buffers' else 'parameter'} {i}"


def _rates(pair: Pair) -> Iterator[tuple[int, Difference]]:
    """The first attempt with another learning rate."""
    other = {(event.o, event.n): event for event in pair.right.of(Grads)}
    for index, event in enumerate(pair.left.events):
        match event:
            case Grads(o=o, n=n, lr=lr) if (o, n) in other and other[o, n].lr != lr and (o, n) != pair.skipped:
                there = other[o, n]
                yield index, pair.difference(
                    "lr", f"The learning rate at step {n} of optimizer {o}", event.at, there.at, step=n, optimizer=o,
                    values=(_numbers(lr), _numbers(there.lr)),
                )  # fmt: skip
                return


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(map(repr, dict.fromkeys(values)))


def _raises(pair: Pair) -> Iterator[Difference]:
    """The exception, or other end, of one of them alone."""
    mine, other = failure(pair.reference, pair.rank), failure(pair.candidate, pair.rank)
    if (mine and (mine.type, mine.message)) == (other and (other.type, other.message)):
        return
    texts = [f"{each.type}: {each.message}" if each else "no exception" for each in (mine, other)]
    step = max(pair.right.attempts.values(), default=0)
    message = f"The candidate ends with `{texts[1]}`" if other else f"Only the reference ends with `{texts[0]}`"
    yield pair.difference(
        "raises", f"{message} after {count(step, 'step')}", mine.at if mine else None, other.at if other else None,
        step=step, values=(texts[0], texts[1]),
    )  # fmt: skip


def _order(pair: Pair) -> Iterator[Difference]:
    """Where backward calls and steps come in another order, or one more or less."""
    for mine, other in zip_longest(_acts(pair.left), _acts(pair.right)):
        told = [_act(event) for event in (mine, other)]
        if told[0] != told[1]:
            yield pair.difference(
                "order", f"{told[1][0].upper()}{told[1][1:]} where the reference has {told[0]}",
                mine.at if mine else None, other.at if other else None, values=(told[0], told[1]),
            )  # fmt: skip
            return


def _acts(record: Record) -> list[Event]:
    return [event for event in record.events if isinstance(event, Backward | Params)]


def _act(event: Event | None) -> str:
    match event:
        case Backward():
            return "a backward call"
        case Params(o=o):
            return f"a step of optimizer {o}"
    return "the end of the run"


def _values(pair: Pair, *, cut: bool) -> Iterator[Difference]:
    """The first number that the script reads and that is another one; ``cut``: one run is shorter, as is known."""
    lists = (pair.left.of(Value), pair.right.of(Value))
    for number, (mine, other) in enumerate(zip(*lists, strict=False), 1):
        if same(mine.x, other.x) or (pair.skipped and not math.isfinite(other.x)):
            continue
        yield pair.difference(
            "values", f"Value {number} that the script reads", mine.at, other.at, step=number,
            values=(repr(mine.x), repr(other.x)),
        )  # fmt: skip
        return
    if not cut and len(lists[0]) != len(lists[1]):
        counts = [len(values) for values in lists]
        extra = max(lists, key=len)[min(counts)]
        places = (extra.at, None) if counts[0] > counts[1] else (None, extra.at)
        message = f"The candidate reads {counts[1]} values, the reference {counts[0]}"
        yield pair.difference("values", message, *places, step=min(counts) + 1, values=(str(counts[0]), str(counts[1])))


def same(left: float, right: float) -> bool:
    """Whether two numbers have the same bits; all NaN are one."""
    return struct.pack("<d", left) == struct.pack("<d", right) or (math.isnan(left) and math.isnan(right))
