"""Loops over data that is held out, by the name of what they go over: those that train, and those that keep graphs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import Place
from ampify.model.grad_mode import gradless, switches_off
from ampify.model.origins import Origins, related
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, FileModel, OptimizerStep, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import dotted, walk, walk_scope

_HELD_OUT = {"test", "testing", "val", "valid", "validation", "eval", "evaluation"}
_CHINESE = ("测试", "验证", "评估")
_TRAINED_ON = {"train", "training", "trn"}


@dataclass(frozen=True, slots=True, eq=False)
class Leak:
    """A loop over held-out data in which ``step`` trains; ``proper`` trains on what is there for that."""

    loop: cst.For
    step: OptimizerStep
    proper: cst.For


@dataclass(frozen=True, slots=True, eq=False)
class Graphed:
    """A loop over held-out data that runs a trained model and records its operations."""

    loop: cst.For
    call: cst.Call


def leaks(model: FileModel) -> Iterator[Leak]:
    loops = [(step, loop) for step in model.steps for loop in _training(step)]
    for step, loop in loops:
        if _words(loop) & _TRAINED_ON or _nested(model.code, loop) or not (held := _held_out(loop)):
            continue
        others = [other for _, other in loops if other is not loop and not _held_out(other)]
        same = [other for other in others if held == "said" and other.iter.deep_equals(loop.iter)]
        proper = next((other for other in others if _words(other) & _TRAINED_ON or other in same), None)
        if proper is not None:
            inside = (act for act in step.every(OptimizerStep) if model.code.tree.contains(loop, act.node))
            yield Leak(loop, next(inside), proper)


def _held_out(loop: cst.For) -> str:
    """Whether the data of a loop is ``named`` as held out, or is ``said`` to be in the comment above; else empty."""
    if _words(loop) & _HELD_OUT:
        return "named"
    comment = next((line.comment.value for line in reversed(loop.leading_lines) if line.comment is not None), "")
    said = {*re.findall(r"[a-z]+", comment.lower())} & _HELD_OUT or any(word in comment for word in _CHINESE)
    return "said" if said else ""


def _training(step: TrainingStep) -> Iterator[cst.For]:
    """The innermost loop around each backward of a step, where it has an optimizer step in it as well."""
    found = (next(blocks.loops(step.tree, act.node), None) for act in step.every(Backward))
    for loop in dict.fromkeys(loop for loop in found if isinstance(loop, cst.For)):
        if any(step.tree.contains(loop, act.node) for act in step.every(OptimizerStep)):
            yield loop


def _words(loop: cst.For) -> set[str]:
    """The words in the names of what a loop goes over."""
    return {word.lower() for name in _names(loop.iter) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def _names(data: cst.BaseExpression) -> Iterator[str]:
    """The names of data, `enumerate`, `tqdm` and the like looked through; what says how often is none."""
    match data:
        case cst.Name() | cst.Attribute() if chain := dotted(data):
            yield chain[-1]
        case cst.Call(func=cst.Name(value="range" | "eval" | "count")):
            return
        case cst.Call(func=cst.Name(value="zip"), args=args):
            yield from (name for arg in args for name in _names(arg.value))
        case cst.Call(func=func, args=args):
            yield from (dotted(func) or ("",))[-1:]
            yield from (name for arg in args[:1] if arg.keyword is None for name in _names(arg.value))
        case cst.Subscript(value=value, slice=[cst.SubscriptElement(slice=cst.Index(value=cst.SimpleString() as key))]):
            yield from (*_names(value), str(key.evaluated_value))


def _nested(code: Code, loop: cst.For) -> bool:
    """Whether a loop is adapted to inside another one over data: meta-learning, or training at test time."""
    return any(isinstance(outer, cst.For) and _words(outer) & _HELD_OUT for outer in blocks.loops(code.tree, loop))


# ---------------------------------------------------------------------- graphs that are kept


def graphed(model: FileModel) -> Iterator[Graphed]:
    """Evaluations without `no_grad`, in programs that train under autocast or with a scaler."""
    code, steps = model.code, [step for step in model.steps if step.mixed or step.scaled]
    if not steps or any(isinstance(n, cst.Expr) and switches_off(code.tree.names, n.value) for n in code.amp.nodes):
        return
    origins, trained = Origins(code), _trained(code, steps)
    for loop in (n for f in code.flow.functions for n in code.flow.body[f] if isinstance(n, cst.For)):
        if _words(loop) & _HELD_OUT and not _words(loop) & _TRAINED_ON and _recorded(code, loop):
            calls = [
                c for c in walk_scope(loop.body) if isinstance(c, cst.Call) and code.roles.of(c.func) is Role.MODULE
            ]
            run = [c for c in calls if related(origins.of(c.func), trained)]
            if run and all(_on_record(code, c) for c in calls) and not _differentiates(steps[0], loop):
                yield Graphed(loop, run[0])


def _trained(code: Code, steps: list[TrainingStep]) -> frozenset[Place]:
    """The modules that steps run with gradients."""
    origins = Origins(code)
    functions = {f for step in steps for f in step.functions}
    functions |= {g for step in steps for act in step.every(Backward) for g in code.flow.reachable(act.function)}
    calls = (n for f in functions for n in code.flow.body[f] if isinstance(n, cst.Call))
    run = (c for c in calls if code.roles.of(c.func) is Role.MODULE and not gradless(code.tree, c))
    return frozenset(place for call in run for place in origins.of(call.func))


def _recorded(code: Code, loop: cst.For, depth: int = 3) -> bool:
    """Whether gradients are on around a loop, whoever runs it; not where that cannot be seen."""
    return _on_record(code, loop) and _called_on_record(code, code.flow.function(loop), depth)


def _called_on_record(code: Code, function: Function, depth: int) -> bool:
    if not isinstance(function, cst.FunctionDef):
        return True
    sites = code.flow.sites.get(function, [])
    return bool(sites) and all(
        _on_record(code, site) and (depth == 0 or _called_on_record(code, code.flow.function(site), depth - 1))
        for site in sites
    )


def _on_record(code: Code, node: cst.CSTNode) -> bool:
    """Whether nothing around a node may switch gradients off."""
    items = (i.item for p in code.tree.parents(node) if isinstance(p, cst.With) for i in p.items)
    may_be = any(isinstance(i, cst.Call) and code.tree.names.imported(i.func) & words.GRAD_SET for i in items)
    return not may_be and not gradless(code.tree, node)


def _differentiates(step: TrainingStep, loop: cst.For) -> bool:
    """Whether gradients are used in a loop: of inputs, or to adapt the model."""
    function = step.code.flow.function(loop)
    acts = [act.node for act in step.context.direct[function]] + [call for call, _ in step.context.calls(function)]
    asked = {"requires_grad", "requires_grad_", "grad"}
    named = (n.attr.value in asked for n in walk(loop.body) if isinstance(n, cst.Attribute))
    return any(step.tree.contains(loop, node) for node in acts) or any(named)
