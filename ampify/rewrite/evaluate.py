"""Puts the forward of an evaluation loop under the autocast that its model is trained with."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model.definitions import How
from ampify.model.devices import Devices
from ampify.model.evaluation import Evaluation
from ampify.model.step import Code, FileModel
from ampify.rewrite import edit
from ampify.rewrite.prove import SameErasure
from ampify.source.edits import Applicability, Fix
from ampify.syntax.walk import walk


def under_autocast(model: FileModel, found: Evaluation) -> Fix | None:
    """``with torch.autocast(...)`` around the forward, with the arguments that the training gives it."""
    code = model.code
    item = next(i.item for i in found.region.items if code.amp.is_autocast(i.item))
    if (lines := _header(code, item, found, model.line_length)) is None:
        return None
    edits = tuple(edit.wrap(code.tree, found.statements, lines))
    return Fix("Evaluate under `torch.autocast` as well", edits, Applicability.UNSAFE, SameErasure())


def _header(code: Code, item: cst.BaseExpression, found: Evaluation, width: int) -> list[str] | None:
    at = found.statements[0]
    if not isinstance(item, cst.Call):
        return [f"with {code.tree.text(item)}:"] if _nameable(code, item, at) else None
    arguments = [_argument(code, item, index, found) for index in range(len(item.args))]
    known = [text for text in arguments if text is not None]
    if len(known) < len(arguments) or not _nameable(code, item.func, at):
        return None
    tree = code.tree
    left = width - len(tree.source.indent(tree.span(at).start).expandtabs(4))
    return edit.call_lines(f"with {tree.text(item.func)}", known, ":", left, tree.module(at).default_indent)


def _argument(code: Code, call: cst.Call, index: int, found: Evaluation) -> str | None:
    """An argument of the region that trains, as it can be written where the evaluation is."""
    arg, at = call.args[index], found.statements[0]
    head = f"{arg.keyword.value}=" if arg.keyword is not None else ""
    if _nameable(code, arg.value, at):
        return head + code.tree.text(arg.value)
    name = arg.keyword.value if arg.keyword is not None else "device_type" if index == 0 else ""
    device = Devices(code).seen_from(found.function, at)
    if device.expression is None or not device.is_object or device.may_be_none:
        return None
    kind = f"{code.tree.text(device.expression)}.type"
    if name == "device_type":
        return head + kind
    return f'{head}{kind} == "cuda"' if name == "enabled" and _asks_device(code, arg.value) else None


def _nameable(code: Code, expression: cst.BaseExpression, at: cst.CSTNode) -> bool:
    """Whether all names in an expression mean at ``at`` what they mean where it stands, and are bound above."""
    scope = code.tree.names.scope
    words = {id(n.keyword) for n in walk(expression) if isinstance(n, cst.Arg)}
    words |= {id(n.attr) for n in walk(expression) if isinstance(n, cst.Attribute)}
    names = [n for n in walk(expression) if isinstance(n, cst.Name) and id(n) not in words]
    return all(scope[n].find(n.value) is scope[at].find(n.value) and _bound(code, n, at) for n in names)


def _bound(code: Code, name: cst.Name, at: cst.CSTNode) -> bool:
    place, here = code.flow.place(name), code.flow.function(at)
    mine = [d for d in code.flow.assigned(place) if d.function is here and d.how is not How.PARAM] if place else []
    return not mine or any(code.tree.span(d.node).start < code.tree.span(at).start for d in mine)


def _asks_device(code: Code, value: cst.CSTNode | None, depth: int = 6) -> bool:
    """Whether a switch says no more than that the device is CUDA; scalers are followed to what they are made with."""
    match value:
        case cst.Comparison():
            return any(isinstance(n, cst.SimpleString) and n.evaluated_value == "cuda" for n in walk(value))
        case cst.Call(func=cst.Attribute(value=scaler, attr=cst.Name(value="is_enabled"))):
            return code.amp.is_scaler(scaler) and _asks_device(code, scaler, depth)
        case cst.Call() if code.amp.is_scaler_call(value):
            given = [a.value for a in value.args if a.keyword is not None and a.keyword.value == "enabled"]
            return all(_asks_device(code, v, depth) for v in given)
        case cst.Call():
            return "torch.cuda.is_available" in code.amp.paths(value.func)
        case cst.Name() | cst.Attribute():
            values: Iterator[cst.BaseExpression | None] = iter(code.amp.arriving(value)) if depth else iter(())
            found = [_asks_device(code, v, depth - 1) for v in values]
            return bool(found) and all(found)
    return False
