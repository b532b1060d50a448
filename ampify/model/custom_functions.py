"""Autograd functions of the file that take part in autocast by `custom_fwd` and `custom_bwd`, and where they run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.device_types import AUTOCAST, DECORATORS
from ampify.model.step import FileModel
from ampify.model.uses import ApiUse, Argument, Value
from ampify.source.text import Span
from ampify.syntax.blocks import function_of, method_class
from ampify.syntax.tree import Tree
from ampify.syntax.walk import dotted, walk

_OLD_DECORATORS = {path.replace("torch.amp.", "torch.cuda.amp.") for path in DECORATORS}
_OLD_AUTOCAST = {
    f"torch.{device}.amp.{where}autocast": device for device in ("cuda", "cpu") for where in ("", "autocast_mode.")
}


@dataclass(frozen=True, slots=True)
class Decorated:
    """A method under `custom_fwd` or `custom_bwd`."""

    use: ApiUse
    device: str | None
    """The device type, where it is written out."""
    literal: Argument | None
    """Where it is written out."""
    casts: bool
    """Whether it is told to cast its inputs: then the method runs without autocast."""


@dataclass(frozen=True, slots=True)
class CustomFunction:
    """A class with ``forward`` and ``backward``, of which at least one is decorated."""

    forward: Decorated | None
    backward: Decorated | None
    plain_backward: Span | None
    """The name of a ``backward`` without decorator that multiplies matrices."""
    applied_under: frozenset[str]
    """The device types of the autocast regions that it is applied in, where all of them can be seen."""


def custom_functions(model: FileModel) -> Iterator[CustomFunction]:
    found: dict[cst.ClassDef, dict[str, Decorated]] = {}
    for use in model.uses:
        if use.paths <= DECORATORS | _OLD_DECORATORS and not use.conditional and (place := _decorated(use)):
            cls, method = place
            found.setdefault(cls, {})[method] = _read(use)
    for cls, methods in found.items():
        plain = _plain_backward(model, cls) if "backward" not in methods else None
        yield CustomFunction(methods.get("forward"), methods.get("backward"), plain, _applied_under(model, cls))


def _decorated(use: ApiUse) -> tuple[cst.ClassDef, str] | None:
    """The class and the name of the method that a use decorates."""
    decorator = next((p for p in use.tree.parents(use.node) if not isinstance(p, cst.Call)), None)
    function = use.tree.names.parent[decorator] if isinstance(decorator, cst.Decorator) else None
    cls = method_class(use.tree, function) if isinstance(function, cst.FunctionDef) else None
    return (cls, function.name.value) if cls and isinstance(function, cst.FunctionDef) else None


def _read(use: ApiUse) -> Decorated:
    given = next((arg for arg in use.arguments if arg.keyword == "device_type"), None)
    device = given.literal if given else "cuda" if use.paths <= _OLD_DECORATORS else None
    casts = any(arg.keyword == "cast_inputs" or arg.star for arg in use.arguments)
    return Decorated(use, device, given if given and given.literal else None, casts)


def _plain_backward(model: FileModel, cls: cst.ClassDef) -> Span | None:
    """Where the undecorated ``backward`` of a class is named, if autocast would change what it computes."""
    for method in cls.body.body:
        if isinstance(method, cst.FunctionDef) and method.name.value == "backward":
            known = {("staticmethod",), ("once_differentiable",)}
            decorators = {dotted(d.decorator)[-1:] for d in method.decorators}
            multiplies = any(is_product(model.code.tree, node) for node in walk(method.body))
            return model.code.tree.span(method.name) if multiplies and decorators <= known else None
    return None


def is_product(tree: Tree, node: cst.CSTNode) -> bool:
    """Whether ``node`` multiplies matrices: what autocast runs in half precision."""
    match node:
        case cst.BinaryOperation(operator=cst.MatrixMultiply()):
            return True
        case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value=name))) if name in words.PRODUCTS:
            paths = tree.names.imported(owner)
            return not paths or all(path.startswith("torch") for path in paths)
    return False


def _applied_under(model: FileModel, cls: cst.ClassDef) -> frozenset[str]:
    regions = [_devices_around(model, call) for call in model.code.flow.calls if applies(model.code.tree, call, cls)]
    return frozenset().union(*regions) if regions and all(regions) else frozenset()


def applies(tree: Tree, call: cst.Call, cls: cst.ClassDef) -> bool:
    """``Multiply.apply(…)``, or ``multiply(…)`` after ``multiply = Multiply.apply``."""
    func: cst.CSTNode = call.func
    if isinstance(func, cst.Name):
        bindings = tree.names.scope[func].lookup(func.value)
        func = bindings[0].value if len(bindings) == 1 and bindings[0].value is not None else func
    match func:
        case cst.Attribute(value=cst.Name(value=name), attr=cst.Name(value="apply")):
            return [binding.node for binding in tree.names.scope[func].lookup(name)] == [cls]
    return False


def _devices_around(model: FileModel, call: cst.Call) -> frozenset[str]:
    """The device types of the ``with`` regions around a call in its function; none where one cannot be told."""
    tree = model.code.tree
    parents = {p for p in tree.parents(call) if isinstance(p, cst.With)}
    found = set()
    for use in model.uses:
        item = tree.names.parent[tree.names.parent[use.node] or use.node]
        around = tree.names.parent[item] if isinstance(item, cst.WithItem) and use.call is not None else None
        if around in parents and function_of(tree, use.node) is function_of(tree, call) and _is_autocast(use):
            found.add(_device_of(use))
    return frozenset(device for device in found if device) if None not in found else frozenset()


def _is_autocast(use: ApiUse) -> bool:
    return bool(use.paths) and use.paths <= AUTOCAST | _OLD_AUTOCAST.keys()


def _device_of(use: ApiUse) -> str | None:
    """The device type of a region; None where it cannot be told, or where autocast may be off."""
    first_is_flag = use.paths <= _OLD_AUTOCAST.keys()
    enabled = [a for a in use.arguments if a.keyword == "enabled" or (first_is_flag and a.keyword is None)]
    if enabled or any(arg.star for arg in use.arguments):
        return None
    if first_is_flag:
        return _OLD_AUTOCAST[min(use.paths)]
    given = [a for a in use.arguments if a.keyword in (None, "device_type") and a.is_a is Value.STRING]
    return given[0].literal if given else None
