"""Where scalers are made, against where the optimizers are made that they step: a scaler must live as long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.definitions import Definition, How, Place
from ampify.model.origins import Origins, related
from ampify.model.step import Backward, Code, FileModel, OptimizerStep, TrainingStep
from ampify.model.switches import Switches
from ampify.syntax import blocks
from ampify.syntax.walk import walk

Loop = cst.For | cst.While


@dataclass(frozen=True, slots=True, eq=False)
class Remade:
    """A scaler that ``call`` makes anew in each round of ``loop``, in which no optimizer is made."""

    call: cst.Call
    loop: Loop
    per_batch: bool
    """A round is one step; otherwise it is one loop over many."""


def remade(model: FileModel) -> Iterator[Remade]:
    """The scalers of a file that do not live as long as their optimizers."""
    code, seen = model.code, set[cst.Call]()
    for step in model.steps if code.amp.touched else ():
        for call in _makers(step):
            if call not in seen and (found := _remade(step, call)) is not None:
                seen.add(call)
                yield found


def _makers(step: TrainingStep) -> Iterator[cst.Call]:
    """The calls that make the scalers of a step, not only the first time."""
    origins, decide = Origins(step.code), Switches(step.code).decide
    used = [origins.of(act.scaler) for act in step.every(OptimizerStep) if act.scaler is not None]
    for made in step.code.amp.scalers:
        target = made.targets[0].target if isinstance(made, cst.Assign) else made.target
        place = step.code.flow.place(target)
        mine = place is not None and any(related(origins.of(place), places) for places in used)
        tests = [p.test for p in step.tree.parents(made) if isinstance(p, cst.If)]
        asks = any(step.code.flow.place(n) == place for test in tests for n in walk(test))
        always = not asks and all(map(decide, tests))
        if mine and always and isinstance(made.value, cst.Call) and step.code.amp.is_scaler_call(made.value):
            yield made.value


def _remade(step: TrainingStep, call: cst.Call) -> Remade | None:
    code = step.code
    around, optimizers = _loops(code, call), [*_optimizer_makers(step)]
    backwards = [_loops(code, act.node) for act in step.every(Backward)]
    if around is None or not optimizers or not backwards or None in backwards:
        return None
    homes = [_loops(code, made) for made in optimizers]
    steps = [loops for loops in backwards if loops is not None]
    for loop in reversed(around):
        if all(home is not None and loop not in home for home in homes) and all(loop in loops for loops in steps):
            return Remade(call, loop, any(loops[-1] is loop for loops in steps))
    return None


def _optimizer_makers(step: TrainingStep) -> Iterator[cst.Call]:
    """The calls that make the optimizers of a step, where all of them can be seen."""
    found: list[cst.Call] = []
    for act in step.every(OptimizerStep):
        made = [*_made(step.code, act.optimizer, frozenset())]
        if not made or None in made:
            return
        found += [call for call in made if call is not None]
    yield from found


def _made(code: Code, node: cst.CSTNode, seen: frozenset[Place]) -> Iterator[cst.Call | None]:
    """The calls that give a place its value; None for one that cannot be seen."""
    place = code.flow.place(node)
    if place is None or place in seen:
        yield None
        return
    definitions = [*code.flow.assigned(place)]
    if not definitions:
        yield None
    for d in definitions:
        match d:
            case Definition(how=How.PARAM):
                passed = [*code.flow.passed(d)]
                if not passed:
                    yield None
                for value in passed:
                    yield from _made(code, value, seen | {place})
            case Definition(how=How.ASSIGN, value=cst.Call() as call):
                yield call
            case Definition(how=How.ASSIGN, value=cst.Name() | cst.Attribute() as value):
                yield from _made(code, value, seen | {place})
            case _:
                yield None


def _loops(code: Code, node: cst.CSTNode, depth: int = 6) -> list[Loop] | None:
    """The loops around a node, outermost first, those around the one call of its function among them.

    None where a function is called from several places, or from nowhere in sight.
    """
    inner = [*blocks.loops(code.tree, node)][::-1]
    function = code.flow.function(node)
    if isinstance(function, cst.Module):
        return inner
    sites = code.flow.sites.get(function, [])
    if len(sites) != 1 or depth == 0:
        return inner if not sites and depth else None
    outer = _loops(code, sites[0], depth - 1)
    return [*outer, *inner] if outer is not None else None
