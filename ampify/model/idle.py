"""Scalers that scale losses of programs in which nothing is ever in half precision."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model.plain import is_plain
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, TrainingStep
from ampify.model.switches import Switches

_LOW = {
    "autocast", "half", "float16", "bfloat16", "fp16", "bf16", "HalfTensor", "amp_autocast", "set_autocast_enabled",
    "set_default_dtype", "apex",
}  # fmt: skip
"""Names and strings of programs that may have something in half precision."""
_FUSED = {"optimizers", "normalization", "parallel"}
"""Parts of Apex that leave precision as it is."""


def idle_scalers(step: TrainingStep) -> Iterator[Backward]:
    """The first scaled backward of a step, where all modules of the step are seen and in float32."""
    scalers = ((act, act.scaler) for act in step.every(Backward))  # a wrapper's may do more
    scaled = [act for act, scaler in scalers if scaler is not None and step.code.amp.is_scaler(scaler)]
    if scaled and not Switches(step.code).off and not any(_is_low(step.code, node) for node in step.code.amp.nodes):
        modules = _modules(step)
        if modules and all(is_plain(step.code, module) for module in modules):
            yield scaled[0]


def _is_low(code: Code, node: cst.CSTNode) -> bool:
    match node, code.tree.names.parent[node]:
        case cst.Name(value="apex"), cst.Attribute(attr=cst.Name(value=part)) if part in _FUSED:
            return False
        case cst.Name(value=name), parent:
            return name in _LOW and not isinstance(parent, cst.ImportAlias)
        case cst.SimpleString(), _:
            return str(node.evaluated_value) in _LOW
    return False


def _modules(step: TrainingStep) -> list[cst.BaseExpression]:
    """What the functions of a step run, and those that they call."""
    flow = step.code.flow
    functions = {*step.functions} | {g for f in step.functions for g in flow.reachable(f)}
    calls = (n for f in functions for n in flow.body[f] if isinstance(n, cst.Call))
    return [c.func for c in calls if step.code.roles.of(c.func) is Role.MODULE]
