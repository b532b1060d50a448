"""APIs that no torch with `torch.amp.GradScaler` has, nor a library that goes with one: what uses them does not run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.definitions import Definition, How
from ampify.model.dtypes import unpacked
from ampify.model.flow import Flow
from ampify.model.makers import Makers
from ampify.model.roles import Role, Roles
from ampify.syntax import blocks
from ampify.syntax.blocks import Function

_GONE = (
    "torchtext.legacy", "torchtext.data.Field", "torchtext.data.LabelField", "torchtext.data.BucketIterator",
    "torchtext.data.TabularDataset", "torch.legacy", "torch._six", "torch.utils.ffi",
    "dgl.nn.pytorch.EdgeSoftmax",
)  # fmt: skip
"""torchtext 0.12 goes with torch 1.11, `torch._six` went with torch 1.13; the others went before them."""
_SCALARS = {"mean", "sum", "norm", "dist", "dot", "trace"}
"""Functions and methods that give a tensor without dimensions where they are told none."""
_DEEP = 6
"""So many names and calls are looked through."""


@dataclass(frozen=True, slots=True, eq=False)
class Gone:
    """A use of such an API, and what is wrong with it."""

    node: cst.CSTNode
    reason: str


def suspected(text: str) -> bool:
    """Whether a text holds any of the words that a look is worth for."""
    return any(
        word in text for word in (".data[0]", "torchtext", "torch.legacy", "torch._six", "torch.utils.ffi", "dgl")
    )


def imported(flow: Flow) -> Iterator[Gone]:
    """What the files of a program import for all of their code."""
    for node in (n for module in flow.tree.modules for n in flow.body[module]):
        if isinstance(node, cst.Name | cst.Attribute):
            for path in flow.names.imported(node):
                if any(f"{path}.".startswith(f"{gone}.") for gone in _GONE):
                    yield Gone(
                        node, f"`{path}` is in no version that goes with a torch that has `torch.amp.GradScaler`"
                    )


def indexed(flow: Flow, roles: Roles, functions: list[Function]) -> Iterator[Gone]:
    """``loss.data[0]``, which a tensor without dimensions has not allowed since torch 0.5."""
    for function in functions:
        for node in flow.body[function]:
            match node:
                case cst.Subscript(
                    value=cst.Attribute(value=tensor, attr=cst.Name(value="data")),
                    slice=[cst.SubscriptElement(slice=cst.Index(value=cst.Integer(value="0")))],
                ) if _Scalars(flow, roles).has(tensor, node, _DEEP):
                    text = flow.tree.text(node)
                    yield Gone(
                        node, f"`{text}` indexes a tensor without dimensions, which raises: it has to be `.item()`"
                    )


class _Scalars:
    """Which values are tensors without dimensions."""

    def __init__(self, flow: Flow, roles: Roles) -> None:
        self.flow, self.roles, self._makers = flow, roles, Makers(flow, roles)

    def has(self, node: cst.BaseExpression, at: cst.CSTNode, depth: int) -> bool:
        """Whether a value surely is one."""
        match node:
            case _ if not depth:
                return False
            case cst.BinaryOperation(left=left, right=right):
                sides = (left, right)
                numbers = [isinstance(side, cst.BaseNumber) for side in sides]
                each = [self.has(side, at, depth - 1) for side in sides]
                return any(each) and all(n or e for n, e in zip(numbers, each, strict=True))
            case cst.Call():
                return self._given(node, depth)
            case cst.Name() | cst.Attribute() if (place := self.flow.place(node)) is not None:
                found = self.flow.reaching(place, blocks.small_statement_of(self.flow.tree, at))
                kept = [d for d in found if not isinstance(d.node, cst.AugAssign)]  # in place, shapes stay as they are
                return bool(kept) and all(self._holds(d, depth) for d in kept)
        return False

    def _holds(self, d: Definition, depth: int) -> bool:
        if d.value is None or d.how not in (How.ASSIGN, How.UNPACK):
            return False
        if d.how is How.ASSIGN:
            return self.has(d.value, d.node, depth - 1)
        index = unpacked(self.flow, d)
        functions = [*self._makers.forwards(d.value.func)] if isinstance(d.value, cst.Call) else []
        returned = [(r.value, r) for f in functions for r in self.flow.returns(f)]
        return bool(returned) and all(self._element(value, index, r, depth) for value, r in returned)

    def _element(self, value: cst.BaseExpression | None, index: int | None, at: cst.CSTNode, depth: int) -> bool:
        if not isinstance(value, cst.Tuple) or index is None or index >= len(value.elements):
            return False
        return self.has(value.elements[index].value, at, depth - 1)

    def _given(self, call: cst.Call, depth: int) -> bool:
        if (callee := self.flow.callee(call)) is not None:
            values = [(r.value, r) for r in self.flow.returns(callee)]
            return bool(values) and all(v is not None and self.has(v, r, depth - 1) for v, r in values)
        paths = {path.rpartition(".")[2] for path in self.flow.names.imported(call.func) if path.startswith("torch.")}
        if paths:
            losses = any(name.endswith(("_loss", "cross_entropy")) for name in paths)
            given = len(call.args) == 1 and bool(paths & _SCALARS)
            return given or (losses and not any(a.keyword and a.keyword.value.startswith("reduc") for a in call.args))
        if self.roles.of(call.func) is Role.LOSS:
            return True
        match call.func:
            case cst.Attribute(attr=cst.Name(value=name)) if name in _SCALARS:
                return not call.args
        return False
