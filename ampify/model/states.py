"""Checkpoints of a scaled training step that leave the state of its scaler out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.origins import Origins, related
from ampify.model.step import Checkpoint, OptimizerStep, TrainingStep
from ampify.model.switches import Switches
from ampify.syntax.blocks import Function
from ampify.syntax.walk import arguments, dotted


@dataclass(frozen=True, slots=True, eq=False)
class Saving:
    """A dict, or a call that makes one or an object of this file, with the state of an optimizer in it."""

    node: cst.Dict | cst.Call
    state: cst.BaseExpression
    """``optimizer.state_dict()``, or the optimizer itself where a library asks it for its state."""
    function: Function
    by_library: bool = False


def unsaved(step: TrainingStep) -> Iterator[Saving]:
    """Where the state of an optimizer of ``step`` is saved, and that of its scaler is not."""
    if _scales(step):
        yield from (s for s in _savings(step) if not _mentioned(step, s.function, "state_dict"))
        yield from (s for s in _by_library(step) if not any(map(step.code.amp.is_scaler, _values(s.node))))


def unrestored(step: TrainingStep) -> Iterator[Checkpoint]:
    """Where the state of an optimizer of ``step`` is loaded, and that of its scaler is not."""
    if _scales(step):
        seen: set[Function] = set()
        for checkpoint in step.checkpoints:
            loads = checkpoint.load is not None and checkpoint.function not in seen
            if loads and not _mentioned(step, checkpoint.function, "load_state_dict"):
                seen.add(checkpoint.function)
                yield checkpoint


def _scales(step: TrainingStep) -> bool:
    return step.scaler is not None and not Switches(step.code).off


def _savings(step: TrainingStep) -> Iterator[Saving]:
    origins, flow = Origins(step.code), step.code.flow
    optimizers = frozenset(p for act in step.every(OptimizerStep) for p in origins.of(act.optimizer))
    found: set[cst.CSTNode] = set()
    for call in flow.calls:
        match call.func:
            case cst.Attribute(value=owner, attr=cst.Name(value="state_dict")) if related(
                origins.of(owner), optimizers
            ):
                holder = _holder(step, call)
                if holder is not None and holder not in found:
                    found.add(holder)
                    yield Saving(holder, call, flow.function(call))


def _by_library(step: TrainingStep) -> Iterator[Saving]:
    """The dicts of objects, an optimizer of the step among them, whose states Ignite saves."""
    origins, flow = Origins(step.code), step.code.flow
    optimizers = frozenset(p for act in step.every(OptimizerStep) for p in origins.of(act.optimizer))
    given = [value for call in flow.calls if _is_ignite(step, call) for value in arguments(call)]
    for node in dict.fromkeys(n for value in given for n in _dicts(step, value)):
        for value in _values(node):
            if related(origins.of(value), optimizers):
                yield Saving(node, value, flow.function(node), by_library=True)


def _is_ignite(step: TrainingStep, call: cst.Call) -> bool:
    return any(path.startswith("ignite.") for path in step.code.flow.names.imported(call.func))


def _dicts(step: TrainingStep, value: cst.BaseExpression) -> Iterator[cst.Dict]:
    """The dict that an expression is, or that its name holds."""
    place = step.code.flow.place(value) if isinstance(value, cst.Name | cst.Attribute) else None
    held = [d.value for d in step.code.flow.assigned(place)] if place is not None else []
    yield from (v for v in (value, *held) if isinstance(v, cst.Dict))


def _values(node: cst.Dict | cst.Call) -> list[cst.BaseExpression]:
    return [e.value for e in node.elements if isinstance(e, cst.DictElement)] if isinstance(node, cst.Dict) else []


def _holder(step: TrainingStep, state: cst.Call) -> cst.Dict | cst.Call | None:
    """What a state is put into under a name."""
    item = step.tree.names.parent[state]
    holder = step.tree.names.parent[item] if item is not None else None
    match item, holder:
        case cst.DictElement(), cst.Dict():
            return holder
        case cst.Arg(keyword=cst.Name()), cst.Call(func=func):
            made = isinstance(func, cst.Name) and func.value == "dict"
            return holder if made or isinstance(step.code.flow.named(func), cst.ClassDef) else None
    return None


def _mentioned(step: TrainingStep, function: Function, method: str) -> bool:
    """Whether ``function``, or one that calls it, handles the state of anything that may be a scaler."""
    flow = step.code.flow
    callers = [flow.function(c) for c in flow.sites.get(function, ())] if isinstance(function, cst.FunctionDef) else []
    for node in (n for f in (function, *callers) for n in flow.body[f]):
        match node:
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value=name))) if name == method:
                if step.code.amp.is_scaler(owner) or "scaler" in (dotted(owner) or ("",))[-1].lower():
                    return True
    return False
