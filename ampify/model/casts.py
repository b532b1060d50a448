"""Casts to float16 that are written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.flow import How
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, TrainingStep
from ampify.syntax import blocks

_HALF = {"torch.float16", "torch.half"}
_DEEP = 4
"""So many names are looked through on the way from a loss to what it was made of."""


@dataclass(frozen=True, slots=True, eq=False)
class HalfCast:
    """``value.half()`` or ``value.to(torch.float16)``."""

    call: cst.Call
    value: cst.BaseExpression
    of_loss: bool
    """Of the loss itself; otherwise of what it is computed from."""


def half_losses(step: TrainingStep) -> Iterator[HalfCast]:
    """Casts of losses that are differentiated, and of what goes into them."""
    found: dict[cst.CSTNode, HalfCast] = {}
    for act in step.every(Backward):
        for cast in _of_loss(step.code, act.loss, _DEEP):
            found.setdefault(cast.call, cast)
    yield from found.values()


def _of_loss(code: Code, node: cst.BaseExpression, depth: int) -> Iterator[HalfCast]:
    if (cast := _cast(code, node, of_loss=True)) is not None:
        yield cast
        yield from _of_loss(code, cast.value, depth)
        return
    match node:
        case cst.Name() | cst.Attribute() if depth:
            for value in _values(code, node):
                yield from _of_loss(code, value, depth - 1)
        case cst.BinaryOperation(left=left, right=right):
            yield from _of_loss(code, left, depth)
            yield from _of_loss(code, right, depth)
        case cst.Call(args=[first, *_]) if _is_loss(code, node):
            if (cast := _cast(code, first.value, of_loss=False)) is not None:
                yield cast
        case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="scale")), args=[arg]):
            if code.amp.is_scaler(owner):
                yield from _of_loss(code, arg.value, depth)


def _cast(code: Code, node: cst.BaseExpression, *, of_loss: bool) -> HalfCast | None:
    match node:
        case cst.Call(func=cst.Attribute(value=value, attr=cst.Name(value="half")), args=[]):
            return HalfCast(node, value, of_loss)
        case cst.Call(func=cst.Attribute(value=value, attr=cst.Name(value="to" | "type")), args=[cst.Arg(value=dtype)]):
            return HalfCast(node, value, of_loss) if code.flow.names.imported(dtype) & _HALF else None
    return None


def _values(code: Code, node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    place = code.flow.place(node)
    if place is not None:
        for d in code.flow.reaching(place, blocks.small_statement_of(code.tree, node)):
            if d.how is How.ASSIGN and d.value is not None:
                yield d.value


def _is_loss(code: Code, call: cst.Call) -> bool:
    paths = code.flow.names.imported(call.func)
    functional = any(p.startswith("torch.nn.functional.") and ("loss" in p or "entropy" in p) for p in paths)
    return functional or code.roles.of(call.func) is Role.LOSS
