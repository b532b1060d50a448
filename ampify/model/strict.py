"""Operators that autocast does not look after and that want other dtypes than it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model import operators
from ampify.model import vocabulary as words
from ampify.model.casts import makers
from ampify.model.definitions import How
from ampify.model.lowered import Under
from ampify.model.roles import Role
from ampify.model.step import Code, FileModel
from ampify.syntax import blocks
from ampify.syntax.walk import arguments, keyword, walk

_NO_HALF = words.NO_HALF - words.SPARSE_PRODUCTS | {  # some kernels of those know half precision
    "torch.quantile", "torch.nanquantile", "torch.pca_lowrank", "torch.svd_lowrank", "torch.linalg.matrix_rank",
    "torch.linalg.cond", "torch.geqrf", "torch.lu",
}  # fmt: skip
_NO_HALF_METHODS = {"svd", "inverse", "pinverse", "det", "logdet", "slogdet", "cholesky", "qr", "quantile", "lu",
                    "matrix_exp", "histc"}  # fmt: skip
_FOURIER = ("torch.fft.", "torch.stft", "torch.istft")
_COMPLEX = {"torch.view_as_complex", "torch.complex", "torch.polar", "torch.stft"} | {
    f"torch.fft.{name}{rank}" for name in ("fft", "ifft", "rfft") for rank in ("", "2", "n")
}
_DOUBLES = {"torch.float64", "torch.double"}
_DOUBLE_ARRAYS = {"zeros", "ones", "linspace", "rand", "randn", "random", "normal", "uniform", "eye"}
_MOVES = {"cuda", "cpu", "to", "view", "reshape", "unsqueeze", "squeeze", "contiguous", "flatten", "t", "detach"}
_CASTS = {"float", "to", "type", "half", "type_as", "astype"}
_DEEP = 4


@dataclass(frozen=True, slots=True, eq=False)
class Clash:
    """``operand`` has a dtype that ``node`` does not take; ``wanted`` is a tensor of the dtype that it does take."""

    node: cst.CSTNode
    operand: cst.BaseExpression
    wanted: cst.BaseExpression | None = None


def _views(model: FileModel) -> Iterator[Under]:
    yield from (model.lowered.cuda, model.lowered.cpu)


def _name(call: cst.Call) -> str:
    return call.func.attr.value if isinstance(call.func, cst.Attribute) else ""


# ---------------------------------------------------------------------- buffers


def buffers(model: FileModel) -> Iterator[Clash]:
    """Half-precision results that are put into float32 tensors by index."""
    for under in _views(model):
        for node in (*under.nodes, *under.outside):
            match node:
                case cst.Assign(targets=[cst.AssignTarget(target=cst.Subscript(value=tensor) as at)], value=value):
                    indexed = any(_is_tensor_index(model.code, under, e.slice) for e in at.slice)
                    if indexed and under.full(tensor) and under.half(value):
                        yield Clash(node, value, tensor)
                case cst.Call() if _name(node) in operators.STRICT.keys() - operators.PRODUCTS_IN_PLACE:
                    looked_after = under.dtypes.low(node) and not _name(node).endswith("_")  # `scatter_add`: is cast
                    yield from [] if looked_after else _unequal(model.code, under, node)


def _is_tensor_index(code: Code, under: Under, index: cst.BaseSlice) -> bool:
    """A mask or a tensor of indices: a comparison, or what PyTorch has made of whole numbers or booleans."""
    value = index.value if isinstance(index, cst.Index) else None
    match value:
        case cst.Comparison(left=left):
            return under.half(left) or under.full(left)
        case cst.UnaryOperation(operator=cst.BitInvert(), expression=inner):
            return _is_tensor_index(code, under, cst.Index(inner))
        case cst.Call(func=func):
            return _gives_indices(code, func)
        case cst.Name() if (place := code.flow.place(value)) is not None:
            found = code.flow.reaching(place, blocks.small_statement_of(code.tree, value))
            given = [d.value for d in found if d.how is How.ASSIGN and d.value is not None]
            known = len(given) == len(found) and bool(found)
            return known and all(_is_tensor_index(code, under, cst.Index(v)) for v in given)
    return False


def _gives_indices(code: Code, func: cst.BaseExpression) -> bool:
    name = func.attr.value if isinstance(func, cst.Attribute) else ""
    paths = code.flow.names.imported(func)
    return name in operators.WHOLE - _NUMBERS and (not paths or all(p.startswith("torch.") for p in paths))


_NUMBERS = {"item", "size", "dim", "numel", "ndimension", "tolist", "len", "range", "equal"}


def _unequal(code: Code, under: Under, call: cst.Call) -> Iterator[Clash]:
    """A method of a tensor that needs its dtype in other arguments too."""
    assert isinstance(call.func, cst.Attribute)
    receiver, name = call.func.value, _name(call)
    if code.flow.names.imported(call.func):
        return
    plain = [a.value for a in call.args if a.keyword is None]
    named = [a.value for a in call.args if a.keyword is not None and a.keyword.value in operators.STRICT_WORDS]
    given = [*(plain[i] for i in operators.STRICT[name] if i < len(plain)), *named]
    if under.full(receiver):
        yield from (Clash(call, value, receiver) for value in given if under.half(value))


# ---------------------------------------------------------------------- products in place


def products_in_place(model: FileModel) -> Iterator[Clash]:
    """Matrix products in place, or into a given tensor, whose operands autocast does not bring to one dtype."""
    for under in _views(model):
        for call in (n for n in under.nodes if isinstance(n, cst.Call)):
            if _name(call) in operators.PRODUCTS_IN_PLACE:
                assert isinstance(call.func, cst.Attribute)
                operands = [call.func.value, *(a.value for a in call.args if a.keyword is None)]
                if any(map(under.half, operands)) and any(map(under.full, operands)):
                    yield Clash(call, call.func.value)
            elif (out := keyword(call, "out")) is not None and _name(call) in _LOWERED:
                paths = model.code.flow.names.imported(call.func)
                if paths and all(p.startswith("torch.") for p in paths) and under.full(out):
                    yield Clash(call, out)


_LOWERED = {"mm", "bmm", "matmul", "addmm", "baddbmm", "addbmm", "mv", "addmv"}


# ---------------------------------------------------------------------- no kernel


def without_kernel(model: FileModel) -> Iterator[tuple[Clash, bool]]:
    """Operators that do not take half precision on CUDA; whether some sizes of them do, as of Fourier transforms."""
    under = model.lowered.cuda
    for call in (n for n in (*under.nodes, *under.outside) if isinstance(n, cst.Call)):
        paths = model.code.flow.names.imported(call.func)
        listed = bool(paths) and all(p in _NO_HALF or p.startswith((*words.NO_HALF_MODULES, *_FOURIER)) for p in paths)
        half = next((operand for operand in [*arguments(call)][:2] if listed and under.half(operand)), None)
        if half is not None:
            yield Clash(call, half), all(p.startswith(_FOURIER) for p in paths)
        elif not paths and isinstance(call.func, cst.Attribute) and _name(call) in _NO_HALF_METHODS:
            yield from [(Clash(call, call.func.value), False)] if under.half(call.func.value) else []


# ---------------------------------------------------------------------- float64 and complex


def _factors(code: Code, node: cst.CSTNode) -> list[cst.BaseExpression]:
    match node:
        case cst.BinaryOperation(left=left, operator=cst.MatrixMultiply(), right=right):
            return [left, right]
        case cst.Call(func=cst.Attribute(value=receiver, attr=cst.Name(value=name)) as func):
            paths = code.flow.names.imported(func)
            if name in words.PRODUCT_METHODS | {"linear"} and all(p.startswith("torch.") for p in paths):
                return [*([] if paths else [receiver]), *arguments(node)][:2]
    return []


def complexes(model: FileModel) -> Iterator[Clash]:
    """Complex tensors in matrix products with half-precision results."""
    for under in _views(model):
        for node in under.nodes:
            factors = _factors(model.code, node)
            found = [f for f in factors if _is_complex(model.code, f, _DEEP)]
            if found and any(under.half(f) for f in factors if f not in found):
                yield Clash(node, found[0])


def _is_complex(code: Code, node: cst.BaseExpression, depth: int) -> bool:
    match node:
        case cst.Call(func=func) if paths := code.flow.names.imported(func):
            return paths <= _COMPLEX
        case cst.Call(func=cst.Attribute(value=inner)) if _moves(code, node):
            return _is_complex(code, inner, depth)
        case cst.Name() if depth:
            return _all_values(code, node, lambda value: _is_complex(code, value, depth - 1))
    return False


def _moves(code: Code, call: cst.Call) -> bool:
    """Whether a method gives the tensor as it is, in another shape or elsewhere."""
    kept = {Role.DEVICE, Role.DEVICE_NAME}
    return _name(call) in _MOVES and (_name(call) != "to" or all(code.roles.of(a) in kept for a in arguments(call)))


def _all_values(code: Code, node: cst.Name, holds: Callable[[cst.BaseExpression], bool]) -> bool:
    place = code.flow.place(node)
    found = code.flow.reaching(place, blocks.small_statement_of(code.tree, node)) if place is not None else []
    values = [d.value for d in found if d.how is How.ASSIGN and d.value is not None]
    return bool(values) and len(values) == len(found) and all(map(holds, values))


def doubles(model: FileModel) -> Iterator[Clash]:
    """Tensors in float64 that modules and matrix products are given under autocast."""
    for under in _views(model):
        for node in under.nodes:
            given = _factors(model.code, node)
            if isinstance(node, cst.Call) and _takes_as_given(model.code, node):
                given = [*arguments(node)][:1]
            yield from (Clash(node, value) for value in given if _is_double(model.code, value, _DEEP))


def _takes_as_given(code: Code, call: cst.Call) -> bool:
    """Whether a module takes its input as it is: a layer of PyTorch, or a forward that casts nothing."""
    if code.roles.of(call.func) is not Role.MODULE or isinstance(code.flow.named(call.func), cst.ClassDef):
        return False
    if (forward := code.flow.callee(call)) is not None:
        calls = (n for n in walk(forward.body) if isinstance(n, cst.Call))
        return not any(_name(n) in _CASTS for n in calls)
    made = [code.flow.names.imported(maker.func) for maker in makers(code, call.func)]
    names = {p.rpartition(".")[2] for paths in made for p in paths}
    return bool(made) and all(made) and names <= operators.MODULES.keys() | {"Sequential"}


def _is_double(code: Code, node: cst.BaseExpression, depth: int) -> bool:
    match node:
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name)) as func, args=args):
            paths = code.flow.names.imported(func)
            dtypes = {p for a in args for p in code.flow.names.imported(a.value) if p in _DOUBLES}
            if paths & {"torch.from_numpy", "torch.tensor", "torch.as_tensor"}:
                return bool(dtypes) or (len(args) == 1 and _is_double_array(code, args[0].value, depth))
            if paths:
                return bool(dtypes)
            return name == "double" or bool(dtypes) or (_moves(code, node) and _is_double(code, inner, depth))
        case cst.Name() if depth:
            return _all_values(code, node, lambda value: _is_double(code, value, depth - 1))
    return False


def _is_double_array(code: Code, node: cst.BaseExpression, depth: int) -> bool:
    """What NumPy makes in float64 unless it is told otherwise."""
    match node:
        case cst.Call(func=func, args=args) if paths := code.flow.names.imported(func):
            made = all(p.startswith("numpy.") and p.rpartition(".")[2] in _DOUBLE_ARRAYS for p in paths)
            told = any(a.keyword is not None or isinstance(a.value, cst.SimpleString) for a in args)
            return made and not told and not any(code.flow.names.imported(a.value) for a in args)
        case cst.Name() if depth:
            return _all_values(code, node, lambda value: _is_double_array(code, value, depth - 1))
    return False
