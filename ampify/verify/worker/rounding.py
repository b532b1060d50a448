"""The null model: what a lower mantissa costs by itself, on the float32 program. Knows nothing of autocast's ranges."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from .operations import FORMULAS, Decomposing, name_of

if TYPE_CHECKING:
    from .job import Job

MANTISSA = {"float16": 10, "bfloat16": 7}
"""Bits of the mantissa; float32 has 23."""

CELLS = frozenset(
    f"aten::{name}"
    for name in (
        "_thnn_fused_lstm_cell",
        "_thnn_fused_gru_cell",
        "_thnn_fused_gru_cell_backward",
        "_prelu_kernel",
        "_prelu_kernel_backward",
    )
)
"""What autocast's float16 policy lowers besides matrix work."""

ATTENTION = frozenset(name for name in FORMULAS if "attention" in name)
KEEPS_STATE = frozenset(
    {
        "aten::_thnn_fused_lstm_cell_backward_impl",
        "aten::mkldnn_rnn_layer_backward",
        "aten::_cudnn_rnn_backward",
        *(name for name in ATTENTION if name.endswith("_backward")),
    }
)
"""Backward passes whose saved tensors belong together (an output and its log-sum): only their results are rounded."""


def mode(job: Job) -> AbstractContextManager[Any]:
    """Around the script: rounds where autocast would lower, if the job asks for it."""
    rounding = job.rounding
    if rounding is None:
        return nullcontext()
    return Rounding(rounding["dtype"], rounding["seed"], rounding["guard"])


class Rounding(Decomposing):  # type: ignore[no-untyped-call]
    """Rounds float32 inputs and results of lowered operations to a shorter mantissa; exponents stay those of float32.

    Rounding is stochastic, from an own generator per device, so that the script draws the numbers it always draws.
    ``guard`` leaves out that many more bits. Only what belongs to the model is rounded: inside a module, in a backward
    pass, or where a gradient is asked for. Labels that a script makes by a product of matrices stay the same labels,
    and what an optimizer multiplies is left alone.
    """

    def __init__(self, dtype: str, seed: int, guard: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dropped = 23 - MANTISSA[dtype] + guard
        self.seed = seed
        self.generators: dict[torch.device, torch.Generator] = {}
        self.depth = threading.local()
        self.plain_call: Any = None

    def __enter__(self) -> Rounding:
        self.plain_call = torch.nn.Module.__call__

        @wraps(self.plain_call)
        def inside(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            self.depth.modules = self._modules + 1
            try:
                return self.plain_call(module, *args, **kwargs)
            finally:
                self.depth.modules -= 1

        torch.nn.Module.__call__ = inside  # type: ignore[method-assign]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        torch.nn.Module.__call__ = self.plain_call  # type: ignore[method-assign]

    @property
    def _modules(self) -> int:
        """How many calls of modules this thread is in."""
        return getattr(self.depth, "modules", 0)

    def _of_model(self, args: Any) -> bool:
        if self._modules or torch._C._current_graph_task_id() != -1:
            return True
        return any(isinstance(arg, torch.Tensor) and arg.requires_grad for arg in tree_leaves(args))

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = name_of(func)
        if not _is_lowered(name) or not self._of_model(args):
            return func(*args, **kwargs)
        if name in KEEPS_STATE:
            return self._rounded(func(*args, **kwargs))
        if name in ATTENTION or name == "aten::_cudnn_rnn":
            return self._first_rounded(name, func, args, kwargs)
        return self._rounded(func(*self._rounded(args), **self._rounded(kwargs)))

    def _first_rounded(self, name: str, func: Any, args: Any, kwargs: Any) -> Any:
        """The result, but not the state kept for the backward pass, such as the logarithm of a sum."""
        args = self._rounded(args)
        if name == "aten::_cudnn_rnn":
            args = (*args[:3], None, *args[4:])  # the packed copy of the weights is not rounded: pack again
        output, *state = func(*args, **self._rounded(kwargs))
        return (self._rounded(output), *state)

    def _rounded(self, values: Any) -> Any:
        return tree_map_only(torch.Tensor, self._round, values)

    def _round(self, tensor: torch.Tensor) -> torch.Tensor:
        """``tensor`` itself unless it is dense float32."""
        if tensor.dtype is not torch.float32 or tensor.layout is not torch.strided or not tensor.numel():
            return tensor
        span = 1 << self.dropped
        noise = torch.empty_like(tensor, dtype=torch.int32).random_(0, span, generator=self._generator(tensor.device))
        bits = (tensor.view(torch.int32) + noise) & -span
        return torch.where(tensor.isfinite(), bits.view(torch.float32), tensor)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self.generators[device]


@cache
def _is_lowered(name: str) -> bool:
    """Whether autocast runs the operation in the low dtype.

    A library's operation counts if it has an autocast kernel of its own: torch does not say of which policy.
    """
    if name in FORMULAS or name in CELLS or name in KEEPS_STATE:
        return True
    if name.startswith(("aten::", "prim::", "prims::")):
        return False
    keys = ("AutocastCUDA", "AutocastCPU")
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in keys)
