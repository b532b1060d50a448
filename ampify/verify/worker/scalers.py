"""Gradient scalers: switched off or made to walk over powers of two, and every call of theirs written down."""

from __future__ import annotations

import collections
import functools
import inspect
import math
import weakref
from typing import Any, Callable, cast

import torch

from .digest import Flag, Number, local
from .job import Job
from .optimizers import watch
from .recorder import Recorder, wrap

Tensor = torch.Tensor
_MARK = "ampify: scale"
"""In the metadata of the graph node that multiplied an output by the scale: that scale."""
_NEAR = 256
"""Nodes of a root's graph that are looked at: between it and the scaled output are a few sums and quotients."""


def install(job: Job, recorder: Recorder) -> None:
    """Take over `GradScaler` and the classes that derive from it; without a record only what the job forces."""
    scalers = Scalers(job, recorder)
    wrap(torch.amp.GradScaler, "__init__", scalers.made)
    if job.scaler == "walk":
        wrap(torch.amp.GradScaler, "load_state_dict", scalers.load)
        for name in ("set_growth_factor", "set_backoff_factor", "set_growth_interval"):
            wrap(torch.amp.GradScaler, name, lambda original, *args: None)


def scale_of(root: Tensor) -> Tensor | None:
    """The scale that a root of `backward` was multiplied by; None for one that no scaler has seen.

    A gradient penalty takes gradients of outputs that are not scaled while others are: the graph tells them apart.
    """
    waiting, seen = collections.deque([root.grad_fn]), {root.grad_fn}
    for _ in range(_NEAR):
        if not waiting or (node := waiting.popleft()) is None:
            continue
        metadata: Any = node.metadata
        if _MARK in metadata:
            return cast("Tensor", metadata[_MARK])
        new = [each for each, _ in node.next_functions if each is not None and each not in seen]
        seen.update(new)
        waiting.extend(new)
    return None


class Scalers:
    """All scalers of a run, numbered in the order of construction."""

    def __init__(self, job: Job, recorder: Recorder) -> None:
        self._job, self._recorder = job, recorder
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._classes: set[type] = set()
        self._busy: set[str] = set()
        self._overflown: set[tuple[int, int]] = set()
        self._made = 0
        self._forced: dict[str, Any] = {}
        if job.scaler == "off":
            self._forced = {"enabled": False}
        elif job.scaler == "walk":
            self._forced = {
                "enabled": True, "init_scale": 2.0**12, "growth_factor": 2.0, "backoff_factor": 0.5,
                "growth_interval": 1 + job.steps // 64,
            }  # fmt: skip

    def made(self, original: Callable[..., None], scaler: Any, *args: Any, **kwargs: Any) -> None:
        """`GradScaler.__init__`; on the CPU where there is no CUDA, for there a scaler switches itself off."""
        given = _signature(original).bind(scaler, *args, **kwargs)
        given.apply_defaults()
        asked = bool(given.arguments["enabled"])
        given.arguments.update(self._forced)
        if self._job.scaler == "walk" and given.arguments["device"] == "cuda" and not torch.cuda.is_available():
            given.arguments["device"] = "cpu"
        original(*given.args, **given.kwargs)
        if self._recorder.watching:
            self._adopt(type(scaler))
            enabled, device = scaler.is_enabled(), str(given.arguments["device"])
            self._recorder.emit("scaler", s=self._number(scaler), asked=asked, enabled=enabled, device=device)

    def load(self, original: Callable[..., None], scaler: Any, state: dict[str, Any]) -> None:
        """`GradScaler.load_state_dict` under the walk: a resumed checkpoint does not move it, a later reset does."""
        if scaler.is_enabled() and scaler._scale is not None:
            original(scaler, state)
            for name in ("growth_factor", "backoff_factor", "growth_interval"):
                setattr(scaler, f"_{name}", self._forced[name])

    def _number(self, scaler: Any) -> int:
        if scaler not in self._numbers:
            self._numbers[scaler] = self._made
            self._made += 1
        return self._numbers[scaler]

    def _adopt(self, kind: type) -> None:
        """Wrap the methods of a class of scalers and of those that it derives from, each once."""
        for each in kind.__mro__:
            if issubclass(each, torch.amp.GradScaler) and each not in self._classes:
                self._classes.add(each)
                for name, around in self._calls.items():
                    if name in vars(each):
                        wrap(each, name, functools.partial(self._call, name, around))

    @property
    def _calls(self) -> dict[str, Callable[..., Any]]:
        return {"scale": self._scale, "unscale_": self._unscale, "step": self._step, "update": self._update}

    def _call(
        self, name: str, around: Callable[..., Any], original: Any, scaler: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """`around` for calls of the script on an enabled scaler, and once where a method calls that of its base."""
        if name in self._busy or not scaler.is_enabled() or not self._recorder.watching:
            return original(scaler, *args, **kwargs)
        self._busy.add(name)
        try:
            return around(functools.partial(original, scaler), scaler, *args, **kwargs)
        finally:
            self._busy.discard(name)

    def _scale(self, original: Callable[..., Any], scaler: Any, outputs: Any) -> Any:
        result = original(outputs)
        with self._recorder.guard("scale"):
            scale = scaler._get_scale_async()
            self._recorder.emit("scale", s=self._number(scaler), v=Number(scale))
            _mark(result, scale.clone())
        return result

    def _unscale(self, original: Callable[..., Any], scaler: Any, optimizer: Any) -> None:
        known = _torch_optimizer(optimizer)
        if known is None:
            original(optimizer)
            return
        o = self._watch.number(known)
        if "step" not in self._busy:
            self._overflow(known, o, self._recorder.attempt(o) + 1)
        original(optimizer)
        with self._recorder.guard("unscale"):
            self._recorder.emit("unscale", s=self._number(scaler), o=o, v=Number(scaler._get_scale_async()))

    def _step(self, original: Callable[..., Any], scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        known = _torch_optimizer(optimizer)
        if known is None:
            return original(optimizer, *args, **kwargs)
        self._watch.unfuse(known)
        attempt = self._watch.begin(known, "scaler")
        self._overflow(known, attempt.o, attempt.n)
        with self._watch.through_scaler(attempt):
            result = original(optimizer, *args, **kwargs)
        self._watch.after(known, attempt)
        with self._recorder.guard("step"):
            stepped = attempt.stepped if attempt.found_inf is None else Flag(attempt.found_inf, nonzero=False)
            self._recorder.emit("step", s=self._number(scaler), o=attempt.o, n=attempt.n, stepped=stepped)
        return result

    def _update(self, original: Callable[..., Any], scaler: Any, *args: Any, **kwargs: Any) -> None:
        scale = scaler._get_scale_async()
        before = None if scale is None else Number(scale)
        original(*args, **kwargs)
        with self._recorder.guard("update"):
            after = Number(scaler._get_scale_async())
            self._recorder.emit("update", s=self._number(scaler), before=before, after=after)

    @property
    def _watch(self) -> Any:
        return watch(self._job, self._recorder)

    def _overflow(self, optimizer: Any, o: int, n: int) -> None:
        """Put an inf into a gradient, if this attempt is to overflow; once."""
        if not self._recorder.attempts.overflows(o, n) or (o, n) in self._overflown:
            return
        grads = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        with self._recorder.guard("overflow"):
            for grad in grads:
                values = grad._values() if grad.is_sparse else local(grad)
                if values.numel():
                    values[(0,) * values.dim()] = math.inf
                    self._overflown.add((o, n))
                    return


_signature = functools.cache(inspect.signature)


def _mark(outputs: Any, scale: Tensor) -> None:
    if isinstance(outputs, Tensor):
        if outputs.grad_fn is not None:
            metadata: Any = outputs.grad_fn.metadata
            metadata[_MARK] = scale
    elif isinstance(outputs, (list, tuple)):
        for each in outputs:
            _mark(each, scale)


def _torch_optimizer(optimizer: Any) -> Any:
    """The optimizer itself, or the one that an object which behaves like an optimizer holds."""
    held = [optimizer, *getattr(optimizer, "__dict__", {}).values()]
    return next((each for each in held if isinstance(each, torch.optim.Optimizer)), None)
