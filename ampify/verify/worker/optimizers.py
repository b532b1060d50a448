"""What each optimizer is given and what it leaves behind: one wrapper around the step of every optimizer."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable

import torch

from .digest import Flag, Part
from .homes import Home, find
from .job import Job
from .recorder import Recorder, wrap

Step = Callable[..., Any]


@dataclass
class Attempt:
    """One attempt of an optimizer to step."""

    o: int
    n: int
    via: str
    stepped: bool = False
    """Whether the step function ran."""
    recorded: bool = False
    """Whether what it left behind was recorded."""
    found_inf: torch.Tensor | None = None
    """What tells a fused kernel to skip; None where the scaler itself skips."""

    def skipped(self) -> Any:
        """Whether the parameters were left alone; a `Pending` where only the device knows."""
        return Flag(self.found_inf, nonzero=True) if self.found_inf is not None else not self.stepped


def install(job: Job, recorder: Recorder) -> None:
    """Watch every optimizer whose class takes its first step from now on."""
    watch(job, recorder)


def watch(job: Job, recorder: Recorder) -> Watch:
    """The one `Watch` of a recorder, made at the first call."""
    if recorder.watch is None:
        recorder.watch = Watch(job, recorder)
        wrap(torch.optim.Optimizer, "__init__", recorder.watch.made)
        hook = functools.partial(recorder.watch.hook, torch.optim.Optimizer.profile_hook_step)
        torch.optim.Optimizer.profile_hook_step = staticmethod(hook)  # type: ignore[method-assign]
        recorder.closing.append(recorder.watch.names)
    watched: Watch = recorder.watch
    return watched


class Watch:
    """All optimizers of a run."""

    def __init__(self, job: Job, recorder: Recorder) -> None:
        self._job, self._recorder, self._local = job, recorder, threading.local()
        self._homes: dict[int, Home] = {}

    def made(self, original: Callable[..., None], optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """`Optimizer.__init__`."""
        original(optimizer, *args, **kwargs)
        if self._recorder.watching:
            self.number(optimizer)

    def number(self, optimizer: torch.optim.Optimizer) -> int:
        """The number of an optimizer, in the order of construction; of an unpickled copy, of its first step."""
        known = self._recorder.attempts.number(optimizer)
        if known is not None:
            return known
        o = self._recorder.attempts.add(optimizer)
        self._recorder.emit("optimizer", o=o, type=type(optimizer).__name__, params=len(_params(optimizer)))
        return o

    def hook(self, hooked: Callable[[Step], Step], func: Step) -> Step:
        """`Optimizer.profile_hook_step`: the step that a class gets in place of `func`; `hooked` is torch's own."""
        run = hooked(func)

        @functools.wraps(func)
        def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(self._local, "inside", False) or not self._recorder.watching:
                return run(optimizer, *args, **kwargs)
            with self._inside():
                self.unfuse(optimizer)
                if callable(kwargs.get("closure", args[0] if args else None)):
                    return self._with_closure(run, optimizer, *args, **kwargs)
                return self._plain(run, optimizer, *args, **kwargs)

        return step

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """Steps inside of a step (a call of `super`, an optimizer in a wrapper) belong to it."""
        self._local.inside = True
        try:
            yield
        finally:
            self._local.inside = False

    @contextlib.contextmanager
    def through_scaler(self, attempt: Attempt) -> Iterator[None]:
        """Steps inside are those of a scaler, the first one of its optimizer is that of `attempt`."""
        self._local.scaled = attempt
        try:
            yield
        finally:
            self._local.scaled = None

    def _plain(self, run: Step, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        attempt = self._due(optimizer)
        if self._recorder.attempts.suppressed(attempt.o, attempt.n):
            self.after(optimizer, attempt)
            return None
        self._before(optimizer, attempt)
        attempt.stepped = True
        result = run(optimizer, *args, **kwargs)
        self.after(optimizer, attempt)
        return result

    def _with_closure(self, run: Step, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """The attempt begins when the closure has run for the first time: then the gradients are there."""
        closure = kwargs.pop("closure") if "closure" in kwargs else args[0]
        o, begun = self.number(optimizer), list[Attempt]()

        def evaluate(*given: Any) -> Any:
            loss = closure(*given)
            if not begun:
                begun.append(self._due(optimizer))
                if not suppressed:
                    self._before(optimizer, begun[0])
            return loss

        suppressed = self._recorder.attempts.suppressed(o, self._recorder.attempt(o) + 1)
        result = evaluate() if suppressed else run(optimizer, evaluate, *args[1:], **kwargs)
        attempt = begun[0] if begun else self._due(optimizer)
        attempt.stepped = not suppressed
        self.after(optimizer, attempt)
        return result

    def _due(self, optimizer: Any) -> Attempt:
        """The attempt that the scaler has begun for this step, or a new one."""
        scaled: Attempt | None = getattr(self._local, "scaled", None)
        if scaled is not None and not scaled.stepped and scaled.o == self.number(optimizer):
            return scaled
        return self.begin(optimizer, "direct" if scaled is None else "scaler")

    def begin(self, optimizer: Any, via: str) -> Attempt:
        """Count an attempt; raises `Stop` where the optimizer has made all of them."""
        o = self.number(optimizer)
        attempt = Attempt(o, self._recorder.begin_attempt(o), via)
        with self._recorder.guard("begin"):
            if o not in self._homes or len(self._homes[o].names) != len(_params(optimizer)):
                self._homes[o] = find(_params(optimizer))
            if attempt.n == 1:
                self._recorder.sketch("start", o, 0, _params(optimizer))
        return attempt

    def unfuse(self, optimizer: Any) -> None:
        """Where the job says so, the optimizer forgets that it is fused; a checkpoint may have reminded it."""
        if self._job.unfused:
            for group in optimizer.param_groups:
                if group.get("fused"):
                    group["fused"] = False
                    self._recorder.emit("unfused", type=type(optimizer).__name__)
            if getattr(optimizer, "_step_supports_amp_scaling", False):
                optimizer._step_supports_amp_scaling = False

    def _before(self, optimizer: Any, attempt: Attempt) -> None:
        """Record the gradients, which a fused step gets scaled."""
        with self._recorder.guard("grads"):
            attempt.found_inf = getattr(optimizer, "found_inf", None)
            scale = getattr(optimizer, "grad_scale", None)
            grads = [p.grad if p.grad is None or scale is None else p.grad / scale for p in _params(optimizer)]
            lr = [float(group.get("lr", "nan")) for group in optimizer.param_groups]
            o, n = attempt.o, attempt.n
            self._recorder.emit("grads", o=o, n=n, d=self._recorder.digest(grads), lr=lr, via=attempt.via)
            self._recorder.sketch("grads", o, n, grads)
            self._recorder.keep("grads", o, n, grads)

    def after(self, optimizer: Any, attempt: Attempt) -> None:
        """Record parameters and buffers, whether the attempt was skipped or not."""
        if attempt.recorded:
            return
        attempt.recorded = True
        with self._recorder.guard("params"):
            o, n, params, buffers = attempt.o, attempt.n, _params(optimizer), self._homes[attempt.o].buffers()
            digests, count = self._recorder.digest([*params, *buffers]), len(params)
            d, b = Part(digests, slice(count)), Part(digests, slice(count, None))
            self._recorder.emit("params", o=o, n=n, d=d, b=b, skipped=attempt.skipped())
            self._recorder.sketch("params", o, n, params)
            self._recorder.keep("params", o, n, params)
            self._recorder.keep("buffers", o, n, buffers)

    def names(self) -> None:
        """At the end: what parameters and buffers are called."""
        for o, home in sorted(self._homes.items()):
            self._recorder.emit("names", o=o, params=home.names, buffers=home.buffer_names)


def _params(optimizer: Any) -> list[torch.Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"]]
