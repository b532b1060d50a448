"""Learning-rate schedulers that a control holds back, as a script does that guards them against skipped steps."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable

import torch

from .job import Job
from .recorder import Recorder, wrap

_BASES = (torch.optim.lr_scheduler.LRScheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
"""The second is no subclass of the first in older releases."""


def install(job: Job, recorder: Recorder) -> None:
    """Where a skipped attempt says `hold`, a scheduler's step after it, up to the next attempt, does nothing."""
    held = {(each["optimizer"], each["attempt"]) for each in job.skip if each.get("hold")}
    for kind in vars(torch.optim.lr_scheduler).values() if held else ():
        if inspect.isclass(kind) and "step" in vars(kind) and issubclass(kind, _BASES):
            wrap(kind, "step", functools.partial(_step, recorder, held))


def _step(
    recorder: Recorder,
    held: set[tuple[int, int]],
    original: Callable[..., Any],
    scheduler: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    o = recorder.attempts.number(scheduler.optimizer) if hasattr(scheduler, "optimizer") else None
    if o is not None and (o, recorder.attempt(o)) in held:
        return None
    return original(scheduler, *args, **kwargs)
