"""What is done with the state of a scaler: saved as an object, or loaded though it may be empty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.definitions import How
from ampify.model.origins import Origins, related
from ampify.model.step import Code, FileModel
from ampify.syntax import blocks
from ampify.syntax.walk import dotted, keyword, walk

_SAVES = {"torch.save", "pickle.dump", "pickle.dumps", "dill.dump", "joblib.dump"}


@dataclass(frozen=True, slots=True, eq=False)
class Pickled:
    """A scaler, not its state, in what ``call`` saves."""

    scaler: cst.BaseExpression
    call: cst.Call


@dataclass(frozen=True, slots=True, eq=False)
class MaybeEmpty:
    """``scaler.load_state_dict(state)`` where ``state`` is empty if ``saved`` was done with mixed precision off."""

    load: cst.Call
    scaler: cst.BaseExpression
    state: cst.BaseExpression
    made: cst.Call
    saved: cst.Call


def pickled(model: FileModel) -> Iterator[Pickled]:
    code = model.code
    for call in code.flow.calls:
        if call.args and code.tree.names.imported(call.func) & _SAVES:
            for value in _saved(code, call.args[0].value):
                yield Pickled(value, call)


def _saved(code: Code, value: cst.BaseExpression, depth: int = 2) -> Iterator[cst.BaseExpression]:
    """The scalers among what is saved: themselves, in a dict or list, or in one that was made before."""
    match value:
        case cst.Dict(elements=elements) | cst.List(elements=elements) | cst.Tuple(elements=elements):
            for element in elements:
                yield from _saved(code, element.value, depth)
        case cst.Call(func=cst.Name(value="dict"), args=args):
            for arg in args:
                yield from _saved(code, arg.value, depth)
        case cst.Name() | cst.Attribute() if code.amp.is_scaler(value):
            yield value
        case cst.Name() if depth and (place := code.flow.place(value)) is not None:
            for d in code.flow.reaching(place, blocks.small_statement_of(code.tree, value)):
                if d.how is How.ASSIGN and d.value is not None:
                    yield from _saved(code, d.value, depth - 1)


# ---------------------------------------------------------------------- empty states


def maybe_empty(model: FileModel) -> Iterator[MaybeEmpty]:
    """The loads of a scaler's state that nothing guards, of scalers that an option switches off."""
    code = model.code
    saves = [c for c in code.flow.calls if _method(code, c, "state_dict") is not None and not _guarded(code, c, None)]
    origins = Origins(code)
    for load in code.flow.calls if saves else ():
        scaler = _method(code, load, "load_state_dict")
        if scaler is None or not load.args or _guarded(code, load, load.args[0].value) or _own(code, load):
            continue
        made = [*makers_of(code, scaler)]
        saved = [c for c in saves if related(origins.of(_owner(c)), origins.of(scaler))]
        if saved and made and all(_optional(call) for call in made):
            yield MaybeEmpty(load, scaler, load.args[0].value, made[0], saved[0])


def _own(code: Code, load: cst.Call) -> bool:
    """Whether a state has been taken from a scaler in the same run."""
    state, place = load.args[0].value, code.flow.place(load.args[0].value)
    given = code.flow.reaching(place, blocks.small_statement_of(code.tree, load)) if place is not None else []
    values = [state, *(d.value for d in given)]
    return any(isinstance(v, cst.Call) and _method(code, v, "state_dict") is not None for v in values)


def _owner(call: cst.Call) -> cst.BaseExpression | None:
    return call.func.value if isinstance(call.func, cst.Attribute) else None


def _method(code: Code, call: cst.Call, name: str) -> cst.BaseExpression | None:
    """The scaler that a method is called of."""
    match call.func:
        case cst.Attribute(value=owner, attr=cst.Name(value=method)) if method == name and code.amp.is_scaler(owner):
            return owner
    return None


def makers_of(code: Code, scaler: cst.BaseExpression, depth: int = 4) -> Iterator[cst.Call]:
    """The calls that may have made a scaler, through names."""
    for value in code.amp.arriving(scaler):
        for part in walk(value) if value is not None else ():
            if isinstance(part, cst.Call) and code.amp.is_scaler_call(part):
                yield part
        if depth and isinstance(value, cst.Name | cst.Attribute):
            yield from makers_of(code, value, depth - 1)


def _optional(call: cst.Call) -> bool:
    enabled = keyword(call, "enabled")
    return enabled is not None and not (isinstance(enabled, cst.Name) and enabled.value in ("True", "False"))


def _guarded(code: Code, call: cst.Call, state: cst.BaseExpression | None) -> bool:
    """Whether a test around a call asks for the state, the scaler or its switch, or an exception is caught."""
    child: cst.CSTNode = call
    for parent in code.tree.parents(call):
        match parent:
            case cst.FunctionDef() | cst.ClassDef():
                return False
            case cst.Try(body=body) if child is body:
                return True
            case cst.If(test=test) | cst.IfExp(test=test) if child is not test and _asks(code, test, state):
                return True
        child = parent
    return False


def _asks(code: Code, test: cst.BaseExpression, state: cst.BaseExpression | None) -> bool:
    """Whether a test is more than one for an entry: it reads the state, a scaler, or what switches it."""
    switches = {_last(value) for call in code.flow.calls if code.amp.is_scaler_call(call)
                for value in [keyword(call, "enabled")] if value is not None}  # fmt: skip
    for node in walk(test):
        match node:
            case cst.Name() | cst.Attribute() if code.amp.is_scaler(node) or _last(node) in switches - {""}:
                return True
            case cst.Call(func=cst.Attribute(attr=cst.Name(value="get"))):
                return True
        if state is not None and isinstance(node, cst.BaseExpression) and node.deep_equals(state):
            return True
    return False


def _last(node: cst.BaseExpression) -> str:
    return dotted(node)[-1] if dotted(node) else ""
