"""Forwards in threads that autocast does not reach, or reaches without its dtype: it is a state of each thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.acts import Acts
from ampify.model.contexts import casts, makers, options
from ampify.model.definitions import Place
from ampify.model.forward import Forward
from ampify.model.regions import region_of
from ampify.model.roles import Role
from ampify.model.step import Code, FileModel
from ampify.syntax.walk import keyword

_PARALLEL = {"torch.nn.DataParallel", "torch.nn.parallel.DataParallel"}
_EXECUTORS = {"concurrent.futures.ThreadPoolExecutor", "concurrent.futures.thread.ThreadPoolExecutor"}


@dataclass(frozen=True, slots=True, eq=False)
class Threaded:
    """A call in ``region`` that runs a model in other threads."""

    call: cst.Call
    region: cst.With
    replicas: bool
    """Those of `nn.DataParallel`, which know that autocast is on, and not its dtype."""


def threaded(model: FileModel) -> Iterator[Threaded]:
    code = model.code
    if not code.amp.regions:
        return
    forward = Forward(Acts(code), [])
    parallel, pools = _given(code, _PARALLEL), _given(code, _EXECUTORS)
    for call in code.flow.calls:
        replicas = code.roles.of(call.func) is Role.MODULE and code.flow.place(call.func) in parallel
        target = None if replicas else _target(code, call, pools)
        if not replicas and (target is None or not _runs(code, forward, target)):
            continue
        region = region_of(code, call)
        if region is not None and (not replicas or _is_bfloat16(code, region)):
            yield Threaded(call, region, replicas)


def _given(code: Code, makers: set[str]) -> set[Place]:
    """The places that are given a result of one of these constructors."""
    found = (d for definitions in code.flow.definitions.values() for d in definitions)
    made = ((d.place, _maker(d.value)) for d in found)
    return {place for place, call in made if call is not None and code.flow.names.imported(call.func) & makers}


def _maker(value: cst.BaseExpression | None) -> cst.Call | None:
    match value:
        case cst.Call(func=cst.Attribute(value=cst.Call() as inner, attr=cst.Name(value="cuda" | "to"))):
            return inner
        case cst.Call():
            return value
    return None


def _target(code: Code, call: cst.Call, pools: set[Place]) -> cst.BaseExpression | None:
    """What a call runs in another thread."""
    first = next((a.value for a in call.args if a.keyword is None), None)
    if "threading.Thread" in code.flow.names.imported(call.func):
        return keyword(call, "target")
    match call.func:
        case cst.Attribute(value=owner, attr=cst.Name(value="map" | "submit")):
            return first if code.flow.place(owner) in pools else None
    return None


def _runs(code: Code, forward: Forward, target: cst.BaseExpression) -> bool:
    """Whether a thread runs a model, and enters no autocast for it."""
    if code.roles.of(target) is Role.MODULE:
        return True
    function = code.flow.named(target)
    if not isinstance(function, cst.FunctionDef):
        return False
    inside = [n for f in (function, *code.flow.reachable(function)) for n in code.flow.body[f]]
    enters = any(isinstance(n, cst.With) and n in code.amp.regions for n in inside) or any(
        d in code.amp.regions for d in function.decorators
    )
    return not enters and any(isinstance(n, cst.Call) and forward.runs_module(n) for n in inside)


def _is_bfloat16(code: Code, region: cst.With) -> bool:
    made = [call for cast in casts(code, region) for call in makers(code, cast)]
    given = [value for call in made for value in options(code, call, "dtype")]
    return len(given) == len(made) > 0 and all("torch.bfloat16" in code.flow.names.imported(v) for v in given)
