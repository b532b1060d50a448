"""Numbers that are written out, or kept under a name that never holds another."""

from __future__ import annotations

import math
from contextlib import suppress

import libcst as cst

from ampify.model.definitions import Definition, How
from ampify.model.flow import Flow

_DEEP = 3


def number(flow: Flow, node: cst.CSTNode, depth: int = _DEEP) -> float | None:
    """The finite value of a literal, with its sign, or of ``float("-1e9")``, names looked through; else None."""
    match node:
        case cst.Integer() | cst.Float():
            return float(node.evaluated_value)
        case cst.UnaryOperation(operator=cst.Minus() | cst.Plus() as sign, expression=inner):
            value = number(flow, inner, depth)
            return -value if isinstance(sign, cst.Minus) and value is not None else value
        case cst.BinaryOperation(left=left, operator=cst.Power() | cst.Multiply() as operator, right=right):
            return _computed(operator, number(flow, left, depth), number(flow, right, depth))
        case cst.Call(func=cst.Name(value="float"), args=[cst.Arg(value=cst.SimpleString(evaluated_value=str(text)))]):
            return _parsed(text)
        case cst.Name() | cst.Attribute() if depth and (place := flow.place(node)) is not None:
            found = {_defined(flow, d, depth) for d in flow.assigned(place)}
            return found.pop() if len(found) == 1 else None
    return None


def _defined(flow: Flow, d: Definition, depth: int) -> float | None:
    """What a definition gives; a parameter has its default unless a call is seen that says otherwise."""
    given = [*flow.passed(d)] if d.how is How.PARAM else []
    values = [*given, d.value] if d.value is not None else given
    known = {number(flow, value, depth - 1) for value in values if d.how in (How.ASSIGN, How.PARAM)}
    return known.pop() if len(known) == 1 else None


def _computed(operator: cst.BaseBinaryOp, left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    with suppress(OverflowError, ZeroDivisionError):
        value = left**right if isinstance(operator, cst.Power) else left * right
        return value if isinstance(value, float) and math.isfinite(value) else None
    return None


def _parsed(text: str) -> float | None:
    with suppress(ValueError):
        return float(text) if math.isfinite(float(text)) else None
    return None
