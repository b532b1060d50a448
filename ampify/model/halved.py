"""Modules that are cast to half precision as a whole and trained so, and what steps them.

Only where an optimizer of PyTorch is given the module's parameters themselves: copies in float32, as Apex and
hand-written loss scaling keep them, are no such case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.casts import HalfCast, casts, half_cast, makers, places
from ampify.model.definitions import Place
from ampify.model.literals import number
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, FileModel, OptimizerStep, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.walk import arguments, is_none, keyword, walk_scope

_ADAMS = {f"torch.optim.{name}" for name in ("Adam", "AdamW", "NAdam", "Adamax", "RMSprop")}
_DEFAULTS = {"torch.set_default_dtype", "torch.set_default_tensor_type"}
_HALF_TYPES = {"torch.float16", "torch.half", "torch.HalfTensor", "torch.cuda.HalfTensor"}
_USUAL_EPS, _BEFORE_EPS = 1e-8, 3
"""The default of these optimizers, and the arguments that stand before it."""
_SMALLEST_EPS = 2.0**-24
"""The smallest float16 above 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Halved:
    """A module in half precision whose own parameters ``optimizer``, a constructor call, was given."""

    cast: HalfCast
    optimizer: cst.Call
    inputs: tuple[HalfCast, ...]
    """Casts of what the module is called with."""
    in_loop: bool
    """Whether it is cast while it is being trained, not before."""


def halved(step: TrainingStep) -> Iterator[Halved]:
    """The modules that ``step`` trains in half precision."""
    code = step.code
    found = [cast for cast in casts(code) if _of_module(code, cast)]
    if not found or step.scaled or _kept_in_float(step):
        return
    for made in _optimizers(step):
        owner = _owner(code, made)
        for cast in found:
            if owner is not None and owner in places(code, cast) and _before(step, cast, made):
                yield Halved(cast, made, tuple(_inputs(step, owner)), _within(step, cast))


def divides_by_zero(code: Code, optimizer: cst.Call) -> bool:
    """Whether the ``eps`` of an optimizer is 0 in float16; a fused one computes in float32."""
    fused, given = keyword(optimizer, "fused"), keyword(optimizer, "eps")
    positional = len([a for a in optimizer.args if a.keyword is None])
    unseen = any(a.star for a in optimizer.args) or positional > _BEFORE_EPS or fused is not None
    if unseen or not code.flow.names.imported(optimizer.func) <= _ADAMS:
        return False
    value = _USUAL_EPS if given is None else number(code.flow, given)
    return value is not None and value < _SMALLEST_EPS


def _of_module(code: Code, cast: HalfCast) -> bool:
    return code.roles.of(cast.value) is Role.MODULE or code.roles.of(cast.call) is Role.MODULE


def _kept_in_float(step: TrainingStep) -> bool:
    """Whether the text casts a module back, or copies parameters to float32, somewhere."""
    roles = step.code.roles
    for call in step.code.flow.calls:
        match call.func:
            case cst.Attribute(value=owner, attr=cst.Name(value="float")) if not call.args:
                if roles.of(owner) is Role.MODULE or _is_parameter(step.code, owner):
                    return True
    return False


def _is_parameter(code: Code, node: cst.BaseExpression) -> bool:
    """``p.data``, ``p.detach()``: what master copies are made of."""
    match node:
        case cst.Attribute(attr=cst.Name(value="data" | "grad")):
            return True
        case cst.Call(func=cst.Attribute(value=cst.Name(), attr=cst.Name(value="clone" | "detach"))):
            return True
    return False


def _optimizers(step: TrainingStep) -> Iterator[cst.Call]:
    """The constructor calls of the optimizers of a step, where all of them are seen and none is wrapped."""
    seen: set[cst.Call] = set()
    for act in step.every(OptimizerStep):
        made = [call for call in makers(step.code, act.optimizer) if not is_none(call)]
        paths = [step.code.flow.names.imported(call.func) for call in made]
        if all(found and all(p.startswith("torch.optim.") for p in found) for found in paths):
            yield from (call for call in made if call not in seen)
            seen.update(made)


def _owner(code: Code, optimizer: cst.Call) -> Place | None:
    """The module whose ``parameters()`` an optimizer is given, all of them."""
    match optimizer.args:
        case [cst.Arg(value=cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="parameters")))), *_]:
            return code.roles.instances.place(owner)
    return None


def _before(step: TrainingStep, cast: HalfCast, optimizer: cst.Call) -> bool:
    """Whether the cast runs on the way to the training: beside the optimizer or the backward."""
    here = step.code.flow.function(cast.call)
    if _within(step, cast):
        return True
    if any(here is act.function for act in step.every(Backward)):
        return step.tree.span(cast.call).start < max(step.tree.span(a.node).start for a in step.every(Backward))
    return here is step.code.flow.function(optimizer)


def _within(step: TrainingStep, cast: HalfCast) -> bool:
    """Whether the cast stands in a loop that a backward stands in."""
    loops = [*blocks.loops(step.tree, cast.call)]
    return any(step.tree.contains(loop, act.node) for loop in loops for act in step.every(Backward))


def _inputs(step: TrainingStep, module: Place) -> Iterator[HalfCast]:
    code = step.code
    for function in step.functions:
        for call in (n for n in walk_scope(function) if isinstance(n, cst.Call)):
            if code.roles.instances.place(call.func) == module:
                yield from (cast for arg in arguments(call) if (cast := half_cast(code, arg)) is not None)


def half_defaults(model: FileModel) -> Iterator[cst.Call]:
    """Calls that make float16 the dtype of all new tensors, in a program that trains and never takes it back."""
    names = model.code.flow.names
    found = [c for c in model.code.flow.calls if names.imported(c.func) & _DEFAULTS]
    if model.steps and len(found) == 1 and any(names.imported(a) & _HALF_TYPES for a in arguments(found[0])):
        yield found[0]
