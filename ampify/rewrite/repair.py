"""Fixes of code that already uses AMP: small verbs, each of which mends one mistake or gives None."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from ampify.model.casts import HalfCast, stands_alone
from ampify.model.constants import Overflow
from ampify.model.definitions import Definition, How
from ampify.model.enclosed import Stale
from ampify.model.leaving import LogOfSoftmax
from ampify.model.regions import Inside, UnsafeLoss
from ampify.model.schedules import Ahead
from ampify.model.states import Saving
from ampify.model.step import (
    Backward,
    Checkpoint,
    Code,
    FileModel,
    GradientUse,
    OptimizerStep,
    TrainingStep,
    Unscale,
    Update,
)
from ampify.model.strict import Clash
from ampify.model.undecorated import Undecorated
from ampify.model.violation import Violation, Wrong
from ampify.rewrite import checkpoints, edit
from ampify.rewrite.imports import added_import, need
from ampify.rewrite.prove import Erases, SameErasure
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.tree import Tree
from ampify.syntax.walk import dotted, is_none, keyword, walk

_CUSTOM_FWD = (2, 4)
"""The torch that has `torch.amp.custom_fwd`."""


def shown(tree: Tree, node: cst.CSTNode, width: int = 60) -> str:
    """An expression as a message can quote it."""
    return _flat(tree.text(node), width)


def _flat(text: str, width: int = 60) -> str:
    text = " ".join(text.split()).replace("`", "'")
    return text if len(text) <= width else f"{text[: width - 1]}…"


def path_to(violation: Violation) -> str:
    """The tests that lead to a violation, as the end of a message."""
    tests = [f"`{_flat(text)}` {'holds' if truth else 'does not hold'}" for text, truth in violation.when]
    return f", where {' and '.join(tests)}" if tests else ""


# ---------------------------------------------------------------------- names


def scaler_at(step: TrainingStep, node: cst.CSTNode) -> str | None:
    """How the scaler of ``step`` is written at ``node``; None where it cannot be seen from there."""
    return next((step.tree.text(s) for s in _scalers(step) if _same_name(step.code, s, node)), None)


def _scalers(step: TrainingStep) -> Iterator[cst.BaseExpression]:
    for act in step.acts:
        match act:
            case Backward(scaler=cst.BaseExpression() as scaler) | OptimizerStep(scaler=cst.BaseExpression() as scaler):
                yield scaler
            case (
                Unscale(node=cst.Call(func=cst.Attribute(value=scaler)))
                | Update(node=cst.Call(func=cst.Attribute(value=scaler)))
            ):
                yield scaler
    for made in step.code.amp.scalers:
        targets = [t.target for t in made.targets] if isinstance(made, cst.Assign) else [made.target]
        yield from (t for t in targets if isinstance(t, cst.Name | cst.Attribute))


def _optimizer_at(step: TrainingStep, act: OptimizerStep, node: cst.CSTNode) -> str | None:
    return step.tree.text(act.optimizer) if _same_name(step.code, act.optimizer, node) else None


def _same_name(code: Code, expression: cst.BaseExpression, node: cst.CSTNode) -> bool:
    """Whether ``expression`` means at ``node`` what it means where it stands, and has its value there already."""
    root = next((n for n in walk(expression) if isinstance(n, cst.Name)), None)
    place, scope = code.flow.place(expression), code.tree.names.scope
    if root is None or place is None or any(isinstance(n, cst.Call) for n in walk(expression)):
        return False
    here = code.flow.function(node)
    if code.roles.instances.attribute(expression) is not None:  # `agent.scaler`: elsewhere it may be another agent
        return code.flow.function(expression) is here
    if isinstance(place.root, cst.ClassDef):
        cls = blocks.class_of(code.tree, here)
        return cls is not None and code.flow.family(cls) is place.root and root.value in _names_at(code, node)
    if scope[node].find(root.value) is not scope[root].find(root.value):
        return False
    mine = [d for d in code.flow.assigned(place) if d.function is here and not isinstance(d.node, cst.Param)]
    return not mine or any(code.tree.span(d.node).start < code.tree.span(node).start for d in mine)


def _names_at(code: Code, node: cst.CSTNode) -> set[str]:
    """The names that mean something at ``node``."""
    return {name for scope in code.tree.names.scope[node].chain() for name in scope.bindings}


def _always_there(code: Code, scaler: cst.BaseExpression, depth: int = 4) -> bool:
    """Whether a scaler is one on every path: made without a condition, and never None."""
    place = code.flow.place(scaler)
    found = [*code.flow.assigned(place)] if place is not None else []
    return bool(found) and depth > 0 and all(_is_there(code, d, depth) for d in found)


def _is_there(code: Code, d: Definition, depth: int) -> bool:
    if d.how is How.PARAM:
        passed = [*code.flow.passed(d)]
        return d.value is None and bool(passed) and all(_always_there(code, p, depth - 1) for p in passed)
    block = blocks.block_of(code.tree, d.node)
    sure = isinstance(code.tree.names.parent[block], cst.FunctionDef) or isinstance(block, cst.Module)
    makes = isinstance(d.value, cst.Call) and code.amp.is_scaler_call(d.value)
    named = isinstance(d.value, cst.Name | cst.Attribute) and not is_none(d.value)
    return sure and (makes or (named and d.value is not None and _always_there(code, d.value, depth - 1)))


# ---------------------------------------------------------------------- the protocol


def scale(step: TrainingStep, violation: Violation) -> Fix | None:
    """``loss.backward()`` → ``scaler.scale(loss).backward()``."""
    act = violation.act
    if not isinstance(act, Backward) or (scaler := scaler_at(step, act.node)) is None:
        return None
    span, head = step.tree.span(act.loss), f"{scaler}.scale("
    edits: tuple[Edit, ...] = (edit.insert(span.start, head), edit.insert(span.end, ")"))
    if act.loss.lpar:
        edits = (Edit(Span(span.start, span.start + 1), head),)
    return Fix(f"Scale the loss with `{scaler}.scale`", edits, proof=SameErasure())


def step_by_scaler(step: TrainingStep, violation: Violation) -> Fix | None:
    """``optimizer.step()`` → ``scaler.step(optimizer)``, and ``scaler.update()`` where there is none."""
    act, tree = violation.act, step.tree
    if not isinstance(act, OptimizerStep) or not isinstance(act.node, cst.Call):
        return None
    if (scaler := scaler_at(step, act.node)) is None:
        return None
    given = tree.text(act.optimizer) + (", " if act.node.args else "")
    edits = [Edit(tree.span(act.node.func), f"{scaler}.step"), edit.insert(edit.opening(tree, act.node), given)]
    last = max(step.every(OptimizerStep), key=lambda a: tree.span(a.node).start)
    if not step.every(Update) and last is act:
        edits.append(edit.after(tree, act.node, f"{scaler}.update()"))
    return Fix(f"Step with `{scaler}.step`", tuple(edits), proof=SameErasure())


def unscale(step: TrainingStep, violation: Violation) -> Fix | None:
    """``scaler.unscale_(optimizer)`` before gradients are clipped."""
    act = violation.act
    often = any(v.wrong is Wrong.CLIP_PER_BACKWARD and v.act is act for v in step.violations)
    if often or violation.mended or not isinstance(act, GradientUse):
        return None
    anchor = _outside_loops(step, act.node)
    scaler = scaler_at(step, anchor)
    names = [_optimizer_at(step, s, anchor) for s in violation.steps if s.scaler is not None]
    known = [name for name in dict.fromkeys(names) if name is not None]
    if scaler is None or not known or None in names:
        return None
    made = edit.before(step.tree, anchor, *(f"{scaler}.unscale_({name})" for name in known))
    return Fix(f"Unscale the gradients with `{scaler}.unscale_` first", (made,), proof=SameErasure())


def _outside_loops(step: TrainingStep, node: cst.CSTNode) -> cst.CSTNode:
    """The statement to put something before: not in a loop that only goes over parameters, not at an ``elif``."""
    backwards = [a.node for a in step.every(Backward)]
    anchor: cst.CSTNode = blocks.small_statement_of(step.tree, node)
    if any(step.tree.contains(step.code.flow.function(node), b) for b in backwards):
        for loop in blocks.loops(step.tree, node):
            if not any(step.tree.contains(loop, b) for b in backwards):
                anchor = loop
    while isinstance(parent := step.tree.names.parent[anchor], cst.If) and parent.orelse is anchor:
        anchor = parent
    return anchor


def update(step: TrainingStep, violations: list[Violation]) -> Fix | None:
    """``scaler.update()`` after the last step of the iteration."""
    tree = step.tree
    anchors = [_outside_loops(step, v.act.node) for v in violations]
    last = max(anchors, key=lambda a: tree.span(a).start)
    together = {blocks.block_of(tree, blocks.statement_of(tree, a)) for a in anchors}
    scaler = scaler_at(step, last)
    if scaler is None or len(together) > 1 or any(v.mended for v in violations):
        return None
    made = edit.after(tree, last, f"{scaler}.update()")
    return Fix(f"Call `{scaler}.update` after the step", (made,), proof=SameErasure())


def hold_back(step: TrainingStep, found: list[Ahead]) -> Fix | None:
    """Schedulers move only where the scale has not fallen: that is where the scaler has not skipped the step."""
    tree, update = step.tree, found[0].update
    crowded = any(edit.crowded(tree, one.call) or not _alone(tree, one.call) for one in found)
    if update is None or crowded or not isinstance(update.node, cst.Call):
        return None
    assert isinstance(update.node.func, cst.Attribute)
    scaler, name = tree.text(update.node.func.value), _free(tree, "scale", update.function)
    edits = [edit.before(tree, update.node, f"{name} = {scaler}.get_scale()")]
    for run in _runs(tree, [blocks.statement_of(tree, one.call) for one in found]):
        edits += edit.wrap(tree, run, [f"if {scaler}.get_scale() >= {name}:"])
    title = "Step the scheduler only where the scale has not fallen"
    return Fix(title, tuple(edits), Applicability.UNSAFE, SameErasure())


def _alone(tree: Tree, call: cst.Call) -> bool:
    return isinstance(tree.names.parent[call], cst.Expr)


def _free(tree: Tree, name: str, function: Function) -> str:
    number = 0
    while tree.names.taken(name if not number else f"{name}_{number}", [function]):
        number += 1
    return name if not number else f"{name}_{number}"


def _runs(tree: Tree, statements: list[cst.BaseStatement]) -> Iterator[list[cst.BaseStatement]]:
    """Statements that follow each other in one block, together."""
    run: list[cst.BaseStatement] = []
    for statement in statements:
        block = blocks.block_of(tree, statement)
        at = blocks.statements(block).index(statement)
        if run and (at == 0 or blocks.statements(block)[at - 1] is not run[-1]):
            yield run
            run = []
        run.append(statement)
    yield run


# ---------------------------------------------------------------------- regions


def end_region_before(step: TrainingStep, found: Inside | Stale) -> Fix | None:
    """Take the tail of a region out of it."""
    if not found.tail:
        return None
    tree, source = step.tree, step.tree.source
    shallow = source.indent(tree.span(found.region).start)
    deep = source.indent(tree.span(found.tail[0]).start)
    if not deep.startswith(shallow):
        return None
    first = source.line(tree.span(found.tail[0]).start)
    while source.text_of_line(first - 1).lstrip().startswith("#"):
        first -= 1
    last = source.line(tree.span(found.tail[-1]).end)
    while source.text_of_line(last + 1).startswith(deep) and source.text_of_line(last + 1).lstrip().startswith("#"):
        last += 1
    edits = dedented(tree, found.tail, range(first, last + 1), len(shallow), len(deep))
    return Fix("End the autocast region before it", tuple(edits), proof=SameErasure())


def dedented(tree: Tree, statements: tuple[cst.CSTNode, ...], lines: range, shallow: int, deep: int) -> Iterator[Edit]:
    """Take the blanks between columns ``shallow`` and ``deep`` out of lines, strings over several lines left alone."""
    frozen = {line for statement in statements for line in edit.inside_strings(tree, statement)}
    for line in lines:
        start, text = tree.source.line_starts[line - 1], tree.source.text_of_line(line)
        blank = len(text) - len(text.lstrip())
        if line not in frozen and text.strip() and blank > shallow:
            yield Edit(Span(start + shallow, start + min(blank, deep)), "")


def island(model: FileModel, loss: UnsafeLoss) -> Fix | None:
    """Compute a loss outside autocast, from float32 inputs."""
    code, tree = model.code, model.code.tree
    if not loss.inputs or (device := _device_type(code, loss)) is None:
        return None
    statement = blocks.small_statement_of(tree, loss.call)
    path, imports = need(tree, "torch.autocast", statement)
    floats = [edit.insert(tree.span(node).end, ".float()" if _primary(node) else ").float()") for node in loss.inputs]
    opened = [edit.insert(tree.span(node).start, "(") for node in loss.inputs if not _primary(node)]
    header = f"with {path}(device_type={device}, enabled=False):"
    edits = (*edit.wrap(tree, [blocks.statement_of(tree, statement)], [header]), *opened, *floats, *imports)
    added = frozenset({added_import(tree, imports)}) if imports else frozenset()
    proof = Erases(added, (), tuple(floats))
    return Fix("Compute it in float32, outside autocast", edits, Applicability.UNSAFE, proof)


def _primary(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Name | cst.Attribute | cst.Subscript | cst.Call) or bool(node.lpar)


def _device_type(code: Code, loss: UnsafeLoss) -> str | None:
    """The device of the region around a loss, as it can be written at the loss."""
    for item in loss.region.items:
        match item.item:
            case cst.Call(func=func) as call if code.amp.makes_autocast(func):
                plain = next((a.value for a in call.args if a.keyword is None), None)
                given = keyword(call, "device_type") or plain
                if any(path.startswith("torch.cuda.") for path in code.amp.paths(func)):
                    return '"cuda"'
                near = code.flow.function(loss.call) is code.flow.function(call)
                return code.tree.text(given) if given is not None and (near or _constant(given)) else None
    return None


def _constant(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.SimpleString)


# ---------------------------------------------------------------------- casts


def without_cast(tree: Tree, cast: HalfCast) -> Fix:
    """``value.half()`` → ``value``, ``x.to(device, torch.half)`` → ``x.to(device)``; an idle statement goes whole."""
    return Fix("Leave it in float32", (cast_out(tree, cast),))


def without_casts(tree: Tree, casts: Iterable[HalfCast]) -> Fix:
    """A model and its inputs in float32: its weights take twice the memory."""
    return Fix("Leave it in float32", tuple(cast_out(tree, cast) for cast in casts), Applicability.UNSAFE)


def cast_out(tree: Tree, cast: HalfCast) -> Edit:
    if cast.argument is not None:
        return edit.argument_out(tree, cast.call, cast.argument)
    cut = Span(tree.span(cast.value).end, tree.span(cast.call).end)
    if (statement := stands_alone(tree, cast)) is None:
        return Edit(cut, "")
    if isinstance(statement, cst.Assign) and not _alone_on_lines(tree, statement):
        return Edit(cut, "")
    return _statement_out(tree, statement)


def without_statement(tree: Tree, call: cst.Call) -> Fix | None:
    """Without a statement that is nothing but ``call``."""
    statement = tree.names.parent[call]
    if not isinstance(statement, cst.Expr):
        return None
    return Fix("Leave it out", (_statement_out(tree, statement),), Applicability.UNSAFE)


def _alone_on_lines(tree: Tree, statement: cst.CSTNode) -> bool:
    """Whether a statement can go with its lines: no other shares them, no comment, and its block keeps others."""
    line = blocks.statement_of(tree, statement)
    commented = tree.source.text[tree.span(line).end : tree.source.line_end(tree.span(line).end)].strip()
    return not edit.crowded(tree, statement) and not commented and len(blocks.block_of(tree, line).body) > 1


def _statement_out(tree: Tree, statement: cst.CSTNode) -> Edit:
    if not _alone_on_lines(tree, statement):
        return Edit(tree.span(statement), "pass")
    span = tree.span(blocks.statement_of(tree, statement))
    end = tree.source.line_end(span.end)
    newline = len(tree.source.newline(end)) if end < len(tree.source.text) else 0
    return Edit(Span(tree.source.line_start(span.start), end + newline), "")


def decorated(model: FileModel, found: Undecorated) -> Fix | None:
    """`custom_fwd` and `custom_bwd` over the methods of an autograd function."""
    tree = model.code.tree
    if model.target is not None and model.target < _CUSTOM_FWD:
        return None
    edits: list[Edit] = []
    for method, name in ((found.forward, "custom_fwd"), (found.backward, "custom_bwd")):
        path, imports = need(tree, f"torch.amp.{name}", method)
        start = tree.source.line_start(tree.span(method.name).start)
        indent, newline = tree.source.indent(tree.span(method.name).start), tree.source.newline(start)
        edits.append(edit.insert(start, f'{indent}@{path}(device_type="{found.device}"){newline}'))
        edits += [added for added in imports if added not in edits]
    return Fix("Decorate it with `custom_fwd` and `custom_bwd`", tuple(edits), Applicability.UNSAFE)


def floated(tree: Tree, node: cst.BaseExpression, safe: bool = False) -> Fix:
    """``value`` → ``value.float()``."""
    span = tree.span(node)
    opened = () if _primary(node) else (edit.insert(span.start, "("),)
    edits = (*opened, edit.insert(span.end, ".float()" if _primary(node) else ").float()"))
    return Fix("Compute it in float32", edits, Applicability.SAFE if safe else Applicability.UNSAFE)


def like(tree: Tree, clash: Clash) -> Fix | None:
    """``buffer[mask] = value`` → ``buffer[mask] = value.to(buffer.dtype)``, where the buffer has a name."""
    if clash.wanted is None or not dotted(clash.wanted):
        return None
    (*opened, closed) = floated(tree, clash.operand).edits
    text = closed.text.replace(".float()", f".to({tree.text(clash.wanted)}.dtype)")
    return Fix("Cast it to the dtype of the tensor", (*opened, Edit(closed.span, text)), Applicability.UNSAFE)


def log_softmax(tree: Tree, found: LogOfSoftmax) -> Fix | None:
    """``torch.log(F.softmax(x, 1))`` → ``F.log_softmax(x, 1)``, ``x.softmax(1).log()`` → ``x.log_softmax(1)``."""
    if found.softmax is None or not isinstance(found.softmax.func, cst.Attribute):
        return None
    outer, inner = tree.span(found.log), tree.span(found.softmax)
    name = Edit(tree.span(found.softmax.func.attr), "log_softmax")
    edits = (Edit(Span(outer.start, inner.start), ""), name, Edit(Span(inner.end, outer.end), ""))
    return Fix("Write `log_softmax`", tuple(e for e in edits if e.span.start < e.span.end))


def extreme(code: Code, found: Overflow) -> Fix | None:
    """``-1e9`` → ``torch.finfo(scores.dtype).min``, where the tensor has a name."""
    if not dotted(found.tensor):
        return None
    path, imports = need(code.tree, "torch.finfo", found.node)
    text = f"{path}({code.tree.text(found.tensor)}.dtype).{'max' if found.positive else 'min'}"
    edits = (Edit(code.tree.span(found.node), text), *imports)
    return Fix("Take the limit of its dtype", edits, Applicability.UNSAFE)


# ---------------------------------------------------------------------- checkpoints


def save_state(step: TrainingStep, saving: Saving) -> Fix | None:
    scaler = _sure_scaler(step, saving.node)
    if scaler is None or saving.by_library:  # which refuses checkpoints that have no entry for an object it is given
        return None
    match saving.node:
        case cst.Dict():
            made = checkpoints.saved(step.tree, saving.node, scaler)
        case cst.Call(func=cst.Name(value="dict")):
            made = edit.argument(step.tree, saving.node, f"scaler={scaler}.state_dict()")
        case _:
            return None
    return Fix(f"Save the state of `{scaler}` with it", (made,), proof=SameErasure())


def restore_state(step: TrainingStep, checkpoint: Checkpoint) -> Fix | None:
    load, source = checkpoint.load, checkpoint.source
    scaler = _sure_scaler(step, load) if load is not None else None
    if scaler is None or load is None or source is None:
        return None
    if edit.crowded(step.tree, load):
        return None
    made = checkpoints.restored(step.tree, load, step.tree.text(source), scaler)
    return Fix(f"Load the state of `{scaler}` with it", (made,), proof=SameErasure())


def _sure_scaler(step: TrainingStep, node: cst.CSTNode) -> str | None:
    near = (s for s in _scalers(step) if _same_name(step.code, s, node) and _always_there(step.code, s))
    return next((step.tree.text(s) for s in near), None)
