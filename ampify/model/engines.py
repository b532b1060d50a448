"""Engines that take the gradients of a training step into their own hands: privacy, and steps on a TPU."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model.acts import Acts
from ampify.model.definitions import Place
from ampify.model.islands import Islands
from ampify.model.origins import Origins, related
from ampify.model.step import Act, Obstacle, OptimizerStep
from ampify.syntax.walk import arguments

_PRIVATE = {"make_private", "make_private_with_epsilon", "attach"}
_XLA_STEP = {"torch_xla.core.xla_model.optimizer_step"}


def engine_obstacles(acts: Acts, step: list[Act], islands: Islands) -> Iterator[Obstacle]:
    """Why a step that leaves its gradients to an engine is left in float32."""
    functions = {act.function for act in step}
    for call in acts.flow.calls:
        if acts.flow.names.imported(call.func) & _XLA_STEP and acts.flow.function(call) in functions:
            reason = "it steps through `xm.optimizer_step`; on a TPU bfloat16 autocast does without a scaler"
            yield Obstacle("AMP707", acts.tree.span(call), reason)
        elif _is_private(call, islands) and related(_touched(acts, call), _optimizers(acts, step)):
            reason = "Opacus clips the gradient of each sample during the backward, where they would still be scaled"
            yield Obstacle("AMP710", acts.tree.span(call), reason)


def _is_private(call: cst.Call, islands: Islands) -> bool:
    match call.func:
        case cst.Attribute(value=engine, attr=cst.Name(value=name)) if name in _PRIVATE:
            return any(path.partition(".")[0] == "opacus" for path in islands.made_by(engine))
    return False


def _touched(acts: Acts, call: cst.Call) -> frozenset[Place]:
    """The places of what an engine is given, and of what it gives back."""
    given = (acts.flow.place(value) for value in arguments(call))
    back = (d.place for found in acts.flow.definitions.values() for d in found if d.value is call)
    return frozenset(place for place in (*given, *back) if place is not None)


def _optimizers(acts: Acts, step: list[Act]) -> frozenset[Place]:
    origins, flow = Origins(acts.code), acts.flow
    steps = [act.optimizer for act in step if isinstance(act, OptimizerStep)]
    return frozenset(p for o in steps for p in (*origins.of(o), flow.place(o)) if p is not None)
