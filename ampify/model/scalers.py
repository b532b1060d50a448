"""What the calls of scalers are given, and what scalers are made with, apart from the order of the calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import How
from ampify.model.roles import Role
from ampify.model.step import Code, FileModel, GradientUse, TrainingStep
from ampify.model.switches import Switches
from ampify.syntax.walk import is_none, keyword


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A call of a scaler with something that it does not take."""

    call: cst.Call
    value: cst.CSTNode
    """What is wrong about it: an argument, or the call itself where one is missing."""
    what: str
    """In words, with an article."""
    instead: cst.BaseExpression | None = None
    """A part of the value that is what the call takes."""


class Limit(Enum):
    """What the numbers that a scaler is given have to be."""

    GROWTH = auto()
    BACKOFF = auto()
    SCALE = auto()
    """A float, not an int."""


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A number that is over a limit."""

    value: cst.BaseExpression
    limit: Limit


def scaler_calls(code: Code, method: str) -> Iterator[tuple[cst.Call, cst.BaseExpression]]:
    """The calls of a method of scalers, each with the scaler; none where all of them are switched off for good."""
    if not code.amp.touched or Switches(code).off:
        return
    for call in code.flow.calls:
        match call:
            case cst.Call(func=cst.Attribute(value=scaler, attr=cst.Name(value=name))) if name == method:
                if code.amp.is_scaler(scaler):
                    yield call, scaler


# ---------------------------------------------------------------------- what methods are given


def not_optimizers(model: FileModel) -> Iterator[Given]:
    """``scaler.step(…)`` with something that is no optimizer."""
    code = model.code
    for call, _ in scaler_calls(code, "step"):
        if not call.args:
            yield Given(call, call, "nothing")
            continue
        match call.args[0].value:
            case cst.Attribute(value=owner, attr=cst.Name(value="step")) as value if _is(code, owner, Role.OPTIMIZER):
                yield Given(call, value, "a method of the optimizer", owner)
            case cst.List(elements=elements) | cst.Tuple(elements=elements) as value:
                only = elements[0].value if len(elements) == 1 else None
                yield Given(call, value, "a list of optimizers", only)
            case value if _is(code, value, Role.SCHEDULER):
                yield Given(call, value, "a scheduler")


def _is(code: Code, node: cst.CSTNode, role: Role) -> bool:
    return code.roles.of(node) is role


def closures(model: FileModel) -> Iterator[Given]:
    """``scaler.step(optimizer, closure)``; a parameter that is handed on is None unless somebody gives one."""
    for call, _ in scaler_calls(model.code, "step"):
        second = call.args[1].value if len(call.args) > 1 and not any(a.star or a.keyword for a in call.args) else None
        given = keyword(call, "closure") or second
        if given is not None and not is_none(given) and not _may_be_none(model.code, given):
            yield Given(call, given, "a closure")


def _may_be_none(code: Code, node: cst.BaseExpression) -> bool:
    place = code.flow.place(node)
    return place is not None and any(d.how is How.PARAM for d in code.flow.assigned(place))


def not_tensors(model: FileModel) -> Iterator[Given]:
    """``scaler.scale(…)`` with a number, a dict or nothing that it could scale."""
    for call, _ in scaler_calls(model.code, "scale"):
        if len(call.args) != 1:
            continue
        match call.args[0].value:
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="item")), args=[]) as value:
                yield Given(call, value, "a number", owner)
            case cst.Call(func=cst.Name(value="float"), args=[cst.Arg(value=inner)]) as value:
                yield Given(call, value, "a number", inner)
            case cst.Integer() | cst.Float() as value:
                yield Given(call, value, "a number")
            case cst.Dict() | cst.DictComp() as value:
                yield Given(call, value, "a dict, whose keys it would go over")
            case cst.Call(func=cst.Attribute(attr=cst.Name(value="backward"))) as value:
                yield Given(call, value, "the result of `backward`, which is None")


# ---------------------------------------------------------------------- numbers


def numbers(model: FileModel) -> Iterator[Number]:
    """What scalers are made with, or their scale set to, and refuse."""
    code = model.code
    for call in code.flow.calls if code.amp.touched else ():
        if code.amp.is_scaler_call(call) and not _named(keyword(call, "enabled"), "False"):
            growth, backoff = keyword(call, "growth_factor"), keyword(call, "backoff_factor")
            if growth is not None and (number := _number(growth)) is not None and number <= 1:
                yield Number(growth, Limit.GROWTH)
            if backoff is not None and (number := _number(backoff)) is not None and number >= 1:
                yield Number(backoff, Limit.BACKOFF)
    for call, _ in scaler_calls(code, "update"):
        match call.args:
            case [cst.Arg(value=cst.Integer() as value)]:
                yield Number(value, Limit.SCALE)


def _named(node: cst.BaseExpression | None, name: str) -> bool:
    return isinstance(node, cst.Name) and node.value == name


def _number(node: cst.BaseExpression) -> float | None:
    return float(node.evaluated_value) if isinstance(node, cst.Integer | cst.Float) else None


# ---------------------------------------------------------------------- checks that an overflow does not pass


@dataclass(frozen=True, slots=True, eq=False)
class Strict:
    """A clip that raises where a scaler would skip a step; ``argument`` is what makes it do so."""

    call: cst.Call
    argument: cst.Arg


def strict_checks(step: TrainingStep) -> Iterator[Strict]:
    """The clips of a scaled step that raise on infinite norms."""
    if not step.scaled or Switches(step.code).off:
        return
    for act in step.every(GradientUse):
        if isinstance(act.node, cst.Call) and step.code.flow.names.imported(act.node.func) & words.CLIPS:
            for arg in act.node.args:
                if arg.keyword and arg.keyword.value == "error_if_nonfinite" and _named(arg.value, "True"):
                    yield Strict(act.node, arg)
