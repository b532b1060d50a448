"""Hooks that see gradients on their way: of which modules, and whether they mind that these are scaled."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.acts import Acts
from ampify.model.definitions import How, Place
from ampify.model.forward import Forward
from ampify.model.origins import Origins, related
from ampify.model.roles import Role
from ampify.syntax import blocks
from ampify.syntax.walk import arguments, walk

_PARTS = {"modules", "children", "parameters"}


def hooks(acts: Acts, forward: Forward) -> Iterator[cst.Call]:
    """The hooks that may see gradients of a step, and mind that they are scaled."""
    flow, origins = acts.flow, Origins(acts.code)
    nodes = {n for statement in forward.statements for n in flow.inside(statement)}
    run = [n.func for n in nodes if isinstance(n, cst.Call) and acts.roles.of(n.func) is Role.MODULE]
    trained = frozenset(place for module in run for place in origins.of(module))
    for call in flow.calls:
        match call.func:
            case cst.Attribute(value=owner, attr=cst.Name(value=name)) if name in words.GRADIENT_HOOKS:
                own = bool(flow.names.imported(call.func)) or flow.callee(call) is not None
                if not own and not _linear(call) and not _elsewhere(acts, origins, owner, trained):
                    yield call


def _elsewhere(acts: Acts, origins: Origins, owner: cst.BaseExpression, trained: frozenset[Place]) -> bool:
    """Whether a hook is on a module, or a part of one, that surely is none of those trained."""
    hooked = origins.of(_whole(acts, owner))
    known = all(_is_made(acts, place) for place in (*hooked, *trained))
    return bool(hooked) and bool(trained) and known and not related(hooked, trained)


def _whole(acts: Acts, part: cst.BaseExpression) -> cst.BaseExpression:
    """``model`` for the ``part`` of ``for part in model.modules()``."""
    place = acts.flow.place(part)
    found = acts.flow.reaching(place, blocks.small_statement_of(acts.tree, part)) if place is not None else []
    match [(d.how, d.value) for d in found]:
        case [(How.ITERATE, cst.Call(func=cst.Attribute(value=whole, attr=cst.Name(value=name))))] if name in _PARTS:
            return whole
    return part


def _is_made(acts: Acts, place: Place) -> bool:
    """Whether all that a place ever holds is made by calls, there and then."""
    found = [*acts.flow.assigned(place)]
    return bool(found) and all(d.how is How.ASSIGN and isinstance(d.value, cst.Call) for d in found)


def _linear(call: cst.Call) -> bool:
    """``lambda g: g * mask`` commutes with scaling."""
    match call.args:
        case [cst.Arg(value=cst.Lambda(params=cst.Parameters(params=[cst.Param(name=cst.Name(value=g))]), body=body))]:
            match body:
                case cst.UnaryOperation(operator=cst.Minus(), expression=cst.Name(value=negated)):
                    return negated == g
                case cst.BinaryOperation(left=left, operator=cst.Multiply() | cst.Divide(), right=right):
                    uses = [_reads_name(left, g), _reads_name(right, g)]
                    bare = left if uses[0] else right
                    return sum(uses) == 1 and isinstance(bare, cst.Name)
                case cst.Call(
                    func=cst.Attribute(value=cst.Name(value=base), attr=cst.Name(value="mul" | "mul_" | "div"))
                ):
                    return base == g and not any(_reads_name(a, g) for a in arguments(body))
    return False


def _reads_name(node: cst.CSTNode, name: str) -> bool:
    return any(isinstance(n, cst.Name) and n.value == name for n in walk(node))
