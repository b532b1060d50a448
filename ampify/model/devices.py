"""Which device code trains on, as an expression that can be written where autocast or the scaler is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import libcst as cst

from ampify.model.absent import may_be_none
from ampify.model.definitions import How
from ampify.model.device_types import is_device
from ampify.model.flags import Flags, bound_at
from ampify.model.flow import Flow
from ampify.model.makers import Makers
from ampify.model.roles import Role, Roles
from ampify.model.step import Code, Device
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import dotted, is_none, keyword

_INDEXES = {"rank", "local_rank", "gpu", "gpu_id", "device_id", "device_ids", "gpus", "world_size"}
_DEEP = 3
"""So many names are looked through."""
_DTYPES = {"dtype", "float", "half", "double", "long", "int"}


class Devices:
    """The devices of one file."""

    def __init__(self, code: Code) -> None:
        self.code, self.tree, self.flow, self.roles = code, code.tree, code.flow, code.roles
        self.flags = Flags(code)

    def seen_from(self, function: Function, before: cst.CSTNode | None = None) -> Device:
        """The device that the code of ``function`` can name, at statement ``before`` where that is given."""
        for expression in self._candidates(function, before):
            is_object, is_name = self._kind(expression)
            return Device(expression, is_object, is_name, may_be_none(self.code, expression))
        return Device(None, flag=self.flags.for_cuda(function, before))

    @cached_property
    def metal(self) -> bool:
        """Whether code may train on Apple's GPUs: before torch 2.5, `torch.autocast` does not take their name."""
        named = any(node.attr.value == "mps" for node in self.tree.all(cst.Attribute))
        return named or any(node.evaluated_value == "mps" for node in self.tree.all(cst.SimpleString))

    def _candidates(self, function: Function, before: cst.CSTNode | None) -> Iterator[cst.BaseExpression]:
        """Names and attributes that tensors are moved to, in this function first, then any that it sees."""
        for f in self._around(function):
            for node in self.flow.body[f]:
                if (expression := _moved_to(node)) is not None and self._usable(expression, function, before):
                    yield expression
        for f in self._around(function):  # a device that is only passed along
            for node in self.flow.body[f]:
                named = isinstance(node, cst.Name | cst.Attribute) and dotted(node)[-1:] == ("device",)
                if named and isinstance(node, cst.BaseExpression) and self._usable(node, function, before):
                    yield node

    def _around(self, function: Function) -> Iterator[Function]:
        """The function, those around it, and the other methods of its class."""
        yield function
        yield from (p for p in self.tree.parents(function) if isinstance(p, cst.FunctionDef | cst.Module))
        if (cls := blocks.class_of(self.tree, function)) is not None:
            family = self.flow.family(cls)
            for other in self.flow.functions:
                method = blocks.method_class(self.tree, other)
                if method is not None and self.flow.family(method) is family and other is not function:
                    yield other

    def _usable(self, expression: cst.BaseExpression, function: Function, before: cst.CSTNode | None) -> bool:
        chain, place = dotted(expression), self.flow.place(expression)
        if not chain or place is None or chain[-1] in _INDEXES | _DTYPES or self.flow.names.imported(expression):
            return False
        if self.roles.of(expression) in (Role.MODULE, Role.OPTIMIZER, Role.LOADER):
            return False
        if self.roles.of(expression) not in (Role.DEVICE, Role.DEVICE_NAME) and "device" not in chain[-1].lower():
            return False
        return bound_at(self.code, place, function, before)

    def _kind(self, expression: cst.BaseExpression) -> tuple[bool, bool]:
        """Whether it is surely a `torch.device`, and whether it is surely the name of one."""
        found = self._kinds(expression, _DEEP)
        return found == {Role.DEVICE}, found == {Role.DEVICE_NAME}

    def _kinds(self, expression: cst.BaseExpression, depth: int) -> set[Role | None]:
        """What it may be, through assignments, arguments and defaults."""
        if is_device(self.code, expression):
            return {Role.DEVICE}
        place = self.flow.place(expression)
        found: set[Role | None] = {self.roles.of(expression)} - {None}
        for d in self.flow.assigned(place) if place is not None and depth else ():
            given = [] if d.value is None or is_none(d.value) else [d.value]
            if d.how is How.PARAM:
                values = [*self.flow.passed(d), *given]
                found |= set[Role | None]().union(*(self._kinds(v, depth - 1) for v in values)) or found or {None}
            elif d.how is How.ASSIGN and given:
                found |= self._kinds(given[0], depth - 1)
        return found or {None}


def _moved_to(node: cst.CSTNode) -> cst.BaseExpression | None:
    """``device`` in ``x.to(device)`` and in ``torch.zeros(…, device=device)``."""
    if not isinstance(node, cst.Call):
        return None
    if (value := keyword(node, "device")) is not None:
        return value if isinstance(value, cst.Name | cst.Attribute) else None
    if isinstance(node.func, cst.Attribute) and node.func.attr.value == "to" and node.args:
        value = node.args[0].value
        return value if isinstance(value, cst.Name | cst.Attribute) and node.args[0].keyword is None else None
    return None


def accelerated(code: Code, functions: Iterable[Function]) -> bool:
    """Whether code shows any sign of a device other than the CPU.

    The files of ``functions`` may only speak of one; another file has to name one for a tensor or a module.
    """
    own = {code.tree.module(function) for function in functions}
    for node in code.tree.nodes():
        if _sends(code, node) or (_speaks(code, node) and code.tree.module(node) in own):
            return True
    return False


def _sends(code: Code, node: cst.CSTNode) -> bool:
    """``x.cuda()``, the name of a device that is not compared, or one made unseen; NCCL runs between GPUs only."""
    if isinstance(node, cst.SimpleString):
        compared = isinstance(code.tree.names.parent[node], cst.Comparison | cst.ComparisonTarget)
        return not compared and str(node.evaluated_value).startswith(("cuda", "nccl", "torch.cuda."))
    if not isinstance(node, cst.Call):
        return False
    match node.func:
        case cst.Attribute(attr=cst.Name(value="cuda")) as method if not code.flow.names.imported(method):
            return True
    return (moved := _moved_to(node)) is not None and _unknown_device(code.flow, moved)


def _speaks(code: Code, node: cst.CSTNode) -> bool:
    match node:
        case cst.SimpleString():
            return "cuda" in node.value.lower()
        case cst.Attribute(attr=cst.Name(value="cuda" | "accelerator" | "is_cuda")):
            return True
        case cst.Param(name=cst.Name(value="device")):
            return not _only_cpu(code.flow, code.roles, node)
        case cst.Attribute(value=cst.Name() | cst.Attribute(), attr=cst.Name(value="device")):
            return dotted(node)[0] in ("args", "opt", "config", "cfg", "hparams", "opts", "self")
    return False


def stays_on_cpu(code: Code, functions: Iterable[Function], models: Iterable[cst.BaseExpression]) -> bool:
    """Whether the modules of a step are made in its own functions, and nothing there is ever put on another device."""
    makers = Makers(code.flow, code.roles)
    made = [maker for model in models for maker in makers.of(model)]
    around = {*functions}
    if not made or not all(isinstance(m, cst.Call) and code.flow.function(m) in around for m in made):
        return False
    classes = [code.flow.named(m.func) for m in made if isinstance(m, cst.Call)]
    known = [cls for cls in classes if isinstance(cls, cst.ClassDef)]
    inside = [f for f in code.flow.functions if blocks.method_class(code.tree, f) in known]
    if not all(isinstance(c, cst.ClassDef) or _of_torch(code, m) for c, m in zip(classes, made, strict=True)):
        return False
    nodes = (n for f in (*around, *inside) for n in code.flow.body[f])
    return not any(map(_moves, nodes)) and not any(_sets_default(n) for n in code.tree.nodes())


def _of_torch(code: Code, maker: cst.CSTNode) -> bool:
    paths = code.flow.names.imported(maker.func) if isinstance(maker, cst.Call) else frozenset[str]()
    return bool(paths) and all(path.startswith("torch.nn.") for path in paths)


def _moves(node: cst.CSTNode) -> bool:
    """Whether a node is any sign of a device."""
    match node:
        case cst.Attribute(attr=cst.Name(value="to")):
            return True
        case cst.Name(value=text) | cst.SimpleString(value=text):
            return any(word in text.lower() for word in ("cuda", "device", "gpu", "accelerator", "ctx"))
    return False


def _sets_default(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name) and node.value in ("set_default_tensor_type", "set_default_device")


def _unknown_device(flow: Flow, node: cst.BaseExpression) -> bool:
    """A name like ``device`` whose value is made by code that this file does not show."""
    chain, place = dotted(node), flow.place(node)
    if not chain or place is None or not chain[-1].lower().endswith("device"):
        return False
    made = [d.value for d in flow.assigned(place) if d.how is How.ASSIGN]
    known = {"torch.device", "torch.accelerator.current_accelerator"}
    return any(
        isinstance(v, cst.Call) and flow.names.imported(v.func) and not flow.names.imported(v.func) & known
        for v in made
    )


def _only_cpu(flow: Flow, roles: Roles, param: cst.Param) -> bool:
    """A ``device`` parameter that only ever gets the CPU in this file."""
    place = flow.place(param.name)
    values = [v for d in flow.assigned(place) if d.how is How.PARAM for v in flow.passed(d)] if place else []
    return bool(values) and all(isinstance(v, cst.SimpleString) and v.evaluated_value == "cpu" for v in values)
