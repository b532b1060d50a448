"""Losses that are added up, or collected, over iterations together with their graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.definitions import Definition, How, Place
from ampify.model.forward import Forward
from ampify.model.grad_mode import gradless
from ampify.model.step import Backward, TrainingStep
from ampify.syntax import blocks


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A statement that adds ``loss`` to ``total``, which lives longer than an iteration and never goes backward."""

    statement: cst.CSTNode
    loss: cst.BaseExpression
    total: cst.BaseExpression
    backward: Backward


def kept_graphs(step: TrainingStep) -> Iterator[Kept]:
    backwards = [b for b in step.every(Backward) if b.by is None and step.code.flow.place(b.loss) is not None]
    added = [n for f in step.functions for n in step.code.flow.body[f] if _added(n) is not None] if backwards else []
    if added:
        forward = Forward(step.context, step.every(Backward))
        for node in (n for n in added if n not in forward.sliced):
            found = (_kept(step, forward, node, backward) for backward in backwards)
            yield from (kept for kept in [next(filter(None, found), None)] if kept is not None)


def _kept(step: TrainingStep, forward: Forward, node: cst.CSTNode, backward: Backward) -> Kept | None:
    if (added := _added(node)) is None or gradless(step.tree, node):
        return None
    total, value = added
    loss, place = _loss_in(step, value, backward), step.code.flow.place(total)
    if loss is None or place is None or _is_no_list(step, node, place):
        return None
    keeps = _alive(step, forward, loss) and _outlives(step, node, place, backward)
    return Kept(node, loss, total, backward) if keeps else None


def _added(node: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """What a statement adds, and to what: ``total += loss``, ``total = total + loss``, ``losses.append(loss)``."""
    match node:
        case cst.AugAssign(target=target, operator=cst.AddAssign(), value=value):
            return target, value
        case cst.Expr(value=cst.Call(func=cst.Attribute(value=total, attr=cst.Name("append")), args=[arg])):
            return total, arg.value
        case cst.Assign(targets=[cst.AssignTarget(target=target)],
                        value=cst.BinaryOperation(left=left, operator=cst.Add(), right=right)):  # fmt: skip
            return (target, right) if target.deep_equals(left) else None
    return None


def _loss_in(step: TrainingStep, value: cst.BaseExpression, backward: Backward) -> cst.BaseExpression | None:
    """The loss in what is added: as it is, or multiplied."""
    match value:
        case cst.Name() | cst.Attribute() if step.code.flow.place(value) == step.code.flow.place(backward.loss):
            return value
        case cst.BinaryOperation(left=left, operator=cst.Multiply() | cst.Divide(), right=right):
            return _loss_in(step, left, backward) or _loss_in(step, right, backward)
    return None


def _is_no_list(step: TrainingStep, node: cst.CSTNode, place: Place) -> bool:
    """Whether ``append`` is of something that is no list: a meter takes the number out of what it is given."""
    made = [d.value for d in step.code.flow.assigned(place) if d.how is not How.CHANGE]
    return isinstance(node, cst.Expr) and not (made and all(isinstance(v, cst.List) for v in made))


def _alive(step: TrainingStep, forward: Forward, loss: cst.BaseExpression) -> bool:
    """Whether the value is that of the forward: nothing has made a number of it, or cut it off."""
    place = step.code.flow.place(loss)
    assert place is not None
    there = step.code.flow.reaching(place, blocks.small_statement_of(step.tree, loss))
    known = [d for d in there if isinstance(d.node, cst.AugAssign) or _computed(d, forward)]
    return bool(there) and len(known) == len(there) and not any(map(_cut, there))


def _computed(d: Definition, forward: Forward) -> bool:
    return d.how in (How.ASSIGN, How.UNPACK, How.CHANGE) and d.node in forward.sliced


def _cut(d: Definition) -> bool:
    match d.value:
        case cst.Call(func=cst.Attribute(attr=cst.Name("detach" | "item" | "data"))) | cst.Call(func=cst.Name("float")):
            return True
    return False


def _outlives(step: TrainingStep, node: cst.CSTNode, total: Place, backward: Backward) -> bool:
    """Whether what is added to is begun outside the loop of the backward, and not anew in each of its rounds."""
    loop = next(blocks.loops(step.tree, backward.node), None)
    if loop is None or not step.tree.contains(loop.body, node):
        return False
    begun = [d for d in step.code.flow.assigned(total) if d.how is not How.CHANGE and d.node is not node]
    inside = [d for d in begun if step.tree.contains(loop, d.node)]
    return len(inside) < len(begun) and not any(step.code.flow.dominates(d, node) for d in inside)
