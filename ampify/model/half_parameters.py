"""Parameters in float16 whose gradients a scaler is to unscale, which it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.definitions import Place
from ampify.model.step import Code, OptimizerStep, TrainingStep
from ampify.model.switches import Switches
from ampify.syntax import blocks
from ampify.syntax.walk import arguments, keyword

_HALF = {"torch.float16", "torch.half"}
_CASTS = {"half", "float", "double", "bfloat16", "to", "type"}
_CHAIN = {"half", "to", "cuda", "cpu", "train", "eval"}
"""Methods of a module that give the module itself."""


@dataclass(frozen=True, slots=True, eq=False)
class HalfParameters:
    """A module that ``cast`` has put in float16, all of whose parameters an optimizer has that a scaler steps."""

    cast: cst.Call
    module: cst.BaseExpression
    step: OptimizerStep


def half_parameters(step: TrainingStep) -> Iterator[HalfParameters]:
    """The modules whose gradients a scaler will refuse."""
    code = step.code
    if not step.scaled or Switches(code).off:
        return
    seen: set[cst.Call] = set()
    for act in step.every(OptimizerStep):
        module = _module(code, act) if act.scaler is not None else None
        place = code.flow.place(module) if module is not None else None
        if module is not None and place is not None:
            casts = [*_casts(code, place)]
            if len(casts) == 1 and _to_half(code, casts[0]) and casts[0] not in seen and _always(code, casts[0]):
                seen.add(casts[0])
                yield HalfParameters(casts[0], module, act)


def _module(code: Code, act: OptimizerStep) -> cst.BaseExpression | None:
    """``model`` where the optimizer was made with ``model.parameters()``; a fused one unscales by itself."""
    place = code.flow.place(act.optimizer)
    match [d.value for d in code.flow.assigned(place)] if place is not None else []:
        case [cst.Call(args=[first, *_]) as made] if keyword(made, "fused") is None:
            known = any(path.startswith("torch.optim.") for path in code.flow.names.imported(made.func))
            match first.value:
                case cst.Call(func=cst.Attribute(value=module, attr=cst.Name(value="parameters"))) if known:
                    return module
    return None


def _casts(code: Code, place: Place) -> Iterator[cst.Call]:
    """The calls that may change the dtype of the module at ``place``, by statement or where it gets its value."""
    for call in code.flow.calls:
        match call.func:
            case cst.Attribute(value=owner, attr=cst.Name(value=name)) if name in _CASTS and _changes(code, call):
                whole = isinstance(code.tree.names.parent[call], cst.Expr)
                if whole and code.flow.place(owner) == place:
                    yield call
    for d in code.flow.assigned(place):
        value = d.value
        while isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and value.func.attr.value in _CHAIN:
            if _changes(code, value):
                yield value
            value = value.func.value


def _changes(code: Code, call: cst.Call) -> bool:
    """Whether a cast is to a dtype, not only to a device."""
    match call.func:
        case cst.Attribute(attr=cst.Name(value="to" | "type")):
            given = [path for value in arguments(call) for path in code.flow.names.imported(value)]
            return any(path.startswith("torch.") for path in given)
        case cst.Attribute(attr=cst.Name(value=name)):
            return name in _CASTS
    return False


def _to_half(code: Code, call: cst.Call) -> bool:
    if isinstance(call.func, cst.Attribute) and call.func.attr.value == "half":
        return not call.args
    return any(code.flow.names.imported(value) & _HALF for value in arguments(call))


def _always(code: Code, call: cst.Call) -> bool:
    """Whether a cast runs whenever its function does, and stands in no conditional expression."""
    block = blocks.block_of(code.tree, blocks.statement_of(code.tree, call))
    plain = isinstance(code.tree.names.parent[block], cst.FunctionDef) or isinstance(block, cst.Module)
    return plain and not any(isinstance(p, cst.IfExp) for p in code.tree.parents(call))
