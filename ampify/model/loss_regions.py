"""The autocast regions that losses come out of, and in which of float16 and bfloat16 they compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.definitions import How
from ampify.model.half_choices import Choice, Facts, Half, choices, comes_out, reached_with, settled
from ampify.model.regions import region_of
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, FileModel, GradientUse, OptimizerStep, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.walk import keyword, walk

_DEPTH = 6
"""A loss is made of values that are made of values; longer chains were not met."""


_DEVICES = {"cuda": Half.FLOAT16, "cpu": Half.BFLOAT16}
"""What autocast takes where it is told no dtype."""


@dataclass(frozen=True, slots=True, eq=False)
class Unscaled:
    """A backward of a loss from a float16 region, where there is no scaler at all."""

    backward: Backward
    region: cst.With


@dataclass(frozen=True, slots=True, eq=False)
class Needless:
    """A scaler, made by ``call``, all of whose losses come out of bfloat16 regions such as ``region``."""

    call: cst.Call
    region: cst.With
    when: tuple[tuple[str, bool], ...] = ()
    """The tests that choose bfloat16; empty where there is no choice."""


def unscaled(step: TrainingStep) -> Iterator[Unscaled]:
    """The float16 losses of a step that is not scaled, by torch or by hand."""
    code = step.code
    if step.scaled or step.framework is not None or not code.amp.regions or not step.every(OptimizerStep):
        return
    if any(code.amp.is_scaler(n) for n in code.amp.nodes if isinstance(n, cst.Name | cst.Attribute | cst.Call)):
        return
    for act in step.every(Backward):
        if act.by is None and not _weighed(step, act) and not _handed_on(code, act):
            for region in regions_of(code, act):
                if computes_in(code, region) is Half.FLOAT16 and not _tests(code, region) & _denied(code, act.node):
                    yield Unscaled(act, region)
                    break


def _weighed(step: TrainingStep, act: Backward) -> bool:
    """Whether a loss is multiplied by something, and gradients are changed by hand: perhaps a scale, there and back."""
    if not any(not use.clips for use in step.every(GradientUse)):
        return False
    values = sources(step.code, act.loss, act.node)
    products = (n for v in values for n in walk(v) if isinstance(n, cst.BinaryOperation))
    return any(isinstance(n.operator, cst.Multiply) for n in products)


def _handed_on(code: Code, act: Backward) -> bool:
    """``loss_scaler(loss, optimizer)``: whether a loss is also given to code that may scale it."""
    place = code.flow.place(act.loss)
    for call in (n for n in code.flow.body[act.function] if isinstance(n, cst.Call)):
        given = [arg.value for arg in call.args]
        if place is not None and any(code.flow.place(value) == place for value in given):
            steps = any(code.roles.of(value) is Role.OPTIMIZER for value in given)
            if steps or (isinstance(call.func, cst.Attribute) and "backward" in call.func.attr.value):
                return True
    return False


def _tests(code: Code, node: cst.CSTNode) -> set[tuple[str, bool]]:
    """The tests that stand before a node, and how they come out there."""
    found, child = set(), node
    for parent in code.tree.parents(node):
        if isinstance(parent, cst.FunctionDef):
            break
        if isinstance(parent, cst.If) and child is not parent.test:
            found.add((code.tree.text(parent.test), child is parent.body))
        child = parent
    return found


def _denied(code: Code, node: cst.CSTNode) -> set[tuple[str, bool]]:
    return {(text, not truth) for text, truth in _tests(code, node)}


def needless(model: FileModel) -> Iterator[Needless]:
    """Scalers that are on, also where each of their losses comes out of a bfloat16 region."""
    code = model.code
    calls = [c for c in code.flow.calls if code.amp.is_scaler_call(c)] if code.amp.touched else []
    if not calls or any(keyword(call, "enabled") is not None or any(a.star for a in call.args) for call in calls):
        return
    scaled = [act for step in model.steps for act in step.every(Backward) if act.scaler is not None]
    found = [[*regions_of(code, act)] for act in scaled]
    every = [region for regions in found for region in regions]
    facts = _always_bfloat16(code, every) if scaled and all(found) else None
    needed = (*(act.node for act in scaled), *calls, *every)
    if facts is not None and all(reached_with(code, node, facts) for node in needed):
        yield from (Needless(call, every[0], tuple(sorted(facts.items()))) for call in calls)


def _always_bfloat16(code: Code, regions: list[cst.With]) -> Facts | None:
    """How tests come out where all regions compute in bfloat16; None where they never do, or where that is unknown."""
    chosen = [chosen_in(code, region) for region in regions]
    wanted = (choice.facts for choice in chosen[0] if choice.half is Half.BFLOAT16)
    switches = [value for region in regions for value in _switches(code, region)]
    for facts in wanted:
        off = any(comes_out(code, value, facts) is False for value in switches)
        if not off and all(settled(c, facts) is Half.BFLOAT16 for c in chosen):
            return facts
    return None


def _switches(code: Code, region: cst.With) -> Iterator[cst.BaseExpression]:
    """What the contexts of a region are given to say whether they are on."""
    made = (call for item in region.items for call in _calls(code, item.item) if call is not None)
    return (value for call in made if (value := keyword(call, "enabled")) is not None)


# ---------------------------------------------------------------------- where a loss comes from


def regions_of(code: Code, act: Backward) -> list[cst.With]:
    """The autocast regions in which a loss, or what it is made of, was computed."""
    return regions_behind(code, act.loss, act.node)


def regions_behind(code: Code, value: cst.BaseExpression, at: cst.CSTNode) -> list[cst.With]:
    """The autocast regions in which ``value``, as it is at a node, or what it is made of, was computed."""
    nodes = sources(code, value, at)
    return [*dict.fromkeys(region for node in nodes if (region := region_of(code, node)) is not None)]


def sources(code: Code, expression: cst.BaseExpression, at: cst.CSTNode) -> list[cst.BaseExpression]:
    """An expression and the values that it is made of, in its function, what that calls, and what calls that."""
    found: dict[cst.BaseExpression, None] = {}
    stack: list[tuple[cst.BaseExpression, cst.CSTNode, int]] = [(expression, at, _DEPTH)]
    while stack:
        value, node, depth = stack.pop()
        if depth == 0:
            continue
        for part, where in _before(code, value, node):
            if part not in found:
                found[part] = None
                stack.append((part, where, depth - 1))
    return [expression, *found]


def _before(code: Code, value: cst.BaseExpression, at: cst.CSTNode) -> Iterator[tuple[cst.BaseExpression, cst.CSTNode]]:
    statement = blocks.small_statement_of(code.tree, at)
    for _, place in code.flow.reads(value):
        for d in code.flow.reaching(place, statement):
            if d.how is How.PARAM:
                yield from ((passed, passed) for passed in code.flow.passed(d))
            elif d.value is not None and not isinstance(d.node, cst.For):
                yield d.value, d.node
    for call in (n for n in walk(value) if isinstance(n, cst.Call)):
        callee = code.flow.callee(call)
        for returned in code.flow.returns(callee) if callee is not None else ():
            if returned.value is not None:
                yield returned.value, returned


# ---------------------------------------------------------------------- what a region computes in


def computes_in(code: Code, region: cst.With) -> Half | None:
    """What a region computes in where it is on; None where that is not known."""
    found = {choice.half for choice in chosen_in(code, region)}
    return found.pop() if len(found) == 1 else None


def chosen_in(code: Code, region: cst.With) -> list[Choice]:
    """What a region may compute in where it is on."""
    made = dict.fromkeys(call for item in region.items for call in _calls(code, item.item))
    return [choice for call in made for choice in _chosen(code, call)] or [Choice(None)]


def _calls(code: Code, cast: cst.BaseExpression) -> Iterator[cst.Call | None]:
    """The calls that may have made an autocast context; None for what cannot be seen."""
    if code.amp.is_autocast(cast):
        values = [cast] if isinstance(cast, cst.Call) else code.amp.arriving(cast)
        for value in values:
            if not code.amp.is_neutral(value):
                yield value if isinstance(value, cst.Call) and code.amp.makes_autocast(value.func) else None


def _chosen(code: Code, call: cst.Call | None) -> list[Choice]:
    if call is None or any(arg.star for arg in call.args):
        return [Choice(None)]
    paths = code.amp.maker_paths(call.func)
    plain = [arg.value for arg in call.args if arg.keyword is None]
    own = next((device for device in _DEVICES if any(p.startswith(f"torch.{device}.") for p in paths)), None)
    dtype = keyword(call, "dtype") or (plain[1] if len(plain) > 1 else None)
    if dtype is not None:
        return choices(code, dtype)
    device = keyword(call, "device_type") or next(iter(plain), None)
    match own, device:
        case str(), _:
            return [Choice(_DEVICES[own])]
        case None, cst.SimpleString() if paths:
            return [Choice(_DEVICES.get(str(device.evaluated_value)))]
    return [Choice(None)]
