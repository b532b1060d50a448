"""Clipping of gradients: what was asked for, what was found, and a limit low enough that clipping happens."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any, Callable

import torch

from .digest import Number, local
from .job import Job
from .recorder import Recorder, wrap

Tensor = torch.Tensor
_LIMITS = {
    "clip_grad_norm_": ("norm", "max_norm"),
    "clip_grad_value_": ("value", "clip_value"),
    "clip_grads_with_norm_": ("norm", "max_norm"),
}
"""Functions of `torch.nn.utils`: the kind of their limit, and the argument that is the limit."""


def install(job: Job, recorder: Recorder) -> None:
    """Take over the clipping functions, under both names that they can be imported from."""
    for name, (kind, argument) in _LIMITS.items():
        if hasattr(torch.nn.utils, name):
            wrap(torch.nn.utils, name, functools.partial(_clip, job, recorder, kind, argument))
            if hasattr(torch.nn.utils.clip_grad, name):
                setattr(torch.nn.utils.clip_grad, name, getattr(torch.nn.utils, name))


def _clip(
    job: Job, recorder: Recorder, kind: str, argument: str, original: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    if not recorder.watching:
        return original(*args, **kwargs)
    given = inspect.signature(original).bind(*args, **kwargs).arguments
    parameters = given["parameters"]
    given["parameters"] = parameters if isinstance(parameters, Tensor) else list(parameters)
    limit = float(given[argument])
    with recorder.guard("clip"):
        size = _largest(given["parameters"]) if kind == "value" else given.get("total_norm")
    bite = (job.bite or {}).get(kind)
    given[argument] = limit if bite is None else min(limit, bite)
    norm = original(**given)
    with recorder.guard("clip"):
        recorder.emit("clip", kind=kind, limit=limit, size=Number(norm if size is None else size))
    return norm


def _largest(parameters: Tensor | Iterable[Tensor]) -> Tensor:
    """The largest absolute value in the gradients; shape (), float64."""
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [local(each.grad) for each in given if each.grad is not None]
    found = [each.abs().max().double().cpu() for each in grads if each.numel()]
    return torch.stack(found).max() if found else torch.zeros((), dtype=torch.float64)
