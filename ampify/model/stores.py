"""Tensors in float32 that are filled by index: ``memory[rows] = hidden`` needs equal dtypes where rows is a tensor.

The two had one dtype without autocast, so a value that autocast made half may be cast to float32 for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model.definitions import How, Place
from ampify.model.dtypes import Dtype

if TYPE_CHECKING:
    from ampify.model.forward import Forward
    from ampify.model.running import Running

Pair = tuple[cst.BaseExpression, cst.BaseExpression]


class Stores:
    """The assignments by index of one program."""

    def __init__(self, forward: Forward, running: Running) -> None:
        self.forward, self.flow, self.running = forward, forward.flow, running

    def pair(self, node: cst.Assign) -> Pair | None:
        """The tensor and the value of an assignment that needs equal dtypes; slices and numbers take any."""
        match node.targets:
            case [cst.AssignTarget(target=cst.Subscript(value=tensor) as target)] if self._made_by_torch(tensor):
                by_tensor = any(not self._plain_index(e.slice) for e in target.slice)
                return (tensor, node.value) if by_tensor and self.forward.reads_low(node.value, node) else None
        return None

    def casts(self, node: cst.Assign) -> bool:
        """Whether the value can be cast: a name of something that is in half precision, for a tensor that is not."""
        if (pair := self.pair(node)) is None or not isinstance(pair[1], cst.Name | cst.Attribute | cst.Call):
            return False
        dtypes = self.running.dtypes["cuda"]
        return dtypes.unchanged([pair[0]]) and Dtype.HALF in dtypes.of(pair[1])

    def cast(self) -> Iterator[cst.BaseExpression]:
        """The values that have to be cast."""
        for function in self.flow.functions:
            for node in self.flow.body[function]:
                if isinstance(node, cst.Assign) and self.casts(node):
                    yield node.value

    def _made_by_torch(self, node: cst.BaseExpression) -> bool:
        place = self.flow.place(node)
        found = self.flow.assigned(place) if place is not None else ()
        made = [d.value for d in found if d.value is not None and d.how is not How.CHANGE]
        return any(p.startswith("torch.") for v in made for p in self.forward.islands.made_by(v))

    def _plain_index(self, index: cst.BaseSlice) -> bool:
        """A slice, a number, or the variable of a loop over numbers."""
        if not isinstance(index, cst.Index):
            return True
        match index.value:
            case cst.Integer() | cst.Ellipsis() | cst.UnaryOperation(expression=cst.Integer()):
                return True
            case cst.BinaryOperation(left=left, right=right):
                return self._plain_index(cst.Index(left)) and self._plain_index(cst.Index(right))
            case cst.Name() as name if (place := self.flow.place(name)) is not None:
                return self._counts(place)
        return False

    def _counts(self, place: Place) -> bool:
        found = [*self.flow.assigned(place)]
        return bool(found) and all(
            isinstance(d.value, cst.Integer)
            or (d.how is How.ITERATE and isinstance(d.value, cst.Call) and _over_numbers(d.value))
            or d.how is How.CHANGE
            for d in found
        )


def _over_numbers(call: cst.Call) -> bool:
    match call.func:
        case cst.Name(value="range" | "reversed" | "enumerate" | "count" | "trange"):
            return True
        case cst.Attribute(attr=cst.Name(value="trange" | "count")):
            return True
    return isinstance(call.func, cst.Name) and call.func.value == "tqdm"
