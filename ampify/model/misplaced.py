"""Autocast regions in the wrong place: left open by a `yield`, around the capture of a graph, inside an equal one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.contexts import Region, casts, disabled, keeps_casts
from ampify.model.grad_mode import gradless
from ampify.model.origins import Origins, related
from ampify.model.plain import is_plain
from ampify.model.regions import region_of
from ampify.model.roles import Role
from ampify.model.step import Code, FileModel
from ampify.syntax import blocks
from ampify.syntax.walk import dotted, walk, walk_scope

_CAPTURES = {"torch.cuda.make_graphed_callables", "torch.cuda.graphs.make_graphed_callables"}
_TRACES = {"torch.jit.trace", "torch.jit.trace_module"}
_PLAIN = {"staticmethod", "classmethod", "torch.no_grad", "torch.inference_mode", "torch.enable_grad"}
"""Decorators that leave a generator function one."""


@dataclass(frozen=True, slots=True, eq=False)
class Suspended:
    """A generator or coroutine that is suspended at ``node`` in a region, or decorated with one."""

    region: Region
    node: cst.CSTNode
    word: str

    @property
    def decorates(self) -> bool:
        return isinstance(self.region, cst.Decorator)


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """A call that captures a graph in a region that keeps casts."""

    call: cst.Call
    region: cst.With


@dataclass(frozen=True, slots=True, eq=False)
class Nested:
    """A region directly inside one with the same arguments."""

    inner: cst.With
    outer: cst.With


@dataclass(frozen=True, slots=True, eq=False)
class Starved:
    """A forward without gradients, and one with them of the same module in the same region."""

    without: cst.Call
    trained: cst.Call
    region: cst.With


# ---------------------------------------------------------------------- generators


def suspended(model: FileModel) -> Iterator[Suspended]:
    code = model.code
    for region in code.amp.regions:
        owner = code.tree.names.parent[region] if isinstance(region, cst.Decorator) else code.flow.function(region)
        if isinstance(owner, cst.FunctionDef) and not disabled(code, region) and not _managed(code, owner):
            inside = walk_scope(region.body) if isinstance(region, cst.With) else iter(code.flow.body[owner])
            waits = ((n, word) for n in inside if (word := _word(owner, n)) is not None)
            if (found := next(waits, None)) is not None:
                yield Suspended(region, *found)


def _word(function: cst.FunctionDef, node: cst.CSTNode) -> str | None:
    """What suspends a function, or makes it one that can be."""
    match node:
        case cst.Yield():
            return "yield"
        case cst.Await() if function.asynchronous is not None:
            return "await"
    return None


def _managed(code: Code, function: cst.FunctionDef) -> bool:
    """Whether a generator may be a context manager or a fixture, by a decorator that is not known to leave it one."""
    for decorator in function.decorators:
        node = decorator.decorator
        named = node.func if isinstance(node, cst.Call) else node
        known = code.tree.names.imported(named) | {".".join(dotted(named))}
        if not known & _PLAIN and decorator not in code.amp.regions:
            return True
    return any(code.flow.named(a.value) is function for call in code.flow.calls for a in call.args)


# ---------------------------------------------------------------------- captured graphs


def captured(model: FileModel) -> Iterator[Captured]:
    code = model.code
    for call in code.flow.calls if code.amp.regions else ():
        paths = code.tree.names.imported(call.func)
        traced = bool(paths & _TRACES) and bool(call.args) and is_plain(code, call.args[0].value)
        region = region_of(code, call) if traced or paths & _CAPTURES else None
        if region is not None and keeps_casts(code, region):
            yield Captured(call, region)


# ---------------------------------------------------------------------- nested regions


def nested(model: FileModel) -> Iterator[Nested]:
    code = model.code
    regions = [r for r in code.amp.regions if isinstance(r, cst.With) and not disabled(code, r)]
    for inner in regions:
        outer = region_of(code, inner)
        if outer is not None and outer in regions and _same(code, inner, outer):
            yield Nested(inner, outer)


def _same(code: Code, inner: cst.With, outer: cst.With) -> bool:
    """Whether two regions are entered with the same arguments, which mean the same at both."""
    one, other = casts(code, inner), casts(code, outer)
    if len(inner.items) > 1 or len(other) > 1 or code.tree.text(one[0]) != code.tree.text(other[0]):
        return False
    places = [place for _, place in code.flow.reads(one[0])]
    return all(code.flow.reaching(p, inner) == code.flow.reaching(p, outer) for p in places)


# ---------------------------------------------------------------------- gradients that get lost

FIXED = (2, 11)
"""The first release for which it is sure that casts made without gradients are not used with them."""


def starved(model: FileModel) -> Iterator[Starved]:
    """Where a module runs without gradients first, and then with them in the same region: its casts have no graph."""
    code = model.code
    if model.target is None or model.target >= FIXED:
        return
    origins = Origins(code)
    for region in (r for r in code.amp.regions if isinstance(r, cst.With) and keeps_casts(code, r)):
        calls = [n for n in walk(region.body) if isinstance(n, cst.Call) and code.roles.of(n.func) is Role.MODULE]
        calls = [c for c in calls if region_of(code, c) is region]
        without = [c for c in calls if gradless(code.tree, c) and not gradless(code.tree, region)]
        pairs = ((a, b) for a in without for b in calls if _later(code, a, b) and not gradless(code.tree, b))
        for a, b in pairs:
            if related(origins.of(a.func), origins.of(b.func)):
                yield Starved(a, b, region)
                break


def _later(code: Code, first: cst.Call, second: cst.Call) -> bool:
    here, there = (blocks.small_statement_of(code.tree, call) for call in (first, second))
    after = code.tree.span(second).start > code.tree.span(first).end
    return after and here is not there and not code.flow.exclusive(first, second)
