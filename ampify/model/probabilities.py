"""Where probabilities are made: the sigmoid whose result a binary cross entropy takes.

In float16 a sigmoid is exactly 1 from a logit of about 8.3 on (in float32 from about 17), and the gradient of the
cross entropy there overflows at every loss scale: measured on one H100 (torch 2.11), a GAN and a siamese network with
such a loss stopped training, the scale halving at every step. So the sigmoid itself has to run in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import Definition, How, Place
from ampify.model.flow import Flow
from ampify.model.step import Split
from ampify.syntax import blocks

if TYPE_CHECKING:
    from ampify.model.islands import Islands

_SIGMOIDS = {"torch.sigmoid", "torch.nn.functional.sigmoid", "torch.special.expit", "torch.softmax",
             "torch.nn.functional.softmax"}  # fmt: skip
_SIGMOID_MODULES = {"torch.nn.Sigmoid", "torch.nn.Softmax"}
_SHAPES = {"view", "view_as", "reshape", "flatten", "squeeze", "unsqueeze", "mean", "detach", "to", "float", "clone",
           "permute", "transpose", "contiguous", "cuda", "clamp", "expand_as"}  # fmt: skip


_LOGARITHMS = {"torch.log", "torch.log2", "torch.log10", "torch.log1p"}


class Unseen(Exception):
    """The code that makes a probability is not in sight."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a sigmoid takes: an expression, or all of a call of an `nn.Sequential` that ends in one."""

    argument: cst.BaseExpression | None = None
    sequential: Split | None = None


def logged(call: cst.Call, flow: Flow) -> list[cst.BaseExpression]:
    """What may be a probability in the argument of a logarithm: ``p`` and ``q`` of ``torch.log(1 - p * q + eps)``."""
    paths = flow.names.imported(call.func)
    name = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
    stack: list[cst.BaseExpression] = []
    if paths & _LOGARITHMS and call.args:
        stack = [call.args[0].value]
    elif not paths and isinstance(call.func, cst.Attribute) and f"torch.{name}" in _LOGARITHMS:
        stack = [call.func.value]
    found = []
    while stack:
        match stack.pop():
            case cst.BinaryOperation(left=left, right=right):
                stack += [left, right]
            case cst.UnaryOperation(expression=inner):
                stack.append(inner)
            case node:
                found.append(node)
    return found


class Probabilities:
    """Finds the sources of probabilities through names, results, tuples, methods and modules of one file."""

    def __init__(self, islands: Islands) -> None:
        self.islands, self.flow, self.tree = islands, islands.flow, islands.tree

    def of(self, node: cst.BaseExpression, index: int | None = None) -> Iterator[Source]:
        """The sources of the value of ``node``, of its element ``index`` if it is a tuple; raises `Unseen`."""
        match node:
            case cst.Tuple() if index is not None and index < len(node.elements):
                yield from self.of(node.elements[index].value)
            case cst.Name() | cst.Attribute() if (place := self.flow.place(node)) is not None:
                yield from self._kept(place, node)
            case cst.Call():
                yield from self._called(node, index)
            case _:
                raise Unseen

    def sigmoids(self, node: cst.BaseExpression) -> list[Source]:
        """The sources that are surely no softmax, which autocast runs in float32; none where one is not in sight."""
        try:
            return [source for source in self.of(node) if self._is_sigmoid(source)]
        except Unseen:
            return []

    def _is_sigmoid(self, source: Source) -> bool:
        if source.sequential is not None:
            made = [*self._constructors(source.sequential.module, frozenset())]
            lasts = [call.args[-1].value for call in made if call.args]
            return all(isinstance(n, cst.Call) and self._softens(n.func) is False for n in lasts)
        above = self.tree.parents(source.argument) if source.argument is not None else ()
        call = next((node for node in above if isinstance(node, cst.Call)), None)
        return call is not None and not self._softens(call.func)

    def _softens(self, func: cst.BaseExpression) -> bool:
        names = {p.rpartition(".")[2] for p in self.flow.names.imported(func) | self.islands.made_by(func)}
        names |= {func.attr.value} if isinstance(func, cst.Attribute) else set()
        return bool(names & {"softmax", "Softmax"})

    def _kept(self, place: Place, node: cst.CSTNode) -> Iterator[Source]:
        found = self.flow.reaching(place, blocks.small_statement_of(self.tree, node))
        if not found:
            raise Unseen
        for d in found:
            if d.value is None or d.how not in (How.ASSIGN, How.UNPACK) or not isinstance(d.node, cst.Assign):
                raise Unseen
            target = d.node.targets[0].target
            elements = target.elements if isinstance(target, cst.Tuple | cst.List) and d.how is How.UNPACK else []
            index = next((i for i, e in enumerate(elements) if self.flow.place(e.value) == d.place), None)
            yield from self.of(d.value, index)

    def _called(self, call: cst.Call, index: int | None) -> Iterator[Source]:
        made, run = self.islands.made_by(call.func), self._run(call)
        if self.flow.names.imported(call.func) & _SIGMOIDS or (made and made <= _SIGMOID_MODULES):
            yield Source(argument=call.args[0].value)
        elif isinstance(call.func, cst.Attribute) and call.func.attr.value in ("sigmoid", "softmax", *_SHAPES):
            last = call.func.attr.value not in _SHAPES
            yield from [Source(argument=call.func.value)] if last else self.of(call.func.value)
        elif self.islands.made_by(run) == {"torch.nn.Sequential"} and self._ends_in_sigmoid(run):
            yield Source(sequential=Split(call, run))
        elif (callee := self.flow.callee(call)) is not None and (returns := [*self.flow.returns(callee)]):
            for returned in returns:
                assert returned.value is not None
                yield from self.of(returned.value, index)
        else:
            raise Unseen

    def _run(self, call: cst.Call) -> cst.BaseExpression:
        """The module that a call runs, on one device or on several."""
        parallel = "torch.nn.parallel.data_parallel" in self.flow.names.imported(call.func)
        return call.args[0].value if parallel and call.args else call.func

    def _ends_in_sigmoid(self, sequential: cst.CSTNode) -> bool:
        """Whether every constructor call that makes an `nn.Sequential` shows a sigmoid as its last module."""
        made = [*self._constructors(sequential, frozenset())]
        return bool(made) and all(self._last_is_sigmoid(call) for call in made)

    def _constructors(self, node: cst.CSTNode, seen: frozenset[Place]) -> Iterator[cst.Call]:
        """The constructor calls behind a module: ``net = net.to(device)`` is looked through."""
        match node:
            case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in words.SAME_OBJECT:
                yield from self._constructors(inner, seen)
            case cst.Call():
                yield node
            case _ if (place := self.flow.place(node)) is not None and place not in seen:
                for d in self._of_line(node, self.flow.assigned(place)):
                    for value in self.flow.passed(d) if d.how is How.PARAM else [d.value] if d.value else []:
                        yield from self._constructors(value, seen | {place})

    def _of_line(self, node: cst.CSTNode, found: Iterable[Definition]) -> Iterator[Definition]:
        """Of what sets ``self.net``, what is no method of a class beside this one: siblings share a base class only."""
        owner = node.value if isinstance(node, cst.Attribute) else None
        here = self.flow.self_class(owner) if isinstance(owner, cst.Name) else None
        for d in found:
            there = blocks.class_of(self.tree, d.function)
            if here is None or there is None or here in self._upwards(there) or there in self._upwards(here):
                yield d

    def _upwards(self, cls: cst.ClassDef) -> set[cst.ClassDef]:
        """A class and its base classes."""
        found, stack = {cls}, [cls]
        while stack:
            stack += [base for base in self.flow.bases(stack.pop()) if base not in found]
            found.update(stack)
        return found

    def _last_is_sigmoid(self, made: cst.Call) -> bool:
        match made.args:
            case [*_, cst.Arg(value=cst.Call(func=last), star="")]:
                return bool(self.flow.names.imported(last) & _SIGMOID_MODULES)
        return False
