"""Numbers that float16 cannot hold, and the tensors that they are put into: ``scores.masked_fill(mask, -1e9)``.

A tensor that surely is in half precision there is made float32 first, and what comes of it stays float32; whatever
autocast runs next casts it as it needs it. In place, the tensor is the one that others hold, so nothing can be done.
"""

from __future__ import annotations

import math
from contextlib import suppress

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.flow import Flow
from ampify.syntax.walk import arguments

COPYING = {"masked_fill", "where"}
"""Those that leave the tensor as it is, so that it may be made float32 for them."""


def overfills(flow: Flow, call: cst.Call) -> bool:
    """Whether a call puts a number that float16 cannot hold into a tensor, or into a copy of one."""
    return named(call) in words.OVERFLOWING and any(_overflows(flow, a) for a in arguments(call))


def tensors(flow: Flow, call: cst.Call) -> list[cst.BaseExpression]:
    """The tensors that a call of ``overfills`` puts numbers into."""
    given = [*arguments(call)]
    if isinstance(call.func, cst.Attribute) and not flow.names.imported(call.func):
        given.insert(0, call.func.value)
        given[1:2] = []  # the mask
    elif named(call) == "where":
        given[:1] = []
    return [a for a in (given if named(call) == "where" else given[:1]) if not _overflows(flow, a)]


def named(call: cst.Call) -> str:
    """The name of the method, or of the function of a module, that is called; empty for other calls."""
    return call.func.attr.value if isinstance(call.func, cst.Attribute) else ""


def _overflows(flow: Flow, node: cst.BaseExpression) -> bool:
    """A literal beyond float16, one name looked through; an infinity does fit."""
    if isinstance(node, cst.Call):
        return abs(_number(node)) > words.LARGEST_HALF or any(_overflows(flow, a) for a in arguments(node))
    place = flow.place(node)
    made = [d.value for d in flow.assigned(place) if d.value is not None] if place is not None else []
    return any(abs(_number(value)) > words.LARGEST_HALF for value in (node, *made))


def _number(node: cst.CSTNode) -> float:
    """The value of a literal number, or of ``float("-1e9")``, its sign included; 0 for anything else."""
    match node:
        case cst.Integer() | cst.Float():
            return float(node.evaluated_value)
        case cst.UnaryOperation(operator=cst.Minus(), expression=inner):
            return -_number(inner)
        case cst.UnaryOperation(operator=cst.Plus(), expression=inner):
            return _number(inner)
        case cst.Call(func=cst.Name(value="float"), args=[cst.Arg(value=cst.SimpleString(evaluated_value=str(text)))]):
            return _parsed(text)
    return 0.0


def _parsed(text: str) -> float:
    """The finite number that a string is."""
    with suppress(ValueError):
        return float(text) if math.isfinite(float(text)) else 0.0
    return 0.0
