"""How a run ended, in words: its exception, its death, its silence."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from pathlib import Path

from ampify.verify.record import Outcome, Place, Raised, Record

_FRAME = re.compile(r'File "(.+)", line (\d+)')
_TAIL = 2000
"""Characters of the output that are shown."""


def failure(outcome: Outcome, rank: int = 0) -> Raised | None:
    """What went wrong in a run; None where it was stopped after its steps, or came to its own end."""
    record = outcome.records.get(rank, Record((), outcome.record.folder))
    end = record.end
    if end is None:
        return Raised(*_death(outcome), outcome.stacks or outcome.output[-_TAIL:], _last_place(record))
    if end.error:
        return end.error
    if end.status in ("exit", "os._exit") and end.code:
        return Raised("SystemExit", f"exit status {end.code}", outcome.output[-_TAIL:])
    return None


def _death(outcome: Outcome) -> tuple[str, str]:
    match outcome.ended:
        case "timeout":
            return "Timeout", f"not done after {outcome.seconds:.0f} s"
        case "signal":
            return "Killed", f"the process died of {_signal(outcome.code)}"
    return "Ended", f"the process ended with status {outcome.code} and left no record"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_place(record: Record) -> Place | None:
    """The last place that the run is known to have been at."""
    return next((event.at for event in reversed(record.events) if event.at), None)


def innermost(stacks: str, roots: Iterable[Path]) -> Place | None:
    """The project's own frame that was the last to be entered, in what `faulthandler` wrote."""
    folders = tuple(roots)
    for path, line in _FRAME.findall(stacks):  # the innermost frame comes first
        file = Path(path)
        if "site-packages" not in file.parts and any(file.is_relative_to(folder) for folder in folders):
            return path, int(line)
    return None
