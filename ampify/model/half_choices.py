"""Dtypes that a program chooses between: what autocast computes in, by the tests that decide it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

import libcst as cst

from ampify.model.definitions import How
from ampify.model.precision import asks_for_precision, names_in, outcomes_around
from ampify.model.step import Code
from ampify.syntax import blocks
from ampify.syntax.names import Bound
from ampify.syntax.walk import walk

_DEEP = 4
"""So many names, or callers, are looked through."""


class Half(Enum):
    """What a region computes in."""

    FLOAT16 = auto()
    BFLOAT16 = auto()


_DTYPES = {
    "torch.float16": Half.FLOAT16,
    "torch.half": Half.FLOAT16,
    "torch.bfloat16": Half.BFLOAT16,
}

Facts = Mapping[str, bool]
"""How tests come out, by the text of what they read in the end."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A dtype, None for one that is not known, and the tests that have come out so where it is taken."""

    half: Half | None
    facts: Facts = field(default_factory=dict)


def choices(code: Code, dtype: cst.BaseExpression, depth: int = _DEEP) -> list[Choice]:
    """What an expression may stand for."""
    place = code.flow.place(dtype)
    given = [*code.flow.assigned(place)] if place is not None else []
    match dtype:
        case cst.IfExp(test=test, body=body, orelse=orelse):
            found = [(body, _learnt(code, test, truth=True)), (orelse, _learnt(code, test, truth=False))]
        case cst.Name() | cst.Attribute() if given and depth:
            found = [(d.value, _facts_at(code, d.node)) for d in given if d.how is How.ASSIGN and d.value is not None]
            if len(found) < len(given):
                return [Choice(None)]
        case _:
            paths = code.flow.names.imported(dtype)
            return [Choice(_DTYPES.get(next(iter(paths))) if len(paths) == 1 else None)]
    return [Choice(c.half, {**c.facts, **facts}) for part, facts in found for c in choices(code, part, depth - 1)]


def settled(chosen: list[Choice], facts: Facts) -> Half | None:
    """What choices, in the order in which they are made, come to where ``facts`` hold; None where that is open."""
    halves = set[Half | None]()
    for choice in reversed(chosen):
        if all(facts.get(test, truth) is truth for test, truth in choice.facts.items()):
            halves.add(choice.half)
            if choice.facts.items() <= facts.items():
                break
    return halves.pop() if len(halves) == 1 else None


def reached_with(code: Code, node: cst.CSTNode, facts: Facts) -> bool:
    """Whether code surely runs also where ``facts`` hold: tests of precision have to say so, others are not asked."""
    for where in _ways(code, node, _DEEP):
        scope = code.tree.names.scope[where]
        for test, truth in (*outcomes_around(code.tree, where), *_left_before(code, where)):
            known = comes_out(code, test, facts)
            asks = asks_for_precision(code.tree, scope, names_in(test))
            if known is not truth and (known is not None or asks):
                return False
    return True


def _ways(code: Code, node: cst.CSTNode, depth: int) -> Iterator[cst.CSTNode]:
    """A node, and the calls that lead to it."""
    yield node
    function = code.flow.function(node)
    if depth and isinstance(function, cst.FunctionDef):
        for call in code.flow.sites.get(function, ()):
            yield from _ways(code, call, depth - 1)


def _left_before(code: Code, node: cst.CSTNode) -> Iterator[tuple[cst.BaseExpression, bool]]:
    """The tests of statements above a node that may leave its block, and how they come out where it is reached."""
    child = node
    for parent in code.tree.parents(node):
        if isinstance(parent, blocks.Block):
            for statement in blocks.statements(parent):
                if statement is child:
                    break
                if isinstance(statement, cst.If) and any(isinstance(n, _JUMPS) for n in walk(statement)):
                    yield statement.test, not any(isinstance(n, _JUMPS) for n in walk(statement.body))
        if isinstance(parent, cst.FunctionDef):
            return
        child = parent


_JUMPS = (cst.Continue, cst.Break, cst.Return, cst.Raise)


# ---------------------------------------------------------------------- tests


def _facts_at(code: Code, node: cst.CSTNode) -> dict[str, bool]:
    return {
        k: v for test, truth in outcomes_around(code.tree, node) for k, v in _learnt(code, test, truth=truth).items()
    }


def _learnt(code: Code, test: cst.BaseExpression, *, truth: bool) -> dict[str, bool]:
    """What is known where a test comes out as ``truth``."""
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            return _learnt(code, inner, truth=not truth)
        case cst.BooleanOperation(left=left, operator=operator, right=right):
            both = isinstance(operator, cst.And) is truth
            return {**_learnt(code, left, truth=truth), **_learnt(code, right, truth=truth)} if both else {}
    return {_source(code, test): truth}


def comes_out(code: Code, test: cst.BaseExpression, facts: Facts) -> bool | None:
    """How a test comes out where ``facts`` hold; None where they do not decide it."""
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            known = comes_out(code, inner, facts)
            return None if known is None else not known
        case cst.BooleanOperation(left=left, operator=operator, right=right):
            sides = {comes_out(code, left, facts), comes_out(code, right, facts)}
            ends = isinstance(operator, cst.Or)
            return ends if ends in sides else (None if None in sides else not ends)
    return facts.get(_source(code, test))


def _source(code: Code, test: cst.BaseExpression, depth: int = _DEEP) -> str:
    """The text of a test, or of what a name in its place was given once and for all."""
    if isinstance(test, cst.Name) and depth:
        match code.tree.names.scope[test].lookup(test.value):
            case [binding] if binding.how is Bound.ASSIGN and binding.value is not None:
                return _source(code, binding.value, depth - 1)
    return code.tree.text(test)
