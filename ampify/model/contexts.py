"""What autocast contexts are made with, and whether they keep the casts of weights until they end."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model.step import Code
from ampify.syntax.names import Bound
from ampify.syntax.walk import keyword, walk

Region = cst.With | cst.Decorator


def casts(code: Code, region: Region) -> list[cst.BaseExpression]:
    """The expressions of a region that enter autocast."""
    if isinstance(region, cst.Decorator):
        return [region.decorator]
    return [item.item for item in region.items if code.amp.is_autocast(item.item)]


def makers(code: Code, cast: cst.BaseExpression | None, depth: int = 4) -> Iterator[cst.Call]:
    """The calls that may have made an autocast context, through names, choices and functions."""
    match cast:
        case cst.Call(func=func) if code.amp.makes_autocast(func):
            yield cast
        case cst.Call() if depth:
            for function in code.amp.callees(cast):
                for returned in code.flow.returns(function):
                    yield from makers(code, returned.value, depth - 1)
        case cst.Name() | cst.Attribute() if depth:
            for value in code.amp.arriving(cast):
                yield from makers(code, value, depth - 1)
        case cst.IfExp(body=one, orelse=other):
            yield from (*makers(code, one, depth), *makers(code, other, depth))


def options(code: Code, call: cst.Call, name: str) -> Iterator[cst.BaseExpression]:
    """What a call that makes a context is given under a keyword, there or in the ``partial`` that it calls."""
    if (value := keyword(call, name)) is not None:
        yield value
    bound = code.tree.names.scope[call.func].lookup(call.func.value) if isinstance(call.func, cst.Name) else ()
    for binding in bound:
        for inner in walk(binding.value) if binding.value is not None else ():
            if isinstance(inner, cst.Call) and (value := keyword(inner, name)) is not None:
                yield value


def made_here(code: Code, region: Region) -> cst.Call | None:
    """The call in the head of a region that makes its one context, where it is autocast itself that is called."""
    match casts(code, region):
        case [cst.Call(func=func) as call]:
            bound = code.tree.names.scope[func].lookup(func.value) if isinstance(func, cst.Name) else []
            paths = code.amp.paths(func)
            sure = bool(paths) and all(p.startswith("torch.") and p.endswith(".autocast") for p in paths)
            return call if sure and all(b.how is Bound.IMPORT for b in bound) else None
    return None


def disabled(code: Code, region: Region) -> bool:
    """Whether a region surely switches autocast off."""
    return any(_off(code, cast) for cast in casts(code, region))


def _off(code: Code, cast: cst.BaseExpression) -> bool:
    made = [*makers(code, cast)]
    return bool(made) and all(any(_is(v, "False") for v in options(code, call, "enabled")) for call in made)


def keeps_casts(code: Code, region: Region) -> bool:
    """Whether casts of weights surely stay until the end of a region, wherever autocast is on."""
    made = [call for cast in casts(code, region) for call in makers(code, cast)]
    if not made or disabled(code, region) or any(a.star for call in made for a in call.args):
        return False
    given = [value for call in made for value in options(code, call, "cache_enabled")]
    positional = any(sum(a.keyword is None for a in call.args) > 2 for call in made)
    return all(_is(value, "True") for value in given) and not positional and not _clears(code)


def _clears(code: Code) -> bool:
    """Whether the program drops the casts itself."""
    calls = (n for n in code.flow.calls if isinstance(n.func, cst.Name | cst.Attribute))
    return any("torch.clear_autocast_cache" in code.amp.paths(call.func) for call in calls)


def _is(value: cst.BaseExpression, name: str) -> bool:
    return isinstance(value, cst.Name) and value.value == name
