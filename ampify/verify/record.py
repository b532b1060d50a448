"""What a run of the script left behind: the events it wrote, and how its processes ended; judges nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

Place = tuple[str, int]
"""Absolute file and line, of the innermost frame in a file of the project."""
Digests = tuple[str | None, ...]
"""One a tensor; None for a gradient that is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that the run did, at `at` where a frame of the project led to it."""

    kind: ClassVar[str]
    at: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Event):
    kind: ClassVar[str] = "start"
    torch: str
    python: str
    cuda: str | None = None
    pid: int
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer(Event):
    kind: ClassVar[str] = "optimizer"
    o: int
    type: str
    params: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backward(Event):
    """`d` and `x`, the sum, are those of the root divided by `scale`; `size` is the number of its elements."""

    kind: ClassVar[str] = "backward"
    i: int
    d: str | None
    x: float
    dtype: str
    size: int
    scale: float

    @property
    def is_loss(self) -> bool:
        """Several elements come with a gradient of their own: their sum may overflow without harm."""
        return self.size == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(Event):
    kind: ClassVar[str] = "clip"
    clipped: Literal["norm", "value"]
    limit: float
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler(Event):
    kind: ClassVar[str] = "scaler"
    s: int
    asked: bool
    enabled: bool
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale(Event):
    kind: ClassVar[str] = "scale"
    s: int
    v: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscale(Event):
    kind: ClassVar[str] = "unscale"
    s: int
    o: int
    v: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Event):
    kind: ClassVar[str] = "step"
    s: int
    o: int
    n: int
    stepped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Event):
    kind: ClassVar[str] = "update"
    s: int
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Grads(Event):
    """What optimizer `o` sees at its attempt `n`, unscaled."""

    kind: ClassVar[str] = "grads"
    o: int
    n: int
    d: Digests
    lr: tuple[float, ...]
    via: Literal["scaler", "direct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Params(Event):
    """After attempt `n`, whether it stepped or not; `b` are the buffers."""

    kind: ClassVar[str] = "params"
    o: int
    n: int
    d: Digests
    b: Digests
    skipped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Value(Event):
    kind: ClassVar[str] = "value"
    x: float
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch(Event):
    """`sizes` float32 a tensor (-1: missing), from byte `offset` of `file` on."""

    kind: ClassVar[str] = "sketch"
    what: Literal["start", "grads", "params"]
    o: int
    n: int
    file: str
    offset: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines(Event):
    kind: ClassVar[str] = "lines"
    lines: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files(Event):
    kind: ClassVar[str] = "files"
    loaded: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names(Event):
    kind: ClassVar[str] = "names"
    o: int
    params: tuple[str, ...]
    buffers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched(Event):
    """What the script did to the world outside of its scratch folder."""

    kind: ClassVar[str] = "touched"
    what: Literal["write", "remove", "network", "process"]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Other(Event):
    """An event of a kind that needs no type of its own, its fields as they were written."""

    kind: ClassVar[str] = "other"
    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that ended the script; the traceback has the frames of the project."""

    type: str
    message: str
    traceback: str
    at: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Event):
    kind: ClassVar[str] = "end"
    status: Literal["stopped", "completed", "exit", "error", "os._exit"]
    code: int
    error: Raised | None
    seconds: float
    attempts: Mapping[int, int]
    """Of each optimizer."""
    swallowed: bool


E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Record:
    """The events of one process, in order."""

    events: tuple[Event, ...]
    folder: Path

    def of(self, kind: type[E]) -> tuple[E, ...]:
        """The events of one kind."""
        return tuple(event for event in self.events if isinstance(event, kind))

    def named(self, name: str) -> tuple[Mapping[str, Any], ...]:
        """The fields of the events of a kind without a type: `nondeterministic`, `ops`, `bench`, ..."""
        return tuple(event.fields for event in self.of(Other) if event.name == name)

    @cached_property
    def end(self) -> End | None:
        """None where the process died before it could write it."""
        return next(iter(self.of(End)), None)

    @cached_property
    def attempts(self) -> dict[int, int]:
        """How often each optimizer came to its step."""
        found = dict.fromkeys((event.o for event in self.of(Optimizer)), 0)
        return found | {event.o: event.n for event in self.of(Params)}

    @cached_property
    def loaded(self) -> tuple[Path, ...]:
        """Files of the project that were imported or run."""
        return tuple(Path(path) for event in self.of(Files) for path in event.loaded)

    @cached_property
    def ran(self) -> dict[Path, frozenset[int]]:
        """Of the watched lines those that were executed."""
        return {Path(path): frozenset(lines) for event in self.of(Lines) for path, lines in event.lines.items()}


@dataclass(frozen=True)
class Outcome:
    """One run: the record of each rank, how it ended, and the head and tail of what it printed."""

    records: Mapping[int, Record]
    ended: Literal["exit", "signal", "timeout"]
    code: int
    """The exit status, or the number of the signal; 0 after a timeout."""
    seconds: float
    output: str
    stacks: str
    """Where each thread was shortly before the timeout."""
    left: tuple[str, ...] = ()
    """Commands of the processes that the script had left running, which were ended."""

    @property
    def record(self) -> Record:
        """That of rank 0."""
        return self.records[0]


def read(folder: Path) -> dict[int, Record]:
    """The records of all ranks in the folder of an arm; rank 0 is there in any case."""
    found = {0: Record((), folder)}
    for path in sorted(folder.glob("record*.jsonl")):
        rank = int(path.name.removeprefix("record").removesuffix("jsonl").strip(".") or 0)
        found[rank] = Record(tuple(_events(path)), folder)
    return found


def _events(path: Path) -> Iterator[Event]:
    for line in path.read_text("utf-8", "replace").splitlines():
        try:
            fields = json.loads(line)
        except ValueError:  # the process was killed while it wrote
            return
        yield parse(fields)


_KINDS: dict[str, type[Event]] = {
    each.kind: each
    for each in (
        Start, Optimizer, Backward, Clip, Scaler, Scale, Unscale, Step, Update, Grads, Params, Value, Sketch, Files,
        Names, Touched, End,
    )
}  # fmt: skip
_NUMBERS = {"x", "v", "scale", "limit", "size", "before", "after"}


def parse(fields: Mapping[str, Any]) -> Event:
    """One line of a record as an event."""
    given = {name: _value(name, value) for name, value in fields.items() if name != "k"}
    at = given.pop("at", None)
    match fields["k"]:
        case "lines":
            return Lines(at=at, lines=given)
        case "clip":
            return Clip(at=at, clipped=given["kind"], limit=given["limit"], size=given["size"])
        case "end":
            return _end(given)
        case kind if kind in _KINDS:
            known = {each.name for each in dataclasses.fields(_KINDS[kind])}
            return _KINDS[kind](at=at, **{name: value for name, value in given.items() if name in known})
        case kind:
            return Other(at=at, name=kind, fields=given)


def _end(given: dict[str, Any]) -> End:
    error = given.pop("error")
    raised = Raised(**{name: _value(name, value) for name, value in error.items()}) if error else None
    attempts = {int(o): n for o, n in given.pop("attempts").items()}
    return End(error=raised, attempts=attempts, **given)


def _value(name: str, value: Any) -> Any:
    """JSON has neither tuples nor numbers that are not finite."""
    if name in _NUMBERS:
        return float(value)
    if name == "lr":
        return tuple(float(each) for each in value)
    return tuple(value) if isinstance(value, list) else value
