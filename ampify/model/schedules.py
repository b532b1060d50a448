"""Schedulers that move with every step of an optimizer, also where its scaler has skipped that step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import How, Place
from ampify.model.origins import Origins, related
from ampify.model.roles import Role
from ampify.model.step import Code, OptimizerStep, TrainingStep, Update
from ampify.model.switches import Switches
from ampify.syntax import blocks
from ampify.syntax.tree import Tree
from ampify.syntax.walk import keyword, target_names, walk_scope


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """``scheduler.step()`` in the iteration of ``step``; ``update`` is above it on every way there, if one is."""

    call: cst.Call
    step: OptimizerStep
    update: Update | None


def ahead(step: TrainingStep) -> Iterator[Ahead]:
    """The scheduler steps of a scaled step that nothing holds back where the optimizer's is skipped."""
    stepped = [a for a in step.every(OptimizerStep) if a.scaler is not None]
    if not stepped or Switches(step.code).off:
        return
    origins = Origins(step.code)
    for call in step.code.flow.calls:
        match call:
            case cst.Call(func=cst.Attribute(value=scheduler, attr=cst.Name(value="step")), args=[]) if (
                step.code.roles.of(scheduler) is Role.SCHEDULER
            ):
                found = next((a for a in stepped if _together(step, call, a)), None)
                if found is not None and _moves(step, origins, scheduler, found) and not _guarded(step, call, found):
                    yield Ahead(call, found, _update(step, call))


# ---------------------------------------------------------------------- once per step


def _together(step: TrainingStep, call: cst.Call, act: OptimizerStep) -> bool:
    """Whether a scheduler moves whenever an optimizer has stepped: below it, in one iteration of the same loop."""
    above = step.tree.span(act.node).start < step.tree.span(call).start
    if step.code.flow.function(call) is not act.function or not above:
        return False
    outer = next((loop for loop in blocks.loops(step.tree, call) if step.tree.contains(loop, act.node)), None)
    return outer is _iteration(step, act) and (outer is not None or isinstance(act.function, cst.FunctionDef))


def _iteration(step: TrainingStep, act: OptimizerStep) -> cst.For | cst.While | None:
    """The loop that an optimizer steps once in: not the one over several optimizers."""
    loops = [*blocks.loops(step.tree, act.node)]
    backwards = [a.node for a in step.context.direct[act.function] if a in step.acts and a.node is not act.node]
    return next(
        (loop for loop in loops if any(step.tree.contains(loop, n) for n in backwards)), next(iter(loops), None)
    )


def _moves(step: TrainingStep, origins: Origins, scheduler: cst.BaseExpression, act: OptimizerStep) -> bool:
    """Whether a scheduler belongs to the optimizer of a step and is made to move with it."""
    made = [*_makers(step.code, scheduler, frozenset())]
    optimizers = origins.of(act.optimizer)
    mine = [c for c in made if (given := _optimizer(c)) is not None and related(origins.of(given), optimizers)]
    return bool(mine) and (not _over_epochs(step, act) or any(_per_batch(step.code, call) for call in mine))


def _makers(code: Code, node: cst.CSTNode, seen: frozenset[Place]) -> Iterator[cst.Call]:
    """The calls that make a scheduler, through names, parameters and lists."""
    match node:
        case cst.Call():
            yield node
        case cst.List() | cst.Tuple():
            for element in node.elements:
                yield from _makers(code, element.value, seen)
        case cst.Name() | cst.Attribute() | cst.Subscript() if (place := code.flow.place(node)) and place not in seen:
            for d in code.flow.assigned(place):
                for value in code.flow.passed(d) if d.how is How.PARAM else [d.value]:
                    if value is not None:
                        yield from _makers(code, value, seen | {place})


def _optimizer(call: cst.Call) -> cst.BaseExpression | None:
    first = call.args[0].value if call.args and call.args[0].keyword is None else None
    return keyword(call, "optimizer") or first


def _per_batch(code: Code, call: cst.Call) -> bool:
    names = {path.rpartition(".")[2] for path in code.flow.names.imported(call.func)}
    return any(name in words.PER_BATCH_SCHEDULERS or name.startswith("get_") for name in names)


def _over_epochs(step: TrainingStep, act: OptimizerStep) -> bool:
    """The last resort: a loop that counts epochs and holds no loop over batches, here or around each call."""
    loops = [_iteration(step, act)]
    if loops == [None] and isinstance(act.function, cst.FunctionDef):
        loops = [next(blocks.loops(step.tree, c), None) for c in step.code.flow.sites.get(act.function, [])]
    targets = [loop.target if isinstance(loop, cst.For) else None for loop in loops]
    return bool(targets) and all(t is not None and _counts_epochs(t) for t in targets)


def _counts_epochs(target: cst.CSTNode) -> bool:
    return any("epoch" in name.value.lower() for name in target_names(target))


# ---------------------------------------------------------------------- held back


def _guarded(step: TrainingStep, call: cst.Call, act: OptimizerStep) -> bool:
    """Whether a test that may know of skipped steps, or that counts iterations, stands before a scheduler's step."""
    code = step.code
    if any(_asks(code, node) for node in code.flow.body[act.function]):
        return True
    inside = _iteration(step, act) or act.function
    changing = {d.place for found in code.flow.definitions.values() for d in found
                if d.how is not How.PARAM and step.tree.contains(inside, d.node)}  # fmt: skip
    tests = [p.test for p in step.tree.parents(call) if isinstance(p, cst.If) and not step.tree.contains(p, act.node)]
    return any(place.touches(c) for test in tests for _, place in code.flow.reads(test) for c in changing)


def _asks(code: Code, node: cst.CSTNode) -> bool:
    """Whether a node compares scales or asks whether a step was skipped."""
    match node:
        case cst.Attribute(attr=cst.Name(value=name)):
            return name in words.SKIP_TESTS
        case cst.Comparison():
            return any(_reads_scale(code, part) for part in walk_scope(node))
    return False


def _reads_scale(code: Code, node: cst.CSTNode) -> bool:
    match node:
        case cst.Attribute(attr=cst.Name(value="get_scale")):
            return True
        case cst.Name() if (place := code.flow.place(node)) is not None:
            values = [d.value for d in code.flow.assigned(place) if d.value is not None]
            return any(
                isinstance(n, cst.Attribute) and n.attr.value == "get_scale" for v in values for n in walk_scope(v)
            )
    return False


def _update(step: TrainingStep, call: cst.Call) -> Update | None:
    """The last update above a scheduler's step, in its block or one around it.

    The scale falls when any of several optimizers has met infinities: then it does not say whose step was skipped.
    """
    found = (a for a in step.every(Update) if _always_above(step.tree, a, call))
    return next(reversed([*found]), None) if len(step.optimizers) == 1 else None


def _always_above(tree: Tree, act: Update, call: cst.Call) -> bool:
    """Whether an update is a line of its own that every way to ``call`` leads over, in the same iteration."""
    line = blocks.statement_of(tree, act.node)
    plain = isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1
    same = next(blocks.loops(tree, act.node), None) in (None, *blocks.loops(tree, call))
    above = tree.span(act.node).end < tree.span(call).start
    return plain and same and above and tree.contains(blocks.block_of(tree, line), call)
