"""Calls beside mixed precision that leave something unsaid, or do more than they say: checkpoints, hooks, `half`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.origins import Origins, related
from ampify.model.roles import Role
from ampify.model.step import Backward, FileModel, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.walk import walk

_CHECKPOINTS = {"torch.utils.checkpoint.checkpoint", "torch.utils.checkpoint.checkpoint_sequential"}
_COMPRESSING = {
    f"torch.distributed.algorithms.ddp_comm_hooks.{name}"
    for name in ("default_hooks.fp16_compress_hook", "default.fp16_compress_hook")
}


@dataclass(frozen=True, slots=True, eq=False)
class Halved:
    """``model.half()`` in what ``save`` writes, inside the loop that trains the model."""

    call: cst.Call
    save: cst.Call
    loop: cst.For | cst.While


def open_checkpoints(model: FileModel) -> Iterator[cst.Call]:
    """The checkpoints of a program with autocast that do not say how they recompute.

    Where one of a function does, the others may be for versions of PyTorch that cannot be told.
    """
    code = model.code
    calls = [c for c in code.flow.calls if code.flow.names.imported(c.func) & _CHECKPOINTS] if code.amp.regions else []
    telling = {code.flow.function(call) for call in calls if _says(call)}
    yield from (call for call in calls if code.flow.function(call) not in telling)


def _says(call: cst.Call) -> bool:
    return any(a.star or (a.keyword is not None and a.keyword.value == "use_reentrant") for a in call.args)


def compressed(step: TrainingStep) -> Iterator[cst.Call]:
    """The hooks that send the gradients of a scaled loss in float16."""
    if step.scaled:
        for call in step.code.flow.calls:
            named = isinstance(call.func, cst.Attribute) and call.func.attr.value == "register_comm_hook"
            if named and any(step.code.flow.names.imported(a.value) & _COMPRESSING for a in call.args):
                yield call


def halved(step: TrainingStep) -> Iterator[Halved]:
    """Where the model is cast to half precision, in place, to be saved in the midst of its training."""
    origins, flow = Origins(step.code), step.code.flow
    loops = {loop for act in step.every(Backward) for loop in blocks.loops(step.tree, act.node)}
    run = (n for f in step.functions for n in flow.body[f] if isinstance(n, cst.Call))
    trained = frozenset(p for c in run if step.code.roles.of(c.func) is Role.MODULE for p in origins.of(c.func))
    if any(related(origins.of(module), trained) for call in flow.calls if (module := _cast(call, {"float"}))):
        return
    for save in flow.calls:
        loop = next((loop for loop in blocks.loops(step.tree, save) if loop in loops), None)
        if loop is not None and "torch.save" in flow.names.imported(save.func) and not _last(step, save):
            for call in (n for n in walk(save) if isinstance(n, cst.Call)):
                module = _cast(call, {"half", "bfloat16"})
                if module is not None and related(origins.of(module), trained):
                    yield Halved(call, save, loop)


def _cast(call: cst.Call, names: set[str]) -> cst.BaseExpression | None:
    """What is cast by a method of one of these names."""
    match call.func:
        case cst.Attribute(value=value, attr=cst.Name(value=name)) if name in names:
            return value
    return None


def _last(step: TrainingStep, save: cst.Call) -> bool:
    """Whether the loop is left after a save."""
    return blocks.leaves(blocks.block_of(step.tree, blocks.statement_of(step.tree, save)))
