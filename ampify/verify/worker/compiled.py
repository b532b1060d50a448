"""Counts what the script compiles, so that the report can tell where compilation was off."""

from __future__ import annotations

from typing import Any, Callable

import torch

from .job import Job
from .recorder import Recorder, wrap


def install(job: Job, recorder: Recorder) -> None:
    """Count the calls of `torch.compile` and of `Module.compile`; the record has them at its end, if there are any."""
    calls: list[str] = []

    def compile_(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls.append(original.__name__)
        return original(*args, **kwargs)

    wrap(torch, "compile", compile_)
    wrap(torch.nn.Module, "compile", compile_)
    recorder.closing.append(lambda: recorder.emit("compiled", count=len(calls)) if calls else None)
