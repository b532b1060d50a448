"""Losses that are means of half-precision values, libraries' sums of them, and sums, arrays and copies behind a region.

Autocast leaves `mean` in the dtype of what it is given; outside of it `sum` and `numpy` do so as well.

A loss in float16 has a gradient in float16, and the usual first loss scale of 65536 is beyond it. The mean of values in
float32 is in float32, and each value gets its share of the gradient alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model import libraries
from ampify.model.definitions import How
from ampify.model.dtypes import Dtype, Dtypes
from ampify.model.operators import KEEPING
from ampify.model.step import Act, InnerGradient
from ampify.syntax import blocks

if TYPE_CHECKING:
    from ampify.model.forward import Forward

_DEEP = 8
"""So many names, calls and operators are looked through between a loss and its means."""
_ARITHMETIC = cst.Add | cst.Subtract | cst.Multiply | cst.Divide
_SHAPING = {"view", "reshape", "squeeze", "unsqueeze", "flatten"}


def averaged(forward: Forward) -> Iterator[cst.BaseExpression]:
    """What is averaged for a loss, in half precision once its regions run under autocast."""
    inside, reached = forward.running.inside, _reached(forward)
    calls = {n for n in inside if isinstance(n, cst.Call)}
    means = _Means(forward, calls.union(*(forward.flow.calls_in[function] for function in reached)))
    found = dict.fromkeys(value for b in forward.backwards for value in means.of(b.loss, b.node, _DEEP))
    if found:
        dtypes = Dtypes(forward, "cuda", inside, reached)
        yield from dict.fromkeys(half for value in found for half in _lowered(forward, dtypes, value))


def differentiated(forward: Forward, acts: Iterable[Act]) -> Iterator[cst.BaseExpression]:
    """What gradients of a penalty are taken of, in half precision: multiplied by 65536, their own would be infinite."""
    outputs = [act.outputs for act in acts if isinstance(act, InnerGradient)]
    if outputs:
        dtypes = Dtypes(forward, "cuda", forward.running.inside, _reached(forward))
        yield from (half for value in outputs for half in _lowered(forward, dtypes, _summed(value)))


def _summed(node: cst.BaseExpression) -> cst.BaseExpression:
    """What is added up: ``scores`` of ``scores.sum()``."""
    match node:
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value="sum" | "mean")), args=[]):
            return inner
    return node


def arrays(forward: Forward, exact: Iterable[cst.BaseExpression] = ()) -> Iterator[cst.BaseExpression]:
    """What becomes an array of NumPy behind a region, in half precision: the array was in float32, and so it stays.

    ``exact`` is cast to float32.
    """
    made = (receiver for call in _near(forward) if (receiver := _made_array(forward, call)))
    yield from _halves(forward, made, exact)


def copied(forward: Forward) -> Iterator[cst.BaseExpression]:
    """What `new_tensor` takes its dtype of, in half precision: rewards and the like come from elsewhere, unrounded."""
    yield from _halves(forward, (receiver for call in _near(forward) if (receiver := _takes_numbers(call))))


def _near(forward: Forward) -> Iterator[cst.Call]:
    """The calls of the functions that hold a region."""
    for home in dict.fromkeys(region.function for region in forward.runs.found):
        yield from forward.flow.calls_in[home]


def _halves(
    forward: Forward, values: Iterable[cst.BaseExpression], exact: Iterable[cst.BaseExpression] = ()
) -> Iterator[cst.BaseExpression]:
    """Those values that are surely in half precision."""
    if given := [*values]:
        dtypes = Dtypes(forward, "cuda", forward.running.inside, _reached(forward), exact=exact)
        yield from (value for value in given if dtypes.of(value) == {Dtype.HALF})


def pooled(forward: Forward) -> Iterator[cst.BaseExpression]:
    """What a library adds up over the nodes of each graph: however many there are, the sums have to fit."""
    running, flow = forward.running, forward.flow
    calls = (n for n in running.inside if isinstance(n, cst.Call))
    for call in (*calls, *(call for function in running.functions for call in flow.calls_in[function])):
        if call.args and _pools(forward, call) and not running.dtypes["cuda"].unchanged([call.args[0].value]):
            yield call.args[0].value


def _pools(forward: Forward, call: cst.Call) -> bool:
    """Whether a call is of such a function, and stands outside of the library itself."""
    paths, named = [*forward.flow.names.imported(call.func)], forward.flow.named(call.func)
    if isinstance(named, cst.FunctionDef):
        paths += libraries.defined(forward.tree.path(named) or "", named.name.value)
    package = next((path.partition(".")[0] for path in paths if libraries.pools(path)), None)
    plain = not call.args[0].star and call.args[0].keyword is None
    return plain and package is not None and package not in Path(forward.tree.path(call) or "").parts


def _made_array(forward: Forward, call: cst.Call) -> cst.BaseExpression | None:
    """``x`` of ``x.numpy()``."""
    match call:
        case cst.Call(func=cst.Attribute(value=receiver, attr=cst.Name(value="numpy")) as func, args=[]):
            return None if forward.flow.names.imported(func) else receiver
    return None


def _takes_numbers(call: cst.Call) -> cst.BaseExpression | None:
    """``x`` of ``x.new_tensor(rewards)``; a number or list that is written there is taken to be small."""
    match call:
        case cst.Call(
            func=cst.Attribute(value=receiver, attr=cst.Name(value="new_tensor")),
            args=[cst.Arg(value=cst.Name() | cst.Attribute() | cst.Subscript() | cst.Call())],
        ):
            return receiver
    return None


def _lowered(forward: Forward, dtypes: Dtypes, node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """The parts of an expression that are surely in half precision and make it so: ``x`` of ``(1 - x).abs()``."""
    if dtypes.of(node) != {Dtype.HALF}:
        return
    library = forward.flow.names.imported(node.func) if isinstance(node, cst.Call) else frozenset[str]()
    parts: list[cst.BaseExpression] = [node]
    match node:
        case cst.BinaryOperation(left=left, operator=operator, right=right) if isinstance(operator, _ARITHMETIC):
            parts = [left, right]
        case cst.UnaryOperation(expression=inner):
            parts = [inner]
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in KEEPING and not library:
            parts = [inner]
        case cst.Call(args=[first, *_]) if first.keyword is None and _names(library) & KEEPING:
            parts = [first.value]
    found = [half for part in parts if part is not node for half in _lowered(forward, dtypes, part)]
    yield from found or [node]


def _names(paths: frozenset[str]) -> set[str]:
    return {path.rpartition(".")[2] for path in paths if path.startswith("torch.")}


def _reached(forward: Forward) -> set[cst.FunctionDef]:
    """The functions that regions call, but for the forwards of modules, which are followed from their calls."""
    inside = forward.running.inside
    called = {f for n in inside if isinstance(n, cst.Call) and (f := forward.flow.callee(n)) is not None}
    return called.union(*(forward.flow.reachable(f) for f in called))


class _Means:
    """The means that a loss consists of, and its sums that are no part of a region: there they are in float32."""

    def __init__(self, forward: Forward, inside: set[cst.Call]) -> None:
        self.forward, self.flow, self.inside = forward, forward.flow, inside
        self._seen: set[tuple[cst.CSTNode, cst.CSTNode]] = set()

    def of(self, node: cst.BaseExpression, at: cst.CSTNode, depth: int) -> Iterator[cst.BaseExpression]:
        """What the means in an expression, as it is at ``at``, are taken of."""
        if (node, at) in self._seen or not depth:
            return
        self._seen.add((node, at))
        match node:
            case cst.BinaryOperation(left=left, operator=operator, right=right) if isinstance(operator, _ARITHMETIC):
                yield from (*self.of(left, at, depth - 1), *self.of(right, at, depth - 1))
            case cst.UnaryOperation(operator=cst.Minus(), expression=inner):
                yield from self.of(inner, at, depth - 1)
            case cst.IfExp(body=body, orelse=orelse):
                yield from (*self.of(body, at, depth - 1), *self.of(orelse, at, depth - 1))
            case cst.Call():
                yield from self._called(node, at, depth)
            case cst.Name() | cst.Attribute() if (place := self.flow.place(node)) is not None:
                for d in self.flow.reaching(place, blocks.small_statement_of(self.forward.tree, at)):
                    if d.value is not None and d.node in self.forward.half and d.how in (How.ASSIGN, How.CHANGE):
                        yield from self.of(d.value, d.node, depth - 1)

    def _called(self, call: cst.Call, at: cst.CSTNode, depth: int) -> Iterator[cst.BaseExpression]:
        if (callee := self.flow.callee(call)) is not None:
            for returned in self.flow.returns(callee):
                if returned.value is not None:
                    yield from self.of(returned.value, returned, depth - 1)
            return
        library = self.flow.names.imported(call.func)
        reductions = {"mean"} if call in self.inside else {"mean", "sum"}
        match call:
            case cst.Call(args=[first, *_]) if library & {f"torch.{r}" for r in reductions} and first.keyword is None:
                yield first.value
            case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if (
                name in reductions and not library
            ):
                yield inner
            case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in _SHAPING:
                yield from self.of(inner, at, depth - 1)
