"""Runs the text of a training script in this process and records what it computed; knows nothing of conversion.

Four modes, each a different pair of replacements for ``torch.autocast`` and ``torch.amp.GradScaler``:

original   nothing is replaced
off        nothing is replaced: on a machine without CUDA the converted script has AMP switched off by itself
scaled     the scaler is on and its scale doubles after every step, autocast is off: equal bits mean equal programs
full       the scaler is on and autocast is on, both on the CPU; what CUDA autocast forbids raises here too, and what it
           runs in float32 gives float32
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from unittest import mock

import torch
import torch.cuda.amp
import torch.distributed  # imported before anything is replaced: it subclasses the real classes
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from ampify.model.operators import COMPOSED, POLICIES

MODES = ("original", "off", "scaled", "full")


@dataclass
class Trace:
    """What one run computed, in an order that two runs of one program share."""

    steps: list[tuple[int, list[bytes]]] = field(default_factory=list)
    log: list[object] = field(default_factory=list)
    stdout: str = ""
    warnings: set[str] = field(default_factory=set)
    finite: bool = True
    regions: int = 0
    """How often an enabled autocast region was entered."""


def run(text: str, mode: str = "original", dtype: torch.dtype | None = None, scale: float = 2.0**4) -> Trace:
    """Run a script's text as ``__main__``. ``dtype`` overrides the autocast dtype in the mode ``full``.

    ``scale`` is the first one of a scaler.
    """
    assert mode in MODES, mode
    trace = Trace()
    namespace = {"__name__": "__main__", "__file__": "script.py"}
    code = compile(text, "script.py", "exec")
    stdout = io.StringIO()
    with _quiet_machine(stdout) as warned, _recording(trace), replaced(mode, trace, dtype, scale):
        exec(code, namespace)
    trace.log = list(namespace.get("log", ()))
    trace.stdout = stdout.getvalue()
    trace.warnings = {str(warning.message) for warning in warned}
    trace.finite = trace.finite and all(map(math.isfinite, _numbers(trace.log)))
    return trace


def assert_same(left: Trace, right: Trace) -> None:
    """Bit for bit: every parameter after every step, every logged value, every printed character."""
    for number, (a, b) in enumerate(zip(left.steps, right.steps, strict=False)):
        assert a[0] == b[0], f"step {number}: optimizer {a[0]} moved in one run, optimizer {b[0]} in the other"
        assert len(a[1]) == len(b[1]), f"step {number}: {len(a[1])} parameters and {len(b[1])}"
        for index, (x, y) in enumerate(zip(a[1], b[1], strict=True)):
            assert x == y, f"step {number}, optimizer {a[0]}: parameter {index} differs"
    assert len(left.steps) == len(right.steps), f"{len(left.steps)} optimizer steps and {len(right.steps)}"
    for number, (m, n) in enumerate(zip(left.log, right.log, strict=False)):
        assert repr(m) == repr(n), f"log[{number}]: {m!r} and {n!r}"
    assert len(left.log) == len(right.log), f"{len(left.log)} logged values and {len(right.log)}"
    assert left.stdout == right.stdout, f"printed {left.stdout!r} and {right.stdout!r}"


@contextlib.contextmanager
def _quiet_machine(stdout: io.StringIO) -> Iterator[list[warnings.WarningMessage]]:
    """The same seeds, an empty folder, no arguments and no launcher's variables; all put back afterwards."""
    state = random.getstate()
    launcher = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(contextlib.redirect_stdout(stdout))
        stack.enter_context(mock.patch.object(sys, "argv", ["script.py"]))
        stack.enter_context(mock.patch.dict(os.environ, launcher, clear=True))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        warned = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        stack.callback(torch.set_warn_always, torch.is_warn_always_enabled())
        torch.set_warn_always(True)  # some are given once in a process, and would be missed in all programs but one
        stack.callback(random.setstate, state)
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        torch.manual_seed(0)
        random.seed(0)
        if "numpy" in sys.modules:
            numpy = sys.modules["numpy"]
            stack.callback(numpy.random.set_state, numpy.random.get_state())
            numpy.random.seed(0)
        yield warned


@contextlib.contextmanager
def _recording(trace: Trace) -> Iterator[None]:
    seen: dict[int, int] = {}
    alive = []  # keeps every optimizer alive, so that no id is given twice

    def before(optimizer, args, kwargs):
        assert not torch.is_autocast_enabled("cpu"), "an optimizer steps inside an autocast region"

    def after(optimizer, args, kwargs):
        alive.append(optimizer)
        index = seen.setdefault(id(optimizer), len(seen))
        parameters = [p.detach() for group in optimizer.param_groups for p in group["params"]]
        trace.finite = trace.finite and all(bool(p.isfinite().all()) for p in parameters)
        trace.steps.append((index, [_bits(p) for p in parameters]))

    handles = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).tolist())


@contextlib.contextmanager
def replaced(mode: str, trace: Trace, dtype: torch.dtype | None = None, scale: float = 2.0**4) -> Iterator[None]:
    """What the mode puts in the place of autocast and of the scaler."""
    if mode in ("original", "off"):
        yield
        return
    autocast = _forced_autocast(mode == "full", trace, dtype)
    scaler = _forced_scaler(scale)
    with contextlib.ExitStack() as stack:
        for module in (torch, torch.amp, torch.amp.autocast_mode, torch.cuda.amp, torch.cpu.amp):
            stack.enter_context(mock.patch.object(module, "autocast", autocast))
        for module in (torch, torch.amp, torch.amp.grad_scaler, torch.cuda.amp, torch.cpu.amp):
            stack.enter_context(mock.patch.object(module, "GradScaler", scaler, create=True))
        stack.enter_context(_forbidden_in_autocast())
        if mode == "full":
            stack.enter_context(_PoliciesOfCuda())
        yield


def _forced_scaler(scale: float) -> type:
    class ForcedScaler(torch.amp.GradScaler):
        """Enabled on the CPU, whatever the script asked for; the scale doubles at every update."""

        def __init__(self, *args, **kwargs):
            super().__init__("cpu", init_scale=scale, growth_interval=1, enabled=True)

    return ForcedScaler


def _forced_autocast(engaged: bool, trace: Trace, override: torch.dtype | None) -> type:
    real = torch.autocast

    class ForcedAutocast(real):
        """On the CPU, and on or off, whatever the script asked for; the dtype is the script's.

        One for a tensor's device that is not enabled is a subregion in float32, on which no switch has a say.
        """

        def __init__(self, *args, **kwargs):
            asked = next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)), None)
            off = asked is None and kwargs.get("device_type") == "cpu" and kwargs.get("enabled") is False
            self.engaged = engaged and not off
            super().__init__("cpu", dtype=override or asked or torch.float16, enabled=self.engaged)

        def __enter__(self):
            trace.regions += self.engaged
            return super().__enter__()

    return ForcedAutocast


class _PoliciesOfCuda(TorchFunctionMode):
    """Softmax, exp, sum and others, which autocast leaves in half precision on the CPU alone."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = func.__name__.removeprefix("__").removesuffix("__")
        float32 = COMPOSED.get(name, name) in POLICIES["cuda"].float32
        if float32 and torch.is_autocast_enabled("cpu") and not (kwargs or {}).get("dtype"):
            args = tree_map(_widened, args)
        return func(*args, **(kwargs or {}))


def _widened(value):
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in (torch.half, torch.bfloat16) else value


@contextlib.contextmanager
def _forbidden_in_autocast() -> Iterator[None]:
    """What CUDA autocast refuses (BCE on probabilities) or an expert avoids (backward) raises on the CPU too."""

    def outside(function, name):
        def checked(*args, **kwargs):
            assert not torch.is_autocast_enabled("cpu"), f"{name} inside an autocast region"
            return function(*args, **kwargs)

        return checked

    functional = torch.nn.functional
    bce = outside(functional.binary_cross_entropy, "binary_cross_entropy")
    with (
        mock.patch.object(functional, "binary_cross_entropy", bce),
        mock.patch.object(torch.autograd, "backward", outside(torch.autograd.backward, "backward")),
        mock.patch.object(torch.autograd, "grad", outside(torch.autograd.grad, "autograd.grad")),
    ):
        yield


def _numbers(value: object) -> Iterator[float]:
    match value:
        case bool() | str() | None:
            return
        case int() | float():
            yield value
        case dict():
            yield from _numbers(list(value.values()))
        case list() | tuple():
            for item in value:
                yield from _numbers(item)
