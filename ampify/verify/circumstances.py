"""What a reader has to know beside the levels: what was forced, what was imitated, what the script did to the world."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ampify.verify.record import Outcome, Record, Scaler, Start, Touched
from ampify.verify.request import Request

_VERBS = {"write": "wrote", "remove": "removed", "network": "connected to", "process": "started"}


def notes(request: Request, reference: Outcome, scaled: Outcome | None, bite: dict[str, float] | None) -> list[str]:
    """In words. ``scaled`` is the candidate's run with its scaler on."""
    return [*_of_setup(request, reference.record, bite), *_of_scaler(scaled.record if scaled else None)]


def touched(outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """What left the scratch folder, or outlived the script."""
    return tuple(dict.fromkeys(deed for outcome in outcomes for deed in _deeds(outcome)))


def _deeds(outcome: Outcome) -> Iterator[str]:
    for record in outcome.records.values():
        yield from (f"{_VERBS[event.what]} {event.name}" for event in record.of(Touched))
    yield from (f"left a process running, which was ended: {command}" for command in outcome.left)


def _of_setup(request: Request, record: Record, bite: dict[str, float] | None) -> Iterator[str]:
    for start in record.of(Start):
        yield f"torch {start.torch}, Python {start.python}, {start.cuda or 'no CUDA device'}"
    if (made := max(record.attempts.values(), default=0)) < request.steps:
        yield f"the script made {made} of the {request.steps} steps that were asked for"
    if record.named("unfused"):
        yield "optimizers run unfused in the exact runs: fused kernels round once more while they unscale"
    if any(each.get("count") for each in record.named("compiled")):
        yield "`torch.compile` is off in the exact runs"
    if bite:
        yield "clipping is held to a smaller limit, the same in all runs, so that it does clip in these few steps"
    for data in record.named("synthetic"):
        yield f"made-up data in the place of `{data.get('name')}`"
    for fault in record.named("fault"):
        yield f"not everything was recorded: {fault.get('where')}: {fault.get('message')}"


def _of_scaler(record: Record | None) -> Iterator[str]:
    scalers = record.of(Scaler) if record else ()
    if any(not scaler.asked for scaler in scalers):
        yield (
            "the scaler was forced on, though the script disables it here; a flag that the script reads itself was left"
            " as it is"
        )
    on_cuda = record is not None and any(start.cuda for start in record.of(Start))
    if record and on_cuda and not any(each.get("entered") for each in record.named("autocast")):
        yield "the candidate enters no autocast region in these steps"
