"""Where gradients go besides the optimizer: values made of them, processes that they are summed over."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import How, Place
from ampify.model.flow import Flow
from ampify.syntax.walk import arguments, walk

_HARMLESS = {"outputs", "inputs", "retain_graph", "allow_unused", "materialize_grads", "grad_outputs"}
"""Arguments of `torch.autograd.grad` that leave its results linear in what is differentiated."""


class Gradients:
    """The gradients that one file takes into its own hands."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def reduces(self, call: cst.Call) -> bool:
        """Whether a call exchanges gradients with other processes."""
        paths = self.flow.names.imported(call.func)
        collective = any(p.startswith(words.COLLECTIVE_MODULES) for p in paths)
        return collective and any(map(self.holds, arguments(call)))

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
        """The expressions that a value is made of, through names and containers."""
        seen: set[Place] = set()
        stack = [value]
        while stack:
            for node in walk(stack.pop()):
                yield node
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


def _into_grad(statement: cst.Assign) -> bool:
    match statement.targets:
        case [cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value="grad")))]:
            return True
    return False
