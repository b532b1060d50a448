"""Autograd functions that multiply matrices under autocast, and do not say so by `custom_fwd` and `custom_bwd`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.custom_functions import applies, is_product
from ampify.model.lowered import Under
from ampify.model.step import FileModel
from ampify.syntax.walk import arguments, dotted, walk

_FUNCTIONS = {"torch.autograd.Function", "torch.autograd.function.Function"}
_CASTS = {"float", "half", "to", "type", "type_as", "autocast", "custom_fwd", "custom_bwd"}


@dataclass(frozen=True, slots=True, eq=False)
class Undecorated:
    """A class whose ``forward`` autocast changes, while its ``backward`` meets the float32 tensors that were saved."""

    forward: cst.FunctionDef
    backward: cst.FunctionDef
    applied: cst.Call
    device: str


def undecorated(model: FileModel) -> Iterator[Undecorated]:
    flow = model.code.flow
    for cls in flow.classes:
        if not any(flow.names.imported(base.value) & _FUNCTIONS for base in cls.bases):
            continue
        methods = [flow.method(cls, "forward"), flow.method(cls, "backward")]
        match methods:
            case [cst.FunctionDef() as forward, cst.FunctionDef() as backward] if all(
                _multiplies(model, m) for m in (forward, backward)
            ):
                views = ((model.lowered.cuda, "cuda"), (model.lowered.cpu, "cpu"))
                found = ((call, device) for under, device in views for call in _applied(model, under, cls))
                yield from (Undecorated(forward, backward, call, device) for call, device in [*found][:1])


def _multiplies(model: FileModel, method: cst.FunctionDef) -> bool:
    """Whether a method multiplies matrices and takes no care of dtypes itself."""
    plain = all(dotted(d.decorator)[-1:] in (("staticmethod",), ("once_differentiable",)) for d in method.decorators)
    nodes = [*walk(method.body)]
    names = {n.func.attr.value for n in nodes if isinstance(n, cst.Call) and isinstance(n.func, cst.Attribute)}
    return plain and not names & _CASTS and any(is_product(model.code.tree, node) for node in nodes)


def _applied(model: FileModel, under: Under, cls: cst.ClassDef) -> Iterator[cst.Call]:
    """Where autocast runs it on a float32 tensor, as weights are."""
    for call in under.nodes:
        if isinstance(call, cst.Call) and applies(model.code.tree, call, cls) and any(map(under.full, arguments(call))):
            yield call
