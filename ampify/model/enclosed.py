"""What stands in an autocast region and must not, because of the casts of weights that the region keeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.contexts import Region, disabled, keeps_casts
from ampify.model.definitions import Place
from ampify.model.grad_mode import gradless
from ampify.model.origins import Origins, related
from ampify.model.regions import region_of, tail_of
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, OptimizerStep, TrainingStep
from ampify.syntax.walk import walk_scope

Loop = cst.For | cst.While
_DEEP = 4
"""So many callers are followed upwards."""


@dataclass(frozen=True, slots=True, eq=False)
class Stale:
    """An optimizer step in a region. ``again`` runs a module there that ran before the step: with old weights.

    ``tail`` is what can leave the region together with the step; empty where nothing can.
    """

    step: OptimizerStep
    region: cst.With
    again: cst.Call | None
    tail: tuple[cst.CSTNode, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """A loop that trains inside one autocast region."""

    loop: Loop
    region: Region
    step: OptimizerStep


def steps_inside(step: TrainingStep) -> Iterator[Stale]:
    """The optimizer steps that stand in a region; the first of each, of those before an old weight is used."""
    found: dict[cst.With, Stale] = {}
    around = {frozen.region for frozen in frozen_loops(step)}
    for act in step.every(OptimizerStep):
        region = region_of(step.code, act.node)
        if region is not None and region not in around and keeps_casts(step.code, region):
            again = _again(step, region, act)
            if region not in found or (found[region].again is None and again is not None):
                found[region] = Stale(act, region, again, tuple(tail_of(step, act.node, region)))
    yield from found.values()


def _again(step: TrainingStep, region: cst.With, act: OptimizerStep) -> cst.Call | None:
    """The first call below a step of a module that it changes and that is called above it, too."""
    code, origins, at = step.code, Origins(step.code), step.tree.span(act.node).start
    calls = [n for n in walk_scope(region.body) if isinstance(n, cst.Call) and code.roles.of(n.func) is Role.MODULE]
    ran = [(c, origins.of(c.func)) for c in calls if region_of(code, c) is not None]
    above = frozenset(p for c, places in ran if code.tree.span(c).start < at for p in places)
    below = ((c, p) for c, p in ran if code.tree.span(c).start > at and not code.flow.exclusive(act.node, c))
    changed = _changed(step, act, origins)
    return next((c for c, p in below if related(p, above) and (changed is None or related(p, changed))), None)


def _changed(step: TrainingStep, act: OptimizerStep, origins: Origins) -> frozenset[Place] | None:
    """The modules whose weights a step changes; None: all, where there is but one optimizer."""
    flow, places = step.code.flow, origins.of(act.optimizer)
    made = [d.value for p in places for d in flow.assigned(p) if isinstance(d.value, cst.Call) and d.value.args]
    owned = frozenset(q for call in made for m in step.context.modules(call.args[0].value) for q in origins.of(m))
    alone = all(related(origins.of(other.optimizer), places) for other in step.every(OptimizerStep))
    return None if alone and not owned else owned


def frozen_loops(step: TrainingStep) -> Iterator[Frozen]:
    """The loops that go backward and step, and that autocast is entered around."""
    seen: set[cst.CSTNode] = set()
    stepping = {n: act for act in step.every(OptimizerStep) for path in _upwards(step.code, act.node) for n in path}
    for act in step.every(Backward):
        around = [_around_loop(step, path, stepping) for path in _upwards(step.code, act.node)]
        if not all(around) and _conditional(step.code, act):  # evaluation may go another way through the same loop
            continue
        for found in around:
            if found is not None and found.region not in seen:
                seen.add(found.region)
                yield found


def _around_loop(
    step: TrainingStep, path: list[cst.CSTNode], stepping: dict[cst.CSTNode, OptimizerStep]
) -> Frozen | None:
    """The region around the innermost loop of a path that holds a step as well."""
    found = ((i, n) for i, n in enumerate(path) if isinstance(n, Loop) and n in stepping)
    inner, loop = next(found, (0, None))
    off = any(isinstance(n, Region) and disabled(step.code, n) for n in path)
    if loop is None or off:
        return None
    region = next((n for n in path[inner:] if isinstance(n, Region) and keeps_casts(step.code, n)), None)
    return Frozen(loop, region, stepping[loop]) if region is not None else None


def _conditional(code: Code, act: Backward) -> bool:
    function = code.flow.function(act.node)
    parents = itertools.takewhile(lambda parent: parent is not function, code.tree.parents(act.node))
    return any(isinstance(parent, cst.If) for parent in parents)


def under_autocast(code: Code, node: cst.CSTNode) -> bool:
    """Whether a region is around a node, in its function or on a way to it."""
    return any(isinstance(n, Region) for path in _upwards(code, node) for n in path)


def _upwards(code: Code, node: cst.CSTNode, above: tuple[cst.CSTNode, ...] = ()) -> Iterator[list[cst.CSTNode]]:
    """The loops and regions around a node, innermost first, along each chain of callers."""
    function = code.flow.function(node)
    here = [*_around(code, node)]
    sites = code.flow.sites.get(function, []) if isinstance(function, cst.FunctionDef) else []
    sites = [site for site in sites if not gradless(code.tree, site)]
    if not sites or function in above or len(above) == _DEEP:
        yield here
        return
    for site in sites:
        yield from (here + rest for rest in _upwards(code, site, (*above, function)))


def _around(code: Code, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The loops and regions around a node in its function, and the decorators of that."""
    child, regions = node, {*code.amp.regions}
    for parent in code.tree.parents(node):
        match parent:
            case cst.FunctionDef(decorators=decorators, body=body) if child is body:
                yield from (d for d in decorators if d in regions)
                return
            case cst.For(body=body) | cst.While(body=body) | cst.With(body=body) if child is body:
                if not isinstance(parent, cst.With) or parent in regions:
                    yield parent
        child = parent
