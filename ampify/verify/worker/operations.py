"""Which operations are matrix work, and how much of it a run does in which dtype. Changes no result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

if TYPE_CHECKING:
    from .job import Job
    from .recorder import Recorder

Formula = Callable[..., int]
"""Floating point operations of one call: the arguments of the operation and ``out_val``, its result."""


def mode(job: Job, recorder: Recorder) -> AbstractContextManager[Any]:
    """Around the script: at its end one `ops` event, ``{"mm:float16": {"calls": n, "flops": n}}``."""
    return _counted(recorder) if job.count else nullcontext()


@contextmanager
def _counted(recorder: Recorder) -> Iterator[None]:
    counts = Counts()
    try:
        with counts:
            yield
    finally:
        recorder.emit("ops", **counts.found)


class Decomposing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that sees what composite operations consist of: under `inference_mode` they arrive whole.

    Autograd hands the mode on to the threads of a backward pass; threads that the script starts itself are not seen.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled():
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        return self.call(func, args, kwargs or {})

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of one operation that is no composite."""
        raise NotImplementedError


class Counts(Decomposing):  # type: ignore[no-untyped-call]
    """Calls and floating point operations of matrix work by operation and dtype of its first floating input."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, dict[str, int]] = {}

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        formula = FORMULAS.get(name_of(func))
        dtype = formula and next((dtype for tensor in args if (dtype := _floating(tensor))), None)
        if formula and dtype:
            entry = self.found.setdefault(f"{func._schema.name.split('::')[1]}:{dtype}", {"calls": 0, "flops": 0})
            entry["calls"] += 1
            entry["flops"] += int(formula(*args, **kwargs, out_val=result))
        return result


@cache
def name_of(func: Any) -> str:
    """``aten::mm`` for an operation that makes its result; in-place and ``out=`` forms keep their mark.

    Autocast lowers only the former: ``aten::addmm_`` and ``aten::addmm.out`` run in the dtype they are given.
    """
    return f"{func._schema.name}.out" if func._schema.is_mutable else str(func._schema.name)


def _floating(value: object) -> str | None:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return str(value.dtype).split(".")[1]
    return None


def _vector(matrix: torch.Tensor, vector: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _added_vector(added: torch.Tensor, matrix: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * matrix.numel()


def _outer(added: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * left.numel() * right.numel()


def _batched(added: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * left.numel() * right.shape[-1]


def _linear(input: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> int:
    return 2 * input.numel() * weight.shape[0]


def _recurrent(input: torch.Tensor, *others: Any, **_: Any) -> int:
    """Every token meets every weight once; the weights come one by one or as a list."""
    weights: Sequence[torch.Tensor] = others[0] if isinstance(others[0], Sequence) else others[:2]
    return 2 * math.prod(input.shape[:-1]) * sum(weight.numel() for weight in weights if weight.dim() > 1)


def _recurrent_backward(input: torch.Tensor, *others: Any, **_: Any) -> int:
    return 2 * _recurrent(input, *others)


def _formulas() -> dict[str, Formula]:
    counted = {packet._qualified_op_name: formula for packet, formula in flop_registry.items() if _is_aten(packet)}
    attention = "aten::_scaled_dot_product_flash_attention"
    return {
        **counted,
        f"{attention}_for_cpu": counted[attention],
        f"{attention}_for_cpu_backward": counted[f"{attention}_backward"],
        "aten::dot": _vector,
        "aten::vdot": _vector,
        "aten::mv": _vector,
        "aten::addmv": _added_vector,
        "aten::addr": _outer,
        "aten::addbmm": _batched,
        "aten::linear": _linear,
        "aten::mkldnn_rnn_layer": _recurrent,
        "aten::mkldnn_rnn_layer_backward": _recurrent_backward,
        "aten::_cudnn_rnn": _recurrent,
        "aten::_cudnn_rnn_backward": _recurrent_backward,
    }


def _is_aten(packet: Any) -> bool:
    return str(getattr(packet, "_qualified_op_name", "")).startswith("aten::")


FORMULAS: dict[str, Formula] = _formulas()
"""Every matrix operation below autograd: torch's own list (`torch.utils.flop_counter`) and what it leaves out."""
