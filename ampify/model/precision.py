"""Names that decide about precision, and what is decided by them."""

from __future__ import annotations

from collections.abc import Iterator, Set

import libcst as cst

from ampify.model import vocabulary as words
from ampify.syntax.names import Bound, Scope
from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk_scope

_DEEP = 3
"""So many names are looked through."""


def is_precision(name: str) -> bool:
    """Whether a name speaks of precision."""
    return bool({*name.lower().strip("_").split("_")} & words.PRECISION)


def asks_for_precision(tree: Tree, scope: Scope, names: Set[str]) -> bool:
    """Whether what a test in ``scope`` reads, or what that is made of and under which tests, speaks of precision."""
    found, fresh = set(names), set(names)
    for _ in range(_DEEP):
        given = [b.node for name in fresh for b in scope.lookup(name) if b.how is Bound.ASSIGN and b.value is not None]
        read = {name for made in given for node in (made, *tests_around(tree, made)) for name in names_in(node)}
        fresh, found = read - found, found | read
    return any(map(is_precision, found))


def names_in(node: cst.CSTNode) -> set[str]:
    """The names and attributes that code reads or binds."""
    return {n.value for n in walk_scope(node) if isinstance(n, cst.Name)}


def tests_around(tree: Tree, node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """The tests that a node stands behind in its function, or in its module; innermost first."""
    return (test for test, _ in outcomes_around(tree, node))


def outcomes_around(tree: Tree, node: cst.CSTNode) -> Iterator[tuple[cst.BaseExpression, bool]]:
    """The same tests, with how they have come out where the node runs."""
    child = node
    for parent in tree.parents(node):
        match parent:
            case cst.FunctionDef() | cst.ClassDef():
                return
            case cst.If(test=test) | cst.IfExp(test=test) | cst.While(test=test) if child is not test:
                yield test, child is parent.body
            case cst.BooleanOperation(left=left, operator=operator, right=right) if child is right:
                yield left, isinstance(operator, cst.And)
        child = parent
