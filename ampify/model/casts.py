"""Casts to half precision that are written by hand: of losses, labels, inputs and loss functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import Definition, How, Place
from ampify.model.regions import region_of
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, FileModel, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.tree import Tree
from ampify.syntax.walk import keyword

_FLOAT16 = {"torch.float16", "torch.half"}
_BFLOAT16 = {"torch.bfloat16"}
_LOSSES, _FUNCTIONS = {"CrossEntropyLoss", "NLLLoss"}, {"cross_entropy", "nll_loss"}
_INDEXED = {"torch.nn.functional.one_hot": 0, "torch.nn.functional.embedding": 0}
"""Functions that take integers, and where."""
_DEEP = 4
"""So many names are looked through on the way from a loss to what it was made of."""


@dataclass(frozen=True, slots=True, eq=False)
class HalfCast:
    """``value.half()``, ``value.to(torch.float16)`` or ``value.to(device, torch.float16)``."""

    call: cst.Call
    value: cst.BaseExpression
    argument: cst.Arg | None = None
    """What names the dtype, where the call does more than to cast."""
    bfloat16: bool = False
    of_loss: bool = False
    """Of a loss itself; otherwise of what it is computed from, or of anything else."""


def half_cast(code: Code, node: cst.CSTNode, *, of_loss: bool = False) -> HalfCast | None:
    """The cast to float16 or bfloat16 that ``node`` is, if it is one of something other than a dtype's own name."""
    match node:
        case cst.Call(func=cst.Attribute(value=value, attr=cst.Name(value="half" | "bfloat16" as name)), args=[]):
            if not code.flow.names.imported(node.func):
                return HalfCast(node, value, None, name == "bfloat16", of_loss)
        case cst.Call(func=cst.Attribute(value=value, attr=cst.Name(value="to" | "type")), args=args):
            for arg in args:
                paths = code.flow.names.imported(arg.value)
                if paths and paths <= _FLOAT16 | _BFLOAT16 and not arg.star:
                    return HalfCast(node, value, arg if len(args) > 1 else None, paths <= _BFLOAT16, of_loss)
    return None


def casts(code: Code) -> Iterator[HalfCast]:
    """Every cast to half precision of the text."""
    if any(word in code.tree.source.text for word in ("half", "float16")):
        for call in code.flow.calls:
            if (cast := half_cast(code, call)) is not None:
                yield cast


def makers(code: Code, node: cst.BaseExpression) -> list[cst.Call]:
    """The calls that may have made a module, a loss function or an optimizer: ``net.to(device)`` is looked through."""
    found: dict[cst.Call, None] = {}
    seen: set[cst.BaseExpression] = set()
    stack = [node]
    while stack:
        for call in code.roles.instances.makers(stack.pop()):
            match call.func:
                case cst.Attribute(value=inner, attr=cst.Name(value=name)) if name in words.SAME_OBJECT | {"type"}:
                    stack += [inner] if inner not in seen else []
                    seen.add(inner)
                case _:
                    found[call] = None
    return [*found]


def places(code: Code, cast: HalfCast) -> Iterator[Place]:
    """Where a module that is cast is kept: it is changed in place, so its result and itself are one. Not for a copy."""
    inner = cast.value
    while isinstance(inner, cst.Call) and isinstance(inner.func, cst.Attribute):
        inner = inner.func.value
    if (place := code.roles.instances.place(inner)) is not None:
        yield place
    outer: cst.CSTNode = cast.call
    for parent in code.tree.parents(cast.call):
        match parent:
            case cst.Attribute() | cst.Call(func=cst.Attribute()):
                outer = parent
            case cst.Assign(targets=[cst.AssignTarget(target=target)], value=value) if value is outer:
                yield from ([kept] if (kept := code.roles.instances.place(target)) is not None else [])
                return
            case _:
                return


def stands_alone(tree: Tree, cast: HalfCast) -> cst.CSTNode | None:
    """The statement that does nothing but cast: ``model.half()``, ``loss = loss.half()``."""
    match statement := tree.names.parent[cast.call]:
        case cst.Assign(targets=[cst.AssignTarget(target=target)]) if tree.text(target) == tree.text(cast.value):
            return statement if cast.argument is None else None
        case cst.Expr() if isinstance(cast.value, cst.Name | cst.Attribute) and cast.argument is None:
            return statement
    return None


# ---------------------------------------------------------------------- losses


def half_losses(step: TrainingStep) -> Iterator[HalfCast]:
    """Casts of losses that are differentiated to float16, and of what goes into them."""
    found: dict[cst.CSTNode, HalfCast] = {}
    for act in step.every(Backward):
        for cast in _of_loss(step.code, act.loss, _DEEP):
            found.setdefault(cast.call, cast)
    yield from found.values()


def _of_loss(code: Code, node: cst.BaseExpression, depth: int) -> Iterator[HalfCast]:
    if (cast := _plain_cast(code, node, of_loss=True)) is not None:
        yield cast
        yield from _of_loss(code, cast.value, depth)
        return
    match node:
        case cst.Name() | cst.Attribute() if depth:
            for value in _values(code, node):
                yield from _of_loss(code, value, depth - 1)
        case cst.BinaryOperation(left=left, right=right):
            yield from _of_loss(code, left, depth)
            yield from _of_loss(code, right, depth)
        case cst.Call(args=[first, *_]) if _is_loss(code, node):
            if (cast := _plain_cast(code, first.value, of_loss=False)) is not None:
                yield cast
        case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="scale")), args=[arg]):
            if code.amp.is_scaler(owner):
                yield from _of_loss(code, arg.value, depth)


def _plain_cast(code: Code, node: cst.BaseExpression, *, of_loss: bool) -> HalfCast | None:
    cast = half_cast(code, node, of_loss=of_loss)
    return cast if cast is not None and cast.argument is None and not cast.bfloat16 else None


def _values(code: Code, node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    yield from (d.value for d in _reaching(code, node) if d.how is How.ASSIGN and d.value is not None)


def _reaching(code: Code, node: cst.BaseExpression) -> list[Definition]:
    place = code.flow.place(node)
    return code.flow.reaching(place, blocks.small_statement_of(code.tree, node)) if place is not None else []


def _is_loss(code: Code, call: cst.Call) -> bool:
    paths = code.flow.names.imported(call.func)
    functional = any(p.startswith("torch.nn.functional.") and ("loss" in p or "entropy" in p) for p in paths)
    return functional or code.roles.of(call.func) is Role.LOSS


# ---------------------------------------------------------------------- labels


@dataclass(frozen=True, slots=True, eq=False)
class HalfLabels:
    """Integers that are cast to half precision, and the call that needs them as integers."""

    cast: HalfCast
    taker: cst.Call


def half_labels(model: FileModel) -> Iterator[HalfLabels]:
    """Casts of what a batch gives, on their way into a loss of classes, an embedding or `one_hot`."""
    code, seen = model.code, set[cst.Call]()
    if not any(True for _ in casts(code)):
        return
    for call in code.flow.calls:
        taken = _integers(code, call)
        for cast in _casts_of(code, taken, _DEEP) if taken is not None else ():
            if cast.call not in seen and _from_batch(code, cast.value, _DEEP):
                seen.add(cast.call)
                yield HalfLabels(cast, call)


def _integers(code: Code, call: cst.Call) -> cst.BaseExpression | None:
    """The argument of a call that must hold class indices."""
    paths = code.flow.names.imported(call.func)
    plain = [a.value for a in call.args if a.keyword is None and not a.star]
    index = next((at for path, at in _INDEXED.items() if path in paths), None)
    if index is not None:
        return plain[index] if index < len(plain) else None
    made = paths or frozenset().union(*(code.flow.names.imported(m.func) for m in makers(code, call.func)))
    names = {p.rpartition(".")[2] for p in made if p.startswith("torch.nn.")}
    if names == {"Embedding"} and plain and not paths:
        return plain[0]
    if names and names <= (_FUNCTIONS if paths else _LOSSES):
        return keyword(call, "target") or (plain[1] if len(plain) > 1 else None)
    return None


def _casts_of(code: Code, node: cst.BaseExpression, depth: int) -> Iterator[HalfCast]:
    """The casts that give a value, methods that keep its dtype and names looked through."""
    if (cast := half_cast(code, node)) is not None:
        yield cast
        return
    match node:
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in _SHAPES:
            yield from _casts_of(code, inner, depth)
        case cst.Name() if depth:
            for value in _values(code, node):
                yield from _casts_of(code, value, depth - 1)


def _from_batch(code: Code, node: cst.BaseExpression, depth: int) -> bool:
    """Whether a value is what a loop draws from its loader, moved at most: labels that are mixed are no integers."""
    match node:
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in _SHAPES:
            return _from_batch(code, inner, depth)
        case cst.Subscript(value=inner):
            return _from_batch(code, inner, depth)
        case cst.Name() if depth and (found := _reaching(code, node)):
            return all(_drawn(code, d, depth) for d in found)
    return False


def _drawn(code: Code, d: Definition, depth: int) -> bool:
    match d.how:
        case How.ITERATE:
            return True
        case How.ASSIGN | How.UNPACK if d.value is not None:
            cast = half_cast(code, d.value)
            return _from_batch(code, cast.value if cast else d.value, depth - 1)
    return False


_SHAPES = {"cuda", "cpu", "to", "view", "reshape", "flatten", "squeeze", "unsqueeze", "contiguous", "detach"}


# ---------------------------------------------------------------------- inputs and loss functions


def half_inputs(model: FileModel) -> Iterator[HalfCast]:
    """Casts of what is given to modules in autocast regions, and to nothing else."""
    code = model.code
    if any(code.roles.of(cast.value) is Role.MODULE for cast in casts(code)):
        return
    for cast in casts(code):
        uses = [*_uses(code, cast)]
        if uses and all(_runs_in_region(code, use) for use in uses):
            yield cast


def _uses(code: Code, cast: HalfCast) -> Iterator[cst.CSTNode]:
    """Where the value of a cast is read: there, or by the name that it is given."""
    match statement := code.tree.names.parent[cast.call]:
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name() as target)]):
            place = code.flow.place(target)
            for node in code.flow.body[code.flow.function(statement)]:
                if node is not target and isinstance(node, cst.Name) and code.flow.place(node) == place:
                    here = blocks.small_statement_of(code.tree, node)
                    if place is not None and any(d.node is statement for d in code.flow.reaching(place, here)):
                        yield node
        case _:
            yield cast.call


def _runs_in_region(code: Code, node: cst.CSTNode) -> bool:
    """Whether ``node`` is an argument of a module that is called in an autocast region."""
    arg = code.tree.names.parent[node]
    call = code.tree.names.parent[arg] if isinstance(arg, cst.Arg) else None
    if not isinstance(call, cst.Call) or code.roles.of(call.func) is not Role.MODULE:
        return False
    return not isinstance(code.flow.named(call.func), cst.ClassDef) and region_of(code, call) is not None


@dataclass(frozen=True, slots=True, eq=False)
class HalfCriterion:
    """A loss function of PyTorch that is cast; ``weighted`` where it has a buffer that changes with it."""

    cast: HalfCast
    weighted: bool


def half_criteria(model: FileModel) -> Iterator[HalfCriterion]:
    for cast in casts(model.code):
        made = makers(model.code, cast.value)
        paths = [model.code.flow.names.imported(call.func) for call in made]
        if paths and all(_is_torch_loss(found) for found in paths):
            weighted = any(keyword(m, name) is not None for m in made for name in ("weight", "pos_weight"))
            yield HalfCriterion(cast, weighted or any(a.keyword is None for m in made for a in m.args))


def _is_torch_loss(paths: frozenset[str]) -> bool:
    return bool(paths) and all(p.startswith("torch.nn.") and p.endswith("Loss") for p in paths)
