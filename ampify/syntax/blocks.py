"""Statements and the blocks they stand in: order, nesting, loops and ways out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from ampify.syntax.names import REMEMBERED, scoped
from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk_scope

Statement = cst.BaseStatement | cst.BaseSmallStatement
Block = cst.Module | cst.IndentedBlock | cst.SimpleStatementSuite
Function = cst.FunctionDef | cst.Module
"""What runs as one piece: a function, or the module itself."""


def statement_of(tree: Tree, node: cst.CSTNode) -> cst.BaseStatement:
    """The statement, simple line or compound, that ``node`` is part of."""
    return next(n for n in (node, *tree.parents(node)) if isinstance(n, cst.BaseStatement))


def small_statement_of(tree: Tree, node: cst.CSTNode) -> Statement:
    """The smallest statement that ``node`` is part of: one of several on a line, or the head of a compound one."""
    found = (node, *tree.parents(node))
    return next(n for n in found if isinstance(n, cst.BaseStatement | cst.BaseSmallStatement))


def block_of(tree: Tree, statement: cst.CSTNode) -> Block:
    """The block that ``statement`` is a direct part of."""
    return next(n for n in tree.parents(statement) if isinstance(n, Block))


def surely_run_in(tree: Tree, statement: cst.CSTNode) -> Block:
    """The outermost block that runs ``statement`` whenever it is run: the body of a ``with`` is a part of its block."""
    block = block_of(tree, statement)
    while isinstance(around := tree.names.parent[block], cst.With):
        block = block_of(tree, around)
    return block


def statements(block: Block) -> tuple[cst.CSTNode, ...]:
    return tuple(block.body)


def blocks(statement: cst.CSTNode) -> Iterator[Block]:
    """The blocks of a compound statement in source order; function and class bodies are not its own."""
    match statement:
        case cst.FunctionDef() | cst.ClassDef():
            return
        case cst.Match():
            yield from (case.body for case in statement.cases if isinstance(case.body, Block))
        case cst.Try() | cst.TryStar():
            yield _block(statement.body)
            yield from (_block(handler.body) for handler in statement.handlers)
            yield from (_block(part.body) for part in (statement.orelse, statement.finalbody) if part)
        case cst.If() | cst.For() | cst.While():
            yield _block(statement.body)
            if isinstance(statement.orelse, cst.If):
                yield from blocks(statement.orelse)
            elif statement.orelse is not None:
                yield _block(statement.orelse.body)
        case cst.With():
            yield _block(statement.body)


def _block(suite: cst.BaseSuite) -> Block:
    assert isinstance(suite, Block)
    return suite


def function_of(tree: Tree, node: cst.CSTNode) -> Function:
    """The function whose code ``node`` is part of: nearest enclosing one, else the module.

    A lambda counts as part of the function around it; so do the decorators and defaults of a nested function.
    """
    child = node
    for parent in tree.parents(node):
        if isinstance(parent, cst.FunctionDef) and child is parent.body:
            return parent
        child = parent
    assert isinstance(child, cst.Module)
    return child


def class_of(tree: Tree, function: cst.CSTNode) -> cst.ClassDef | None:
    """The class that ``function`` is a method of, or that a function nested in a method belongs to."""
    return next((p for p in tree.parents(function) if isinstance(p, cst.ClassDef)), None)


def method_class(tree: Tree, function: cst.CSTNode) -> cst.ClassDef | None:
    """The class that ``function`` is directly a method of."""
    if not isinstance(function, cst.FunctionDef):
        return None
    outer = next((p for p in tree.parents(function) if isinstance(p, cst.ClassDef | cst.FunctionDef)), None)
    return outer if isinstance(outer, cst.ClassDef) else None


def loops(tree: Tree, node: cst.CSTNode) -> Iterator[cst.For | cst.While]:
    """The loops around ``node`` within its function, innermost first; the head of a loop is not inside it."""
    child = node
    for parent in tree.parents(node):
        if isinstance(parent, cst.FunctionDef | cst.ClassDef | cst.Lambda):
            return
        if isinstance(parent, cst.For | cst.While) and child is parent.body:
            yield parent
        child = parent


def path_to(tree: Tree, node: cst.CSTNode, block: Block) -> Iterator[cst.CSTNode]:
    """The statements that lead from ``node`` up to ``block``, outermost last; each is an element of some block."""
    child: cst.CSTNode = node
    for parent in tree.parents(node):
        if isinstance(parent, Block):
            yield child
        if parent is block:
            return
        child = parent


def stands_in(tree: Tree, node: cst.CSTNode, block: Block) -> cst.CSTNode | None:
    """The statement of ``block`` that ``node`` is inside of."""
    child: cst.CSTNode = node
    for parent in tree.parents(node):
        if parent is block:
            return child
        child = parent
    return None


def leaves(block: Block) -> bool:
    """Whether the last statement of ``block`` jumps away: return, raise, continue or break."""
    last: cst.CSTNode | None = block.body[-1] if block.body else None
    if isinstance(last, cst.SimpleStatementLine):
        last = last.body[-1]
    return isinstance(last, cst.Return | cst.Raise | cst.Continue | cst.Break)


def jumps(statement: cst.CSTNode) -> Iterator[cst.Continue | cst.Break | cst.Return]:
    """The ``continue``, ``break`` and ``return`` in a statement, jumps of loops inside it left out."""
    inner = [n for n in walk_scope(statement) if isinstance(n, cst.For | cst.While)]
    own = {id(n) for loop in inner for n in walk_scope(loop.body) if not isinstance(n, cst.Return)}
    for node in walk_scope(statement):
        if isinstance(node, cst.Continue | cst.Break | cst.Return) and id(node) not in own:
            yield node


def abstract(function: cst.FunctionDef) -> bool:
    """Whether a method is there to be overridden: its body raises `NotImplementedError`, or does nothing at all."""
    return all(map(_does_nothing, function.body.body))


def _does_nothing(node: cst.CSTNode) -> bool:
    match node:
        case cst.SimpleStatementLine():
            return all(map(_does_nothing, node.body))
        case cst.Pass() | cst.Expr(value=cst.Ellipsis() | cst.SimpleString()):
            return True
        case cst.Raise(exc=cst.Name("NotImplementedError") | cst.Call(func=cst.Name("NotImplementedError"))):
            return True
    return False


@lru_cache(REMEMBERED)
def bodies(module: cst.Module) -> tuple[dict[Function, list[cst.CSTNode]], dict[cst.CSTNode, Function]]:
    """The code of each function of one module, and the innermost function of each node in it."""
    functions: list[Function] = [module, *(node for node in scoped(module).parent if type(node) is cst.FunctionDef)]
    found = {function: [*walk_scope(function)] for function in functions}
    return found, {node: function for function, body in found.items() for node in body}
