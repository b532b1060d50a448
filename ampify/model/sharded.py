"""Scalers that do not know that gradients are sharded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.definitions import Place
from ampify.model.origins import Origins, related
from ampify.model.roles import Role
from ampify.model.scaler_objects import makers_of
from ampify.model.step import OptimizerStep, TrainingStep
from ampify.syntax.walk import walk

_WRAPPERS = {
    "torch.distributed.fsdp.FullyShardedDataParallel",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel",
}
_WHOLE = {"NO_SHARD", "bfloat16"}
"""Names in the arguments of a wrapper with which a plain scaler does no harm."""


@dataclass(frozen=True, slots=True, eq=False)
class Unsharded:
    """A plain scaler, made by ``made``, that steps what ``wrapper`` shards."""

    made: cst.Call
    wrapper: cst.Call


def unsharded(step: TrainingStep) -> Iterator[Unsharded]:
    scalers = [act.scaler for act in step.every(OptimizerStep) if act.scaler is not None]
    made = dict.fromkeys(call for scaler in scalers for call in makers_of(step.code, scaler))
    plain = [c for c in made if not any(p.endswith("ShardedGradScaler") for p in step.code.amp.paths(c.func))]
    if plain and len(plain) == len(made):
        wrapper = next((call for call, places in _wrapped(step) if related(places, _modules(step))), None)
        yield from (Unsharded(call, wrapper) for call in plain if wrapper is not None)


def _wrapped(step: TrainingStep) -> Iterator[tuple[cst.Call, frozenset[Place]]]:
    """The calls that shard a module, with the places of the result."""
    flow, origins = step.code.flow, Origins(step.code)
    for d in (d for found in flow.definitions.values() for d in found if d.value is not None):
        for node in walk(d.value) if d.value is not None else ():
            if isinstance(node, cst.Call) and flow.names.imported(node.func) & _WRAPPERS and not _whole(node):
                yield node, origins.of(d.place) | {d.place}


def _whole(call: cst.Call) -> bool:
    return any(isinstance(n, cst.Attribute) and n.attr.value in _WHOLE for n in walk(call))


def _modules(step: TrainingStep) -> frozenset[Place]:
    """The modules that the functions of a step run."""
    flow, origins = step.code.flow, Origins(step.code)
    calls = (n for f in step.functions for n in flow.body[f] if isinstance(n, cst.Call))
    return frozenset(p for c in calls if step.code.roles.of(c.func) is Role.MODULE for p in origins.of(c.func))
