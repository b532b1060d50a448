"""Numbers that float16 cannot hold, where they meet tensors that autocast leaves in float16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.literals import number
from ampify.model.lowered import Under
from ampify.model.step import FileModel
from ampify.syntax.walk import arguments, keyword

_FILLS = {"masked_fill": "value", "masked_fill_": "value", "fill_": "value", "clamp": "min", "clamp_": "min"}
"""Methods that raise on a number beyond float16, and what it is called."""
_BOUNDS = ("min", "max", "value", "fill_value")
_FLOAT32 = {"torch.float32", "torch.float", "torch.bfloat16"}
_ROUNDS_TO_ZERO = 2.0**-25
"""Numbers up to half of the smallest float16."""
_GUARDED = {"log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "div", "divide", "true_divide"}


@dataclass(frozen=True, slots=True, eq=False)
class Overflow:
    """A number beyond ±65504 for the float16 tensor ``tensor``."""

    node: cst.BaseExpression
    tensor: cst.BaseExpression
    positive: bool
    raises: bool
    """Otherwise the tensor silently becomes infinite there."""


def overflows(model: FileModel) -> Iterator[Overflow]:
    """Numbers that fill, bound or replace elements of float16 tensors, and do not fit them."""
    under = model.lowered.float16
    for node in (*under.nodes, *under.outside):
        match node:
            case cst.Call():
                yield from _in_call(under, node)
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Subscript(value=tensor))], value=value):
                if (found := _too_large(under, value)) is not None and under.half(tensor):
                    yield Overflow(value, tensor, found > 0, raises=False)


def _in_call(under: Under, call: cst.Call) -> Iterator[Overflow]:
    func = call.func
    name = func.attr.value if isinstance(func, cst.Attribute) else getattr(func, "value", "")
    paths = under.flow.names.imported(func)
    if name not in words.OVERFLOWING | {"pad"} or (paths and not all(p.startswith("torch.") for p in paths)):
        return
    if not paths and not isinstance(func, cst.Attribute):
        return
    given = [*arguments(call)]
    if name == "where":
        yield from _chosen(under, [*(() if paths or not isinstance(func, cst.Attribute) else (func.value,)), *given])
        return
    tensor = given.pop(0) if paths and given else func.value if isinstance(func, cst.Attribute) else None
    if name == "pad":
        given = [value] if paths and (value := keyword(call, "value")) is not None else []
    for value in given:
        large = _too_large(under, value)
        if large is not None and tensor is not None and under.half(tensor):
            yield Overflow(value, tensor, large > 0, raises=True)


def _chosen(under: Under, given: list[cst.BaseExpression]) -> Iterator[Overflow]:
    """``torch.where(mask, scores, -1e9)``."""
    for value in given:
        for tensor in given:
            large = _too_large(under, value) if tensor is not value else None
            if large is not None and under.half(tensor):
                yield Overflow(value, tensor, large > 0, raises=False)


def _too_large(under: Under, node: cst.BaseExpression) -> float | None:
    value = number(under.flow, node)
    if value is None:
        value = _extreme(under, node)
    return value if value is not None and abs(value) > words.LARGEST_HALF else None


def _extreme(under: Under, node: cst.BaseExpression) -> float | None:
    """``torch.finfo(torch.float32).min``."""
    match node:
        case cst.Attribute(value=cst.Call(func=func, args=[arg]), attr=cst.Name(value="min" | "max" as end)):
            named = under.flow.names.imported(arg.value)
            if under.flow.names.imported(func) == {"torch.finfo"} and named and named <= _FLOAT32:
                return 3.4e38 if end == "max" else -3.4e38
        case cst.UnaryOperation(operator=cst.Minus(), expression=inner):
            value = _extreme(under, inner)
            return -value if value is not None else None
    return None


# ---------------------------------------------------------------------- too small


@dataclass(frozen=True, slots=True, eq=False)
class Underflow:
    """A guard against 0, ``a + 1e-8`` or ``a.clamp(min=1e-8)``, that is 0 itself in float16."""

    node: cst.BaseExpression
    tensor: cst.BaseExpression


def underflows(model: FileModel) -> Iterator[Underflow]:
    """Guards in float16 of what is divided by, and of arguments of logarithms and roots."""
    under = model.lowered.float16
    for node in (*under.nodes, *under.outside):
        match node:
            case cst.BinaryOperation(left=left, operator=cst.Add(), right=right):
                pairs = ((left, right), (right, left))
                found = next((t for t, eps in pairs if _tiny(under, eps) and under.half(t)), None)
            case cst.Call(func=cst.Attribute(value=tensor, attr=cst.Name(value="clamp" | "clamp_min" | "clip"))):
                least = keyword(node, "min") or next((a.value for a in node.args if a.keyword is None), None)
                found = tensor if least is not None and _tiny(under, least) and under.half(tensor) else None
            case _:
                continue
        if found is not None and _guards(under, node):
            yield Underflow(node, found)


def _tiny(under: Under, node: cst.BaseExpression) -> bool:
    value = number(under.flow, node)
    return value is not None and 0 < value <= _ROUNDS_TO_ZERO


def _guards(under: Under, node: cst.CSTNode) -> bool:
    """Whether something is divided by ``node``, or a logarithm or a root of it is taken."""
    names = under.flow.names
    match parent := names.parent[node]:
        case cst.BinaryOperation(operator=cst.Divide(), right=right):
            return right is node
        case cst.Attribute(attr=cst.Name(value=name)):
            return name in _GUARDED - {"div", "divide", "true_divide"}
        case cst.Arg():
            call = names.parent[parent]
            name = call.func.attr.value if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute) else ""
            return name in _GUARDED and isinstance(call, cst.Call) and call.args[-1] is parent
    return False
