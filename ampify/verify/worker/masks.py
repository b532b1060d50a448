"""Random numbers that do not depend on the dtype, so that float32 and half runs drop the same elements.

On CUDA a dropout mask depends on the dtype it is drawn for; fused kernels (attention, recurrent layers) draw their own.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, Callable

import torch
from torch.nn import functional
from torch.nn.modules import rnn

from .operations import Decomposing

if TYPE_CHECKING:
    from .job import Job
    from .recorder import Recorder

HALF = (torch.float16, torch.bfloat16)

FILLS = frozenset(
    "aten::" + name
    for base in ("bernoulli", "cauchy", "exponential", "geometric", "log_normal", "normal", "random", "uniform")
    for name in (base, base + "_")
) | frozenset(
    "aten::" + name
    for name in (
        *("rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "poisson", "multinomial"),
        *("rrelu_with_noise", "rrelu_with_noise_", "rrelu_with_noise_functional"),
    )
)
"""Operations that draw numbers into a tensor, or with a tensor's dtype."""

RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def install(job: Job, recorder: Recorder) -> None:
    """For the rest of the process: fills and masks are drawn in float32, fused layers that draw are taken apart."""
    Fills().__enter__()  # type: ignore[no-untyped-call]
    attention = torch.nn.functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = torch._C._nn.scaled_dot_product_attention = _apart(attention)
    for name in RECURRENT:
        layer = _layer_by_layer(getattr(torch._VF, name))
        setattr(torch._VF, name, layer)
        if name.startswith("rnn"):
            rnn._rnn_impls[name.upper()] = layer


class Fills(Decomposing):  # type: ignore[no-untyped-call]
    """Draws fills of half tensors in float32 and casts; dropout masks are ``rand(shape) >= p`` whatever the dtype."""

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = func._schema.name
        if name == "aten::native_dropout":
            return _dropped(*args, **kwargs)
        if name in FILLS and "out" not in kwargs:
            if kwargs.get("dtype") in HALF:
                return func(*args, **{**kwargs, "dtype": torch.float32}).to(kwargs["dtype"])
            if any(_is_half(arg) for arg in args):
                return _drawn_in_float(func, args, kwargs)
        return func(*args, **kwargs)


def _is_half(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in HALF


def _dropped(input: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
    """What `native_dropout` gives: the scaled output and the boolean mask."""
    if train is False or p == 0:
        return input.clone(), torch.ones_like(input, dtype=torch.bool)
    mask = torch.rand(input.shape, device=input.device, dtype=torch.float32) >= p
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return input * mask * scale, mask


def _drawn_in_float(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation on float32 copies; what it wrote and what it gives are half again."""
    copies = tuple(arg.float() if _is_half(arg) else arg for arg in args)
    result = func(*copies, **kwargs)
    for declared, arg, copy in zip(func._schema.arguments, args, copies):
        if arg is not copy and declared.alias_info is not None and declared.alias_info.is_write:
            arg.copy_(copy)
    dtype = next(arg.dtype for arg in args if _is_half(arg))
    for arg, copy in zip(args, copies):
        if result is copy:
            return arg
    return result.to(dtype) if result.dtype is torch.float32 else result


def _apart(fused: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`scaled_dot_product_attention` as two products and a dropout, where it has a dropout."""

    def scaled_dot_product_attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> torch.Tensor:
        if dropout_p == 0:
            return fused(query, key, value, attn_mask, dropout_p, is_causal, **options)
        if options.get("enable_gqa"):
            key, value = (x.repeat_interleave(query.size(-3) // x.size(-3), -3) for x in (key, value))
        scale = options.get("scale")
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.size(-1)) if scale is None else scale)
        weights = torch.softmax(_masked(scores, attn_mask, is_causal), -1)
        return functional.dropout(weights, dropout_p) @ value

    return scaled_dot_product_attention


def _masked(scores: torch.Tensor, mask: torch.Tensor | None, causal: bool) -> torch.Tensor:
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -math.inf) if mask.dtype is torch.bool else scores + mask


def _layer_by_layer(fused: Callable[..., Any]) -> Callable[..., Any]:
    """Recurrent layers with dropout between them as a call for each layer, so that `dropout` draws the masks."""

    def layers(*args: Any) -> Any:
        at = 1 if isinstance(args[3], bool) else 2  # packed sequences come with their batch sizes
        states, weights, bias, count, dropout, train, both_ways = args[at : at + 7]
        if not (train and dropout and count > 1):
            return fused(*args)
        data, ends = args[0], list[list[torch.Tensor]]()
        for mine, own in zip(_states(states, count), _weights(weights, count)):
            data = functional.dropout(data, dropout) if ends else data
            given = (data, *args[1:at], mine, own, bias, 1, 0.0, train, both_ways, *args[at + 7 :])
            data, *end = _unwarned(fused, given)
            ends.append(end)
        return (data, *map(torch.cat, zip(*ends)))

    return layers


def _states(states: Any, count: int) -> list[Any]:
    """Those of each layer; an LSTM has two tensors of them."""
    if isinstance(states, torch.Tensor):
        return list(states.chunk(count))
    return list(zip(*(each.chunk(count) for each in states)))


def _weights(weights: list[torch.Tensor], count: int) -> list[list[torch.Tensor]]:
    """Those of each layer."""
    size = len(weights) // count
    return [weights[i : i + size] for i in range(0, len(weights), size)]


def _unwarned(fused: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk of memory")
        return fused(*args)
