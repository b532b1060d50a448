"""Modules of which everything is seen: made in the program, or by PyTorch, in float32 and with gradients."""

from __future__ import annotations

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import How, Place
from ampify.model.step import Code
from ampify.syntax.walk import walk

_KEEPING = {"to", "cuda", "cpu", "train", "eval", "float"}
"""Methods that give the module as it was."""
_CHANGING = {"half", "bfloat16", "double", "type", "requires_grad_"}
_WRAPPERS = {
    "torch.nn.DataParallel", "torch.nn.parallel.DataParallel", "torch.nn.parallel.DistributedDataParallel",
    "torch.compile",
}  # fmt: skip
_LIBRARIES = ("torch.nn.", "torchvision.models.")
_EMPTY = {f"torch.nn.{name}" for name in ("Module", "Sequential", "ModuleList", "ModuleDict", "Identity", "Dropout")}
"""Modules without weights of their own."""


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
            return _has_layers(code, named) if isinstance(named, cst.ClassDef) else _gives(code, named, seen)
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


def _gives(code: Code, factory: cst.FunctionDef | None, seen: frozenset[Place | cst.FunctionDef]) -> bool:
    """Whether all that a function returns is such a module."""
    if factory is None or factory in seen or factory in code.flow.generators:
        return False
    given = [r.value for r in code.flow.returns(factory) if r.value is not None]
    return bool(given) and all(is_plain(code, value, seen | {factory}) for value in given)


def _has_layers(code: Code, cls: cst.ClassDef) -> bool:
    """Whether a class, or one that it is derived from or makes, has layers of PyTorch: it is more than a cover for
    something that is not in sight.
    """
    waiting, seen = [cls], {cls}
    while waiting:
        current = waiting.pop()
        made = [n.func for n in walk(current) if isinstance(n, cst.Call)]
        for used in (*(base.value for base in current.bases), *made):
            if any(map(_is_layer, code.tree.names.imported(used))):
                return True
            inner = code.flow.named(used)
            if isinstance(inner, cst.ClassDef) and inner not in seen:
                seen.add(inner)
                waiting.append(inner)
    return False


def _is_layer(path: str) -> bool:
    return path.startswith(_LIBRARIES) and path not in _EMPTY and not path.startswith(words.NOT_MODULES)


def _methods(code: Code, place: Place) -> set[str]:
    """The methods that are called of what is kept at a place, and of its parts."""
    calls = (call.func for call in code.flow.calls if isinstance(call.func, cst.Attribute))
    owners = ((func.attr.value, code.flow.place(func.value)) for func in calls)
    return {name for name, owner in owners if owner is not None and owner.touches(place)}
