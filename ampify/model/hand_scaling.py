"""Loss scaling by hand: a loss is multiplied by a number, and gradients are divided by it again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.step import Backward, Code, GradientUse, TrainingStep
from ampify.syntax.walk import walk

_TESTS = {"isnan", "isfinite", "isinf"}


@dataclass(frozen=True, slots=True, eq=False)
class ByHand:
    """A backward of a loss times a number that never changes, and the division of its gradients."""

    backward: Backward
    division: cst.CSTNode


def by_hand(step: TrainingStep) -> Iterator[ByHand]:
    """The static loss scales of a step in mixed precision, where nothing looks for infinities."""
    code = step.code
    if step.scaled or not step.mixed or any(_tests(n) for f in step.functions for n in code.flow.body[f]):
        return
    for act in step.every(Backward):
        numbers = [*_factors(code, act.loss)] if act.by is None else []
        for use in step.every(GradientUse):
            if numbers and not use.clips and any(_same(code, d, n) for d in _divisors(use.node) for n in numbers):
                yield ByHand(act, use.node)
                break


def _tests(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name | cst.Attribute) and _last(node) in _TESTS


def _last(node: cst.Name | cst.Attribute) -> str:
    return node.attr.value if isinstance(node, cst.Attribute) else node.value


def _factors(code: Code, loss: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    match loss:
        case cst.BinaryOperation(left=left, operator=cst.Multiply(), right=right):
            yield from (side for side in (left, right) if _number(code, side) is not None)


def _divisors(statement: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """What gradients are divided by in a statement."""
    for node in walk(statement):
        match node:
            case cst.BinaryOperation(operator=cst.Divide(), right=right):
                yield right
            case cst.AugAssign(operator=cst.DivideAssign(), value=value):
                yield value
            case cst.Call(func=cst.Attribute(attr=cst.Name(value="div_" | "div")), args=[arg]):
                yield arg.value


def _same(code: Code, one: cst.BaseExpression, other: cst.BaseExpression) -> bool:
    return _number(code, one) == _number(code, other)


def _number(code: Code, node: cst.BaseExpression) -> float | None:
    """A number that is written there, or that its name was given once and for all."""
    match node:
        case cst.Integer() | cst.Float():
            return float(node.evaluated_value)
        case cst.Name() | cst.Attribute() if (place := code.flow.place(node)) is not None:
            values = [d.value for d in code.flow.defining(place)]
            if len(values) == 1 and isinstance(values[0], cst.Integer | cst.Float):
                return float(values[0].evaluated_value)
    return None
