"""Where gradients go besides the optimizer: values made of them, processes that they are summed over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import How, Place
from ampify.model.flow import Flow
from ampify.syntax.walk import arguments, children, keyword

_HARMLESS = {"outputs", "inputs", "retain_graph", "allow_unused", "materialize_grads", "grad_outputs"}
"""Arguments of `torch.autograd.grad` that leave its results linear in what is differentiated."""
_COUNTING = {"numel", "size", "dim", "len"}
_TRAINING = {"backward", "step", "zero_grad"}
_LINEAR = {
    "parameters", "named_parameters", "append", "view", "view_as", "reshape", "flatten", "clone", "detach",
    "contiguous", "cat", "stack", "numel", "size", "copy_", "div_", "mul_", "div", "mul", "zip", "enumerate", "range",
    "len", "float", "list", "all_reduce", "get_world_size", "is_initialized", "is_available", "barrier",
    "_flatten_dense_tensors", "_unflatten_dense_tensors", "getenv", "int",
}  # fmt: skip
"""What averaging gradients calls: each gives, for gradients times a number, its result times that number."""


class Gradients:
    """The gradients that one file takes into its own hands."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def reduces(self, call: cst.Call) -> bool:
        """Whether a call exchanges gradients with other processes."""
        paths = self.flow.names.imported(call.func)
        collective = any(p.startswith(words.COLLECTIVE_MODULES) for p in paths)
        return collective and any(map(self.holds, arguments(call)))

    def averages(self, call: cst.Call) -> bool:
        """Whether the code around a collective call does nothing with gradients but average them over processes.

        That is linear, so it is the same for gradients that are multiplied by a loss scale, and an overflow in one
        process reaches all of them.
        """
        operation = keyword(call, "op")
        linear = operation is None or (isinstance(operation, cst.Attribute) and operation.attr.value in ("SUM", "AVG"))
        return linear and all(map(self._linear, self.flow.inside(self._code_around(call))))

    @cached_property
    def averaging(self) -> set[cst.CSTNode]:
        """All nodes of such code."""
        found = (self._code_around(c) for c in self.flow.calls if self.reduces(c) and self.averages(c))
        return {node for code in found for node in self.flow.inside(code)}

    def _code_around(self, call: cst.Call) -> cst.CSTNode:
        """The outermost statement around a collective call that computes no gradients, or its whole function."""
        found: cst.CSTNode = call
        for parent in self.flow.tree.parents(call):
            if any(isinstance(n, cst.Call) and _named(n) in _TRAINING for n in self.flow.inside(parent)):
                return found
            if isinstance(parent, cst.FunctionDef):
                return parent.body
            if isinstance(parent, cst.BaseStatement | cst.BaseSmallStatement):
                found = parent
        return found

    def _linear(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.Call():
                return _named(node) in _LINEAR
            case cst.BinaryOperation(operator=cst.Add() | cst.Subtract()):
                return not self.holds(node)
            case cst.AugAssign(operator=cst.AddAssign(), value=value):
                return not self.holds(value)
            case cst.BinaryOperation(operator=cst.Multiply() | cst.Divide(), right=factor):
                return not self.holds(factor)
            case cst.BinaryOperation() | cst.Lambda() | cst.FunctionDef():
                return False
        return True

    def holds(self, value: cst.CSTNode) -> bool:
        """Whether gradients are part of a value."""
        return any(
            isinstance(n, cst.Attribute) and n.attr.value == "grad" and not self.flow.names.imported(n)
            for n in self._parts(value)
        )

    def writes(self, call: cst.Call) -> list[cst.Assign]:
        """Where what ``torch.autograd.grad`` gives is put into ``.grad``."""
        body = self.flow.body[self.flow.function(call)]
        written = (n for n in body if isinstance(n, cst.Assign) and _into_grad(n))
        return [n for n in written if any(part is call for part in self._parts(n.value))]

    def only_writes(self, call: cst.Call) -> bool:
        """``for p, g in zip(params, grads): p.grad = g`` is all that is done with what ``call`` gives."""
        options = {arg.keyword.value for arg in call.args if arg.keyword is not None}
        if options - _HARMLESS or any(arg.star for arg in call.args):
            return False
        used: list[cst.CSTNode] = [call]
        match self.flow.names.parent[call]:
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Name() as name)]):
                place, body = self.flow.place(name), self.flow.body[self.flow.function(call)]
                used = [n for n in body if isinstance(n, cst.Name) and n is not name and self.flow.place(n) == place]
        return len(used) == 1 and self._handed_on(used[0])

    def _handed_on(self, source: cst.CSTNode) -> bool:
        """Whether a loop zips ``source`` with parameters and does nothing but put each part into its ``.grad``."""
        parent = self.flow.names.parent
        argument = parent[source]
        zipped = argument and parent[argument]
        match zipped and parent[zipped]:
            case cst.For(
                target=cst.Tuple(elements=elements),
                iter=cst.Call(func=cst.Name(value="zip"), args=args),
                body=cst.IndentedBlock(body=[cst.SimpleStatementLine(body=[cst.Assign(value=value) as put])]),
            ) if len(elements) == len(args):
                gradient = next(e.value for e, a in zip(elements, args, strict=True) if a is argument)
                return _into_grad(put) and isinstance(gradient, cst.Name) and value.deep_equals(gradient)
        return False

    def _parts(self, value: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The expressions that a value is made of, through names and containers, not what is counted of them."""
        seen: set[Place] = set()
        stack = [value]
        while stack:
            node = stack.pop()
            if not (isinstance(node, cst.Call) and _named(node) in _COUNTING):
                yield node
                stack += children(node)
                kept = isinstance(node, cst.Name | cst.Attribute | cst.Subscript)
                if kept and (place := self.flow.place(node)) and place not in seen:
                    seen.add(place)
                    stack += self._kept(place)

    def _kept(self, place: Place) -> Iterator[cst.CSTNode]:
        """What a place was given."""
        for d in self.flow.assigned(place):
            if d.how is How.PARAM:
                yield from self.flow.passed(d)
            elif d.value is not None:
                yield d.value


def _named(call: cst.Call) -> str:
    return call.func.attr.value if isinstance(call.func, cst.Attribute) else getattr(call.func, "value", "")


def _into_grad(statement: cst.Assign) -> bool:
    match statement.targets:
        case [cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value="grad")))]:
            return True
    return False
