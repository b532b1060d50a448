"""Values that an autocast region leaves in half precision, and what is done with them where autocast is no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model import operators
from ampify.model import vocabulary as words
from ampify.model.casts import half_cast, makers
from ampify.model.definitions import How
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, FileModel
from ampify.syntax import blocks
from ampify.syntax.walk import arguments, keyword

_DEEP = 4
"""So many names are looked through on the way from a loss to what it was made of."""
_GROWING = {"pow", "square", "exp", "sum"}
_LAYERS = {"linear", *(f"conv{n}d" for n in (1, 2, 3)), *(f"conv_transpose{n}d" for n in (1, 2, 3))}
_ARRAYS = {"numpy.asarray", "numpy.array", "numpy.ascontiguousarray"}


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """``node`` does something with ``tensor``, which is in half precision."""

    node: cst.BaseExpression
    tensor: cst.BaseExpression


# ---------------------------------------------------------------------- out of torch


def arrays(model: FileModel) -> Iterator[tuple[Left, bool]]:
    """Half-precision tensors that become arrays of NumPy; whether they are in bfloat16, which NumPy does not have."""
    for under, bfloat16 in ((model.lowered.bfloat16, True), (model.lowered.float16, False)):
        for call in (n for n in (*under.nodes, *under.outside) if isinstance(n, cst.Call)):
            tensor = _to_array(model.code, call)
            if tensor is not None and under.half(tensor):
                yield Left(call, tensor), bfloat16


def _to_array(code: Code, call: cst.Call) -> cst.BaseExpression | None:
    match call:
        case cst.Call(func=cst.Attribute(value=tensor, attr=cst.Name(value="numpy"))):
            return tensor if not code.flow.names.imported(call.func) else None
        case cst.Call(func=func, args=[cst.Arg(value=tensor), *_]) if code.flow.names.imported(func) & _ARRAYS:
            return tensor
    return None


# ---------------------------------------------------------------------- losses by hand


def growing(model: FileModel) -> Iterator[Left]:
    """Squares, exponentials and sums of float16 tensors in the losses that are written outside of regions."""
    under = model.lowered.float16
    outside, seen = {*under.outside}, set[cst.CSTNode]()
    for step in model.steps if outside else ():
        for act in step.every(Backward):
            for node in _parts(model.code, act.loss, _DEEP):
                tensor = _grown(model.code, node) if node in outside and node not in seen else None
                if tensor is not None and isinstance(node, cst.BaseExpression) and under.half(tensor):
                    seen.add(node)
                    yield Left(node, tensor)


def _parts(code: Code, node: cst.CSTNode, depth: int) -> Iterator[cst.CSTNode]:
    """The expressions that a loss is made of."""
    for part in code.flow.inside(node):
        yield part
        place = code.flow.place(part) if isinstance(part, cst.Name) and depth else None
        if place is not None:
            for d in code.flow.reaching(place, blocks.small_statement_of(code.tree, part)):
                if d.how is How.ASSIGN and d.value is not None:
                    yield from _parts(code, d.value, depth - 1)


def _grown(code: Code, node: cst.CSTNode) -> cst.BaseExpression | None:
    match node:
        case cst.BinaryOperation(left=left, operator=cst.Power()):
            return left
        case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value=name)) as func) if name in _GROWING:
            if keyword(node, "dtype") is not None:
                return None
            paths = code.flow.names.imported(func)
            library = bool(paths) and all(p.startswith("torch.") for p in paths)
            return owner if not paths else node.args[0].value if library and node.args else None
    return None


# ---------------------------------------------------------------------- log(softmax(x))


@dataclass(frozen=True, slots=True, eq=False)
class LogOfSoftmax:
    """``torch.log(F.softmax(x))`` of a float16 tensor; ``softmax`` is None where it stands in a statement before."""

    log: cst.Call
    softmax: cst.Call | None


def logs_of_softmax(model: FileModel) -> Iterator[LogOfSoftmax]:
    """Under autocast on CUDA both run in float32; elsewhere, half precision has no small probabilities."""
    code, under = model.code, model.lowered.float16
    outside = {*under.outside}
    for call in code.flow.calls if "softmax" in code.tree.source.text else ():
        taken = _logged(code, call)
        for softmax, direct in _softmaxes(code, taken) if taken is not None else ():
            tensor = _softened(code, softmax)
            by_hand = tensor is not None and (cast := half_cast(code, tensor)) is not None and not cast.bfloat16
            if tensor is not None and (by_hand or (call in outside and under.half(tensor))):
                yield LogOfSoftmax(call, softmax if direct else None)


def _logged(code: Code, call: cst.Call) -> cst.BaseExpression | None:
    match call:
        case cst.Call(func=func, args=[arg]) if code.flow.names.imported(func) == {"torch.log"}:
            return arg.value
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value="log")), args=[]):
            return inner if not code.flow.names.imported(call.func) else None
    return None


def _softmaxes(code: Code, node: cst.BaseExpression) -> Iterator[tuple[cst.Call, bool]]:
    if isinstance(node, cst.Call):
        yield node, True
    elif isinstance(node, cst.Name) and (place := code.flow.place(node)) is not None:
        found = code.flow.reaching(place, blocks.small_statement_of(code.tree, node))
        yield from ((d.value, False) for d in found if d.how is How.ASSIGN and isinstance(d.value, cst.Call))


def _softened(code: Code, call: cst.Call) -> cst.BaseExpression | None:
    """What a call takes the softmax of."""
    paths = code.flow.names.imported(call.func)
    match call.func:
        case _ if paths and paths <= {"torch.softmax", "torch.nn.functional.softmax"}:
            return call.args[0].value if call.args else None
        case cst.Attribute(value=inner, attr=cst.Name(value="softmax")) if not paths:
            return inner
    return None


# ---------------------------------------------------------------------- meeting float32


def meetings(model: FileModel) -> Iterator[Left]:
    """Matrix products of half-precision results with float32 tensors and layers, where autocast casts neither."""
    for under in (model.lowered.cuda, model.lowered.cpu):
        for node in under.outside:
            if not isinstance(node, cst.Call | cst.BinaryOperation):
                continue
            met = _operands(model.code, node)
            half = [operand for operand in met if under.half(operand)]
            if half and (_is_layer(model.code, node) or any(under.full(operand) for operand in met)):
                yield Left(node, half[0])


def _operands(code: Code, node: cst.CSTNode) -> list[cst.BaseExpression]:
    """What needs one dtype in a matrix product, a layer, or a binary cross entropy."""
    match node:
        case cst.BinaryOperation(left=left, operator=cst.MatrixMultiply(), right=right):
            return [left, right]
        case cst.Call(func=func) if _is_layer(code, node):
            return [*arguments(node)][:1]
        case cst.Call(func=cst.Attribute(value=receiver, attr=cst.Name(value=name)) as func):
            paths = code.flow.names.imported(func)
            if paths and (name in words.PRODUCTS - {"einsum"} or paths <= words.BCE_FUNCTIONS):
                return [*arguments(node)] if all(p.startswith("torch.") for p in paths) else []
            if not paths and name in words.PRODUCT_METHODS and code.roles.of(receiver) is None:
                return [receiver, *arguments(node)] if code.flow.callee(node) is None else []
    return []


def _is_layer(code: Code, node: cst.CSTNode) -> bool:
    """A call of a linear or convolutional layer of PyTorch."""
    if not isinstance(node, cst.Call) or code.roles.of(node.func) is not Role.MODULE:
        return False
    made = [code.flow.names.imported(call.func) for call in makers(code, node.func)]
    names = {operators.MODULES.get(p.rpartition(".")[2]) for paths in made for p in paths if p.startswith("torch.nn.")}
    return bool(made) and all(made) and names <= _LAYERS
