"""Which scalers and contexts have to stay where they are, since something that stays still reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model.amp import AmpFacts
from ampify.syntax.names import Scope
from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

Predicate = Callable[[cst.CSTNode], bool]


def wanted(
    facts: AmpFacts, carries: Predicate, reads: Iterable[cst.CSTNode], doomed: set[cst.CSTNode]
) -> set[cst.CSTNode]:
    """Those of the ``doomed`` whose value may get to one of the ``reads`` that are in none of them, or come from there.

    One scaler that is still read keeps what it flows through, and nothing of another program's.
    """
    tied = {node: {*_homes(facts, carries, node)} for node in doomed}
    kept = set[cst.CSTNode]()
    left = [read for read in reads if not any(parent in doomed for parent in facts.tree.parents(read))]
    at = {home for read in left for home in (_home(facts, read), *_result(facts.tree, read))}
    while more := {node for node, homes in tied.items() if node not in kept and homes & at}:
        kept |= more
        at = at.union(*(tied[node] for node in more))
    return kept


def _homes(facts: AmpFacts, carries: Predicate, node: cst.CSTNode) -> Iterator[Hashable]:
    """Where a value is kept before and after it is bound, passed or received."""
    for part in walk(node):
        match part:
            case cst.Name() | cst.Attribute() if carries(part):
                yield _home(facts, part)
            case cst.Call():
                yield from facts.callees(part)
    if isinstance(node, cst.Arg) and (param := facts.passed.get(node)) is not None:
        yield _home(facts, param.name)


def _home(facts: AmpFacts, node: cst.CSTNode) -> Hashable:
    """An attribute may be read through any object, a name of a module in any file."""
    if isinstance(node, cst.Attribute):
        return "attribute", node.attr.value
    match facts.place(node):
        case (Scope(node=cst.Module()), name):
            return "module", name
        case (Scope(node=cst.ClassDef()), name):
            return "attribute", name
        case place:
            return place


def _result(tree: Tree, read: cst.CSTNode) -> Iterator[Hashable]:
    """The function that hands a value back to those who call it."""
    above = list(tree.parents(read))
    if any(isinstance(parent, cst.Return) for parent in above):
        yield next(parent for parent in above if isinstance(parent, cst.FunctionDef))
