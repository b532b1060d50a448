"""Fixes of the order in which a scaler is used: each mends one mistake or gives None."""

from __future__ import annotations

import libcst as cst

from ampify.model.scaled_values import Vector
from ampify.model.scalers import Given, Strict
from ampify.model.step import Backward, GradientUse, TrainingStep, Unscale, Update
from ampify.model.violation import Violation, Wrong
from ampify.rewrite import edit
from ampify.rewrite.cut import Cuts
from ampify.rewrite.prove import SameErasure
from ampify.rewrite.repair import scale, scaler_at, unscale
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.tree import Tree


def scale_at_backward(step: TrainingStep, found: Violation) -> Fix | None:
    """``scaler.scale(loss)`` goes, and the backward below it is given what it gave."""
    line = _without_line(step.tree, found.act.node)
    if line is None or not isinstance(found.other, Backward):
        return None
    scaled = scale(step, Violation(Wrong.UNSCALED_BACKWARD, found.other, found.act, found.steps))
    return Fix(scaled.title, (line, *scaled.edits)) if scaled is not None else None


def drop_plain_step(step: TrainingStep, found: Violation) -> Fix | None:
    """``optimizer.step()`` goes where ``scaler.step(optimizer)`` is run on every path that it is on."""
    line = _without_line(step.tree, found.act.node)
    sure = not found.when and found.other is not None and _same_block(step.tree, found.act.node, found.other.node)
    return Fix("Leave the step to the scaler", (line,)) if line is not None and sure else None


def unscale_before_use(step: TrainingStep, found: Violation) -> Fix | None:
    """``scaler.unscale_(optimizer)`` before gradients are read or changed, where there is none for them yet."""
    clipped = any(v.wrong is Wrong.CLIP for v in step.violations)
    uses = [v.act.node for v in step.violations if v.wrong in (Wrong.READ, Wrong.WRITE)]
    first = min(uses, key=lambda node: step.tree.span(node).start)
    if clipped or step.every(Unscale) or found.act.node is not first:
        return None
    return unscale(step, found)


def drop_late_unscale(step: TrainingStep, found: Violation) -> Fix | None:
    """``unscale_`` after a step goes, unless something below it uses the gradients."""
    tree, act = step.tree, found.act
    below = (a for a in step.context.direct[act.function] if isinstance(a, GradientUse))
    if any(tree.span(a.node).start > tree.span(act.node).start for a in below):
        return None
    line = _without_line(tree, act.node)
    return Fix("Remove it: the step has unscaled them", (line,), proof=SameErasure()) if line is not None else None


def drop_early_update(step: TrainingStep, found: Violation) -> Fix | None:
    """``update`` before a step goes, where there is one below that step in the same block."""
    tree, act, other = step.tree, found.act, found.other
    if found.when or other is None or not _same_block(tree, act.node, other.node):
        return None
    after = (u for u in step.every(Update) if tree.span(u.node).start > tree.span(other.node).start)
    if not any(_same_block(tree, u.node, other.node) for u in after):
        return None
    line = _without_line(tree, act.node)
    return Fix("Leave it to the update after the last step", (line,), proof=SameErasure()) if line is not None else None


def update_before_jump(step: TrainingStep, found: Violation) -> Fix | None:
    """``scaler.update()`` before the ``continue`` or ``return`` that leaves an iteration."""
    if (scaler := scaler_at(step, found.act.node)) is None or isinstance(found.act.node, cst.Return):
        return None
    made = edit.before(step.tree, found.act.node, f"{scaler}.update()")
    return Fix(f"Call `{scaler}.update` before", (made,), Applicability.UNSAFE, SameErasure())


def drop_plain_backward(step: TrainingStep, found: Violation) -> Fix | None:
    """The backward that is not scaled goes, where the other one is."""
    match found.act, found.other:
        case Backward(scaler=None), Backward(scaler=cst.CSTNode()) if not found.when:
            line = _without_line(step.tree, found.act.node)
            same = _same_block(step.tree, found.act.node, found.other.node)
            return Fix("Keep the scaled one", (line,), Applicability.UNSAFE) if line is not None and same else None
    return None


def given_instead(tree: Tree, found: Given, *, safe: bool = False) -> Fix | None:
    """The part of an argument that is what the call takes, in its place; ``safe`` where nothing else can be meant."""
    if found.instead is None:
        return None
    text = tree.text(found.instead)
    applicability = Applicability.SAFE if safe else Applicability.UNSAFE
    return Fix(f"Give it `{text}`", (Edit(tree.span(found.value), text),), applicability)


def reduced_first(tree: Tree, found: Vector) -> Fix:
    """``scaler.scale(losses).mean()`` → ``scaler.scale(losses.mean())``."""
    losses, scaled, reduced = map(tree.span, (found.losses, found.scaled, found.reduced))
    tail = Span(scaled.end, reduced.end)
    simple = isinstance(found.losses, cst.Name | cst.Attribute | cst.Subscript | cst.Call)
    opened = () if simple else (edit.insert(losses.start, "("),)
    moved = edit.insert(losses.end, ("" if simple else ")") + tree.source.text[tail.start : tail.end])
    return Fix("Reduce the losses first", (*opened, moved, Edit(tail, "")))


def lenient(step: TrainingStep, found: Strict) -> Fix:
    """A clip without ``error_if_nonfinite=True``: a scaler skips the step where the norm is not finite."""
    cuts = Cuts(step.tree)
    cuts.drop_items(found.call.args, {found.argument})
    return Fix("Leave it to the scaler", tuple(cuts.edits()), Applicability.UNSAFE)


def switch_off(tree: Tree, call: cst.Call) -> Fix:
    """``enabled=False`` for a scaler: its calls stay, and do nothing."""
    made = edit.argument(tree, call, "enabled=False")
    return Fix("Switch it off", (made,), Applicability.UNSAFE, SameErasure())


def _same_block(tree: Tree, a: cst.CSTNode, b: cst.CSTNode) -> bool:
    return blocks.block_of(tree, blocks.statement_of(tree, a)) is blocks.block_of(tree, blocks.statement_of(tree, b))


def _without_line(tree: Tree, node: cst.CSTNode) -> Edit | None:
    """A statement goes that has its lines for itself; None where its block would be empty without it."""
    line = blocks.statement_of(tree, node)
    alone = len(blocks.block_of(tree, line).body) == 1 or edit.crowded(tree, node)
    whole = isinstance(line, cst.SimpleStatementLine) and isinstance(line.body[0], cst.Expr | cst.Assign)
    return Cuts(tree).drop_line(line) if whole and not alone else None
