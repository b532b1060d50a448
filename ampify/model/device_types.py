"""What stands where autocast, a scaler or a decorator of theirs takes the type of a device, such as ``"cuda"``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import libcst as cst

from ampify.model import operators
from ampify.model.definitions import How
from ampify.model.step import Code, FileModel
from ampify.model.uses import ApiUse, Argument, Value
from ampify.source.text import Span
from ampify.syntax.walk import is_none

AUTOCAST = {"torch.autocast", "torch.amp.autocast", "torch.amp.autocast_mode.autocast"}
SCALER = {"torch.amp.GradScaler", "torch.GradScaler", "torch.amp.grad_scaler.GradScaler"}
DECORATORS = {f"torch.amp.{where}custom_{way}" for where in ("", "autocast_mode.") for way in ("fwd", "bwd")}
Holds = Callable[[Code, cst.BaseExpression, int], bool]
_MAKERS = {"torch.device", "torch.accelerator.current_accelerator", "torch_geometric.device"}
_TENSORS = operators.MEETING | operators.CREATING | operators.HANDING_ON
"""Functions of torch that give one tensor."""


class Given(Enum):
    """What a device type is given as, where that can be told."""

    NOTHING = "nothing"
    FLAG = "a flag"
    NUMBER = "a number"
    DTYPE = "a dtype"
    DEVICE = "a `torch.device`"
    TEXT = "the text of a `torch.device`"
    INDEXED = "a device with an index"
    LITERAL = "a string"


@dataclass(frozen=True, slots=True)
class DeviceType:
    """The device type of one call, provably ``given`` as something; ``argument`` is None where there is none."""

    use: ApiUse
    given: Given
    argument: Argument | None
    device: Span | None = None
    """The name or call in the argument that is a `torch.device`."""

    @property
    def span(self) -> Span:
        return self.argument.span if self.argument else self.use.span


def device_types(model: FileModel) -> Iterator[DeviceType]:
    """Those of all calls of `torch.autocast`, `torch.amp.GradScaler`, `torch.amp.custom_fwd` and `custom_bwd`."""
    for use in model.uses:
        if use.call is None or use.conditional or not any(use.paths <= apis for apis in (AUTOCAST, SCALER, DECORATORS)):
            continue
        argument = _argument(use)
        if argument is not None and (found := _given(model.code, use, argument)) is not None:
            yield found
        elif argument is None and use.paths <= AUTOCAST and not any(each.star for each in use.arguments):
            yield DeviceType(use, Given.NOTHING, None)


def _argument(use: ApiUse) -> Argument | None:
    name = "device" if use.paths <= SCALER else "device_type"
    named = next((each for each in use.arguments if each.keyword == name), None)
    first = next(iter(use.arguments), None)
    positional = first is not None and first.keyword is None and not first.star and not use.paths <= DECORATORS
    return named or (first if positional else None)


def _given(code: Code, use: ApiUse, argument: Argument) -> DeviceType | None:
    known = {Value.BOOL: Given.FLAG, Value.NUMBER: Given.NUMBER, Value.DTYPE: Given.DTYPE}
    if (given := known.get(argument.is_a)) is not None:
        return DeviceType(use, given, argument)
    if is_device(code, argument.node):
        plain = isinstance(argument.node, cst.Name | cst.Attribute | cst.Call)
        return DeviceType(use, Given.DEVICE, argument, argument.value if plain else None)
    match argument.node:
        case cst.Call(func=cst.Name(value="str") as func, args=[cst.Arg(value=value, keyword=None, star="")]):
            if not code.tree.names.scope[func].lookup("str") and is_device(code, value):
                return DeviceType(use, Given.TEXT, argument, code.tree.span(value))
    if _indexed(code, argument.node):
        return DeviceType(use, Given.INDEXED, argument)
    return DeviceType(use, Given.LITERAL, argument) if argument.literal is not None else None


def is_device(code: Code, node: cst.BaseExpression, depth: int = 3) -> bool:
    """Whether ``node`` can only be a `torch.device`; names are followed through ``depth`` assignments."""
    match node:
        case cst.Call(func=func):
            return bool(code.tree.names.imported(func) & _MAKERS) or _gives_device(code, node)
        case cst.IfExp(body=one, orelse=other):
            return is_device(code, one, depth) and is_device(code, other, depth)
        case cst.Attribute(value=owner, attr=cst.Name(value="device")) if _is_tensor(code, owner):
            return True
    return _always(code, node, is_device, depth, "torch.device")


def _gives_device(code: Code, call: cst.Call) -> bool:
    """Whether a function of these files is annotated to return a device."""
    callee = code.flow.callee(call)
    kind = callee.returns.annotation if callee is not None and callee.returns is not None else None
    return kind is not None and code.tree.names.imported(kind) == {"torch.device"}


def _is_tensor(code: Code, node: cst.BaseExpression) -> bool:
    """A parameter that is annotated as a tensor, the first of a module's parameters, or what torch makes of tensors."""
    match node:
        case cst.Call(func=cst.Name(value="next"), args=[cst.Arg(value=cst.Call(func=cst.Attribute(attr=method)))]):
            return method.value == "parameters"
    return _always(code, node, _made_by_torch, 1, "torch.Tensor")


def _made_by_torch(code: Code, node: cst.BaseExpression, _: int) -> bool:
    paths = code.tree.names.imported(node.func) if isinstance(node, cst.Call) else frozenset[str]()
    return bool(paths) and all(path.removeprefix("torch.") in _TENSORS for path in paths)


def _indexed(code: Code, node: cst.BaseExpression, depth: int = 3) -> bool:
    """``"cuda:1"``, an f-string like it, or a name that always holds one."""
    match node:
        case cst.SimpleString():
            return isinstance(text := node.evaluated_value, str) and ":" in text
        case cst.FormattedString(parts=parts):
            return any(isinstance(part, cst.FormattedStringText) and ":" in part.value for part in parts)
    return _always(code, node, _indexed, depth)


def _always(code: Code, node: cst.BaseExpression, holds: Holds, depth: int, annotated: str = "") -> bool:
    """Whether every value that a name gets in the file fulfils ``holds``, or is a parameter annotated so."""
    place = code.flow.place(node) if isinstance(node, cst.Name | cst.Attribute) else None
    found = [*code.flow.assigned(place)] if place is not None and not code.tree.names.imported(node) else []
    for d in found:
        match d.how, d.node:
            case How.ASSIGN, _ if d.value is not None and depth and holds(code, d.value, depth - 1):
                continue
            case How.PARAM, cst.Param(annotation=cst.Annotation(annotation=kind), default=default):
                if code.tree.names.imported(kind) == {annotated} and (default is None or is_none(default)):
                    continue
        return False
    return bool(found)
