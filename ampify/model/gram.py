"""Matrix products of a tensor with itself, followed through transposes and reshapes."""

from __future__ import annotations

import libcst as cst

from ampify.model.definitions import How, Place
from ampify.model.flow import Flow
from ampify.syntax.walk import arguments

_PRODUCTS = {"mm", "bmm", "matmul"}
_MOVES = {
    "t", "transpose", "permute", "swapaxes", "swapdims", "adjoint", "view", "reshape", "flatten", "unflatten",
    "contiguous", "clone", "detach", "squeeze", "unsqueeze", "expand", "conj",
}  # fmt: skip
"""Methods and functions of torch whose result has the same elements."""
_VIEWS = {"T", "mT", "H", "mH"}


def product(flow: Flow, node: cst.CSTNode) -> Place | None:
    """Where the tensor is kept that ``node`` multiplies with itself; None for any other expression."""
    match [_source(flow, factor, frozenset()) for factor in factors(flow, node)]:
        case [Place() as one, Place() as other] if one == other:
            return one
    return None


def bounded(flow: Flow, place: Place) -> bool:
    """Whether what is kept there was normalized or divided, so that its squares add up to less."""
    values = (d.value for d in flow.assigned(place) if d.value is not None)
    return any(_shrinks(node) for value in values for node in flow.inside(value))


def _shrinks(node: cst.CSTNode) -> bool:
    match node:
        case cst.BinaryOperation(operator=cst.Divide()):
            return True
        case cst.Call():
            return _name(node).startswith(("norm", "div"))
    return False


def factors(flow: Flow, node: cst.CSTNode) -> list[cst.BaseExpression]:
    """What ``node`` multiplies with each other as matrices; nothing for any other expression."""
    match node:
        case cst.BinaryOperation(left=left, operator=cst.MatrixMultiply(), right=right):
            return [left, right]
        case cst.Call(func=cst.Attribute(value=receiver)) if _name(node) in _PRODUCTS and len(node.args) == 1:
            return [receiver, node.args[0].value]
        case cst.Call(func=func) if _name(node) in _PRODUCTS and flow.names.imported(func):
            return [*arguments(node)][:2]
        case cst.Call(func=func) if _name(node) == "einsum" and flow.names.imported(func):
            return [*arguments(node)][1:]
    return []


def _source(flow: Flow, node: cst.BaseExpression, seen: frozenset[Place]) -> Place | None:
    """Where the elements of a tensor come from."""
    match node:
        case cst.Call(func=cst.Attribute(value=inner) as func) if _name(node) in _MOVES:
            return _source(flow, node.args[0].value if flow.names.imported(func) and node.args else inner, seen)
        case cst.Attribute(value=inner, attr=cst.Name(value=view)) if view in _VIEWS:
            return _source(flow, inner, seen)
    place = flow.place(node)
    if place is None or place in seen:
        return place
    match [*flow.assigned(place)]:
        case [only] if only.how is How.ASSIGN and only.value is not None:
            return _source(flow, only.value, seen | {place}) or place
    return place


def _name(call: cst.Call) -> str:
    return call.func.attr.value if isinstance(call.func, cst.Attribute) else getattr(call.func, "value", "")
