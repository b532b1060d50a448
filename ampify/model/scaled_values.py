"""Values that are multiplied by the loss scale, or should be, besides the gradients: losses in logs, penalties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.definitions import Definition, How
from ampify.model.half_choices import Half
from ampify.model.loss_regions import computes_in, regions_behind, sources
from ampify.model.step import Backward, Code, FileModel, InnerGradient, TrainingStep
from ampify.model.switches import Switches
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import keyword, walk

_NUMBERS = {"item", "tolist", "numpy", "cpu", "detach"}
_PRINTS = {"print", "float", "str", "format"}
_COLLECTS = {"append", "add_scalar", "log", "info", "debug", "update"}


@dataclass(frozen=True, slots=True, eq=False)
class Reused:
    """A scaled loss that is shown as if it were the loss; ``made`` gives it its name."""

    use: cst.Name
    made: cst.CSTNode


@dataclass(frozen=True, slots=True, eq=False)
class Penalty:
    """``torch.autograd.grad`` for a penalty: of a scaled value that is never unscaled, or of a float16 one."""

    act: InnerGradient
    scaled: bool


# ---------------------------------------------------------------------- losses


def reused(step: TrainingStep) -> Iterator[Reused]:
    """The scaled losses of a step that are shown after their backward."""
    if Switches(step.code).off:
        return
    for act in step.every(Backward):
        if act.scaler is not None and (name := _receiver(act)) is not None:
            made = _named(step.code, name)
            for use in _uses(step.code, act, name) if made is not None else ():
                if made is not None and _only(step.code, use, made) and _shown(step.code, use):
                    yield Reused(use, made.node)


def _receiver(act: Backward) -> cst.Name | None:
    """``scaled`` of ``scaled.backward()``."""
    match act.node:
        case cst.Call(func=cst.Attribute(value=cst.Name() as name, attr=cst.Name(value="backward"))):
            return name
    return None


def _named(code: Code, name: cst.Name) -> Definition | None:
    """The one statement ``name = scaler.scale(…)`` that gives ``name`` its value."""
    place = code.flow.place(name)
    found = code.flow.reaching(place, blocks.small_statement_of(code.tree, name)) if place is not None else []
    return found[0] if len(found) == 1 and found[0].how is How.ASSIGN else None


def _uses(code: Code, act: Backward, name: cst.Name) -> Iterator[cst.Name]:
    place, after = code.flow.place(name), code.tree.span(act.node).end
    for node in code.flow.body[act.function]:
        if isinstance(node, cst.Name) and code.flow.place(node) == place and code.tree.span(node).start > after:
            yield node


def _only(code: Code, use: cst.Name, made: Definition) -> bool:
    return code.flow.reaching(made.place, blocks.small_statement_of(code.tree, use)) == [made]


def _shown(code: Code, use: cst.Name) -> bool:
    """Whether a name is logged or added up, and not divided by anything on the way."""
    statement, parent = blocks.small_statement_of(code.tree, use), code.tree.names.parent[use]
    if isinstance(statement, cst.BaseCompoundStatement) or any(map(_divides, walk(statement))):
        return False
    match parent:
        case cst.Attribute(value=value, attr=cst.Name(value=name)) if value is use:
            return name in _NUMBERS
        case cst.AugAssign(operator=cst.AddAssign(), value=value):
            return value is use
        case cst.FormattedStringExpression():
            return True
        case cst.Arg():
            match code.tree.names.parent[parent]:
                case cst.Call(func=cst.Name(value=name)):
                    return name in _PRINTS
                case cst.Call(func=cst.Attribute(attr=cst.Name(value=name))):
                    return name in _COLLECTS
    return False


def _divides(node: cst.CSTNode) -> bool:
    match node:
        case cst.BinaryOperation(operator=cst.Divide() | cst.Multiply()):
            return True
        case cst.Attribute(attr=cst.Name(value="get_scale" | "div" | "div_" | "mul")):
            return True
    return False


# ---------------------------------------------------------------------- penalties


def penalties(step: TrainingStep) -> Iterator[Penalty]:
    """The gradients that a scaled step makes a penalty of, without the two steps that this takes."""
    code = step.code
    if not step.scaled or Switches(code).off:
        return
    for act in step.every(InnerGradient):
        graph = keyword(act.node, "create_graph") if isinstance(act.node, cst.Call) else None
        if not (isinstance(graph, cst.Name) and graph.value == "True") or _unscaled(code, act):
            continue
        if any(isinstance(n, cst.Name | cst.Attribute) and code.amp.is_scaler(n) for n in walk(act.outputs)):
            yield Penalty(act, scaled=True)
        elif any(computes_in(code, r) is Half.FLOAT16 for r in regions_behind(code, act.outputs, act.node)):
            yield Penalty(act, scaled=False)


def _unscaled(code: Code, act: InnerGradient) -> bool:
    """Whether a value made of a scale is multiplied with the gradients of ``act``, or with what its function gives."""
    scales = {n for n in code.amp.nodes if isinstance(n, cst.Attribute) and n.attr.value in ("get_scale", "_scale")}
    mine = {act.node, *_callers(code, act.function)}
    for product in code.amp.nodes if scales else ():
        if not isinstance(product, cst.BinaryOperation) or not isinstance(product.operator, cst.Multiply | cst.Divide):
            continue
        around = {n for iterated in _iterated(code, product) for v in sources(code, iterated, product) for n in walk(v)}
        left, right = ({n for v in sources(code, s, product) for n in walk(v)} for s in (product.left, product.right))
        sides = (left | around, right | around)
        if any(one & scales and other & mine for one, other in (sides, sides[::-1])):
            return True
    return False


def _iterated(code: Code, node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """What the loops and comprehensions around a node go over, in its function."""
    for parent in code.tree.parents(node):
        match parent:
            case cst.For(iter=iterated) | cst.ListComp(for_in=cst.CompFor(iter=iterated)):
                yield iterated
            case cst.GeneratorExp(for_in=cst.CompFor(iter=iterated)):
                yield iterated
            case cst.FunctionDef():
                return


def _callers(code: Code, function: Function) -> Iterator[cst.Call]:
    """The calls of a function, and of those that call it."""
    seen, stack = set[Function](), [function]
    while stack:
        if (callee := stack.pop()) not in seen and isinstance(callee, cst.FunctionDef):
            seen.add(callee)
            for call in code.flow.sites.get(callee, ()):
                yield call
                stack.append(code.flow.function(call))


# ---------------------------------------------------------------------- vectors


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """``reduced`` is ``scaler.scale(losses).mean()``, of ``losses`` in float16."""

    reduced: cst.Call
    scaled: cst.Call
    losses: cst.BaseExpression


def vectors(model: FileModel) -> Iterator[Vector]:
    """The float16 losses that are multiplied by the scale one by one, and reduced only then."""
    code, under = model.code, model.lowered.float16
    for call in code.flow.calls if code.amp.touched and not Switches(code).off else ():
        match call:
            case cst.Call(
                func=cst.Attribute(value=cst.Call(func=cst.Attribute() as scale) as scaled, attr=reduction), args=[]
            ) if reduction.value in ("mean", "sum") and scale.attr.value == "scale" and code.amp.is_scaler(scale.value):
                given = [arg.value for arg in scaled.args if not arg.star]
                if len(given) == 1 and under.half(given[0]):
                    yield Vector(call, scaled, given[0])
