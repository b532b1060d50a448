"""Modules of which everything is seen: made in the program, or by PyTorch, in float32 and with gradients."""

from __future__ import annotations

import libcst as cst

from ampify.model.flow import How, Place
from ampify.model.step import Code

_KEEPING = {"to", "cuda", "cpu", "train", "eval", "float"}
"""Methods that give the module as it was."""
_CHANGING = {"half", "bfloat16", "double", "type", "requires_grad_"}
_WRAPPERS = {
    "torch.nn.DataParallel", "torch.nn.parallel.DataParallel", "torch.nn.parallel.DistributedDataParallel",
    "torch.compile",
}  # fmt: skip
_LIBRARIES = ("torch.nn.", "torchvision.models.")


def is_plain(code: Code, module: cst.BaseExpression, seen: frozenset[Place | cst.FunctionDef] = frozenset()) -> bool:
    """Whether a module surely has float32 weights that want gradients, and a class that can be looked at.

    ``seen`` are places and functions that are being looked at: ``model = DataParallel(model)`` says nothing new of
    ``model``.
    """
    match module:
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in _KEEPING:
            moved = all(a.keyword is None and not code.tree.names.imported(a.value) for a in module.args)
            return moved and is_plain(code, inner, seen)
        case cst.Call(func=func, args=[first, *_]) if code.tree.names.imported(func) & _WRAPPERS:
            return is_plain(code, first.value, seen)
        case cst.Call(func=func):
            if any(p.startswith(_LIBRARIES) for p in code.tree.names.imported(func)):
                return True
            named = code.flow.named(func)
            return isinstance(named, cst.ClassDef) or (isinstance(named, cst.FunctionDef) and _gives(code, named, seen))
        case cst.Name() | cst.Attribute() if (place := code.flow.place(module)) is not None:
            if place in seen:
                return True
            given = [
                v
                for d in code.flow.assigned(place)
                for v in ([*code.flow.passed(d)] if d.how is How.PARAM else [d.value])
            ]
            kept, inside = not _methods(code, place) & _CHANGING, seen | {place}
            return kept and bool(given) and all(v is not None and is_plain(code, v, inside) for v in given)
    return False


def _gives(code: Code, factory: cst.FunctionDef, seen: frozenset[Place | cst.FunctionDef]) -> bool:
    """Whether all that a function returns is such a module."""
    given = [r.value for r in code.flow.returns(factory) if r.value is not None]
    ends = factory not in seen and factory not in code.flow.generators
    return ends and bool(given) and all(is_plain(code, value, seen | {factory}) for value in given)


def _methods(code: Code, place: Place) -> set[str]:
    """The methods that are called of what is kept at a place, and of its parts."""
    calls = (call.func for call in code.flow.calls if isinstance(call.func, cst.Attribute))
    owners = ((func.attr.value, code.flow.place(func.value)) for func in calls)
    return {name for name, owner in owners if owner is not None and owner.touches(place)}
