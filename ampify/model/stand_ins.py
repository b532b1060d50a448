"""Classes and functions that stand in for AMP where an import of it fails, and calls that only AMP itself takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.precision import asks_for_precision, names_in, tests_around
from ampify.model.step import Code, FileModel
from ampify.syntax.names import Binding
from ampify.syntax.walk import dotted

_NAMES = ("GradScaler", "autocast")
_KEEPS = {"contextlib.contextmanager", "contextlib.asynccontextmanager"}
"""Decorators after which a function takes what it took."""
_MAKERS = {"__new__", "__call__", "__init_subclass__"}

StandIn = cst.ClassDef | cst.FunctionDef


@dataclass(frozen=True, slots=True, eq=False)
class Refused:
    """A call that ``stand_in`` does not take: ``why`` is what Python says."""

    call: cst.Call
    stand_in: StandIn
    why: str


def refused(model: FileModel) -> Iterator[Refused]:
    """The calls of names that may be AMP's or a stand-in's, with arguments that the stand-in has no parameters for."""
    code = model.code
    for call in code.flow.calls:
        bindings = code.tree.names.bindings(call.func)
        if len(bindings) > 1 and any(_is_amp(code, b) for b in bindings) and not _sure_of_amp(code, call, bindings):
            for stand_in in (b.node for b in bindings if isinstance(b.node, StandIn)):
                if (why := _refusal(code, stand_in, call)) is not None:
                    yield Refused(call, stand_in, why)


def _is_amp(code: Code, binding: Binding) -> bool:
    """Whether a name is given torch's own scaler or autocast."""
    path = binding.path or ""
    paths = {path} if path else (code.tree.names.imported(binding.value) if binding.value is not None else ())
    return any(p.startswith("torch") and p.rpartition(".")[2] in _NAMES for p in paths)


def _sure_of_amp(code: Code, call: cst.Call, bindings: list[Binding]) -> bool:
    """Whether a call may only be reached where AMP is there: the program asks for it, or for what was learnt of it."""
    scope = code.tree.names.scope[call.func]
    learnt = {name for b in bindings for name in _bound_beside(code, b)}
    tests = [names_in(test) for test in tests_around(code.tree, call)]
    return any(read & learnt or asks_for_precision(code.tree, scope, read) for read in tests)


def _bound_beside(code: Code, binding: Binding) -> Iterator[str]:
    """The names that the statement which chooses between the bindings gives a value to: ``HAS_AMP = False``."""
    choice = next((p for p in code.tree.parents(binding.node) if isinstance(p, cst.Try | cst.If)), None)
    for other in code.tree.names.scope[binding.node].bindings.items() if choice is not None else ():
        name, bound = other
        if any(choice is not None and code.tree.contains(choice, b.node) and b.path is None for b in bound):
            yield name


def _refusal(code: Code, stand_in: StandIn, call: cst.Call) -> str | None:
    """Why a stand-in does not take a call; None where it does, or where that cannot be seen."""
    signature = _signature(stand_in, code)
    if signature is None or any(arg.star for arg in call.args):
        return None
    plain = [arg for arg in call.args if arg.keyword is None]
    named = {arg.keyword.value: arg for arg in call.args if arg.keyword is not None}
    try:
        signature.bind(*plain, **named)
    except TypeError as reason:
        return str(reason)
    return None


def _signature(stand_in: StandIn, code: Code) -> inspect.Signature | None:
    """What a function takes, or what it takes to make an object of a class that has no bases to look into."""
    if isinstance(stand_in, cst.FunctionDef):
        kept = all(code.tree.names.imported(d.decorator) & _KEEPS for d in stand_in.decorators)
        return _taken(stand_in.params) if kept else None
    methods = {n.name.value: n for n in stand_in.body.body if isinstance(n, cst.FunctionDef)}
    plain = all(dotted(base.value) == ("object",) for base in stand_in.bases) and not stand_in.keywords
    if not plain or stand_in.decorators or methods.keys() & _MAKERS:
        return None
    if (made := methods.get("__init__")) is None:
        return inspect.Signature()
    whole = _taken(made.params)
    return whole.replace(parameters=[*whole.parameters.values()][1:]) if not made.decorators else None


def _taken(params: cst.Parameters) -> inspect.Signature:
    kinds = inspect.Parameter
    found = [_parameter(p, kinds.POSITIONAL_ONLY) for p in params.posonly_params]
    found += [_parameter(p, kinds.POSITIONAL_OR_KEYWORD) for p in params.params]
    if isinstance(params.star_arg, cst.Param):
        found.append(_parameter(params.star_arg, kinds.VAR_POSITIONAL))
    found += [_parameter(p, kinds.KEYWORD_ONLY) for p in params.kwonly_params]
    if params.star_kwarg is not None:
        found.append(_parameter(params.star_kwarg, kinds.VAR_KEYWORD))
    return inspect.Signature(found)


def _parameter(param: cst.Param, kind: inspect._ParameterKind) -> inspect.Parameter:
    return inspect.Parameter(param.name.value, kind, default=param.default or inspect.Parameter.empty)
