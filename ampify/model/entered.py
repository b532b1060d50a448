"""Autocast that is entered by a call of ``__enter__`` instead of a ``with``, and never left."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model.step import Code
from ampify.source.text import Span
from ampify.syntax.walk import dotted


def left_open(code: Code) -> Iterator[Span]:
    """The calls of ``__enter__`` on an autocast context with which the file does nothing else."""
    for call in code.amp.nodes if "__enter__" in code.tree.source.text else ():
        match call:
            case cst.Call(func=cst.Attribute(value=context, attr=cst.Name(value="__enter__"))):
                if code.amp.is_autocast(context) and not _used_again(code, call, context):
                    yield code.tree.span(call)


def _used_again(code: Code, call: cst.Call, context: cst.BaseExpression) -> bool:
    """Whether anything but being made and entered happens to the context: then it may be left somewhere."""
    kept = context if dotted(context) else _target(code, call)
    if kept is None:
        return not isinstance(code.tree.names.parent[call], cst.Expr)
    return any(_last(node) == _last(kept) and _is_read(code, node) for node in code.amp.nodes)


def _target(code: Code, call: cst.Call) -> cst.BaseAssignTargetExpression | None:
    """Where the result of ``__enter__``, the context itself, is assigned to."""
    match code.tree.names.parent[call]:
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name() | cst.Attribute() as target)]):
            return target
    return None


def _last(node: cst.CSTNode) -> str | None:
    chain = dotted(node) if isinstance(node, cst.Name | cst.Attribute) else ()
    return chain[-1] if chain else None


def _is_read(code: Code, node: cst.CSTNode) -> bool:
    match code.tree.names.parent[node]:
        case cst.AssignTarget(target=part) | cst.AnnAssign(target=part) | cst.Attribute(attr=part) if part is node:
            return False
        case cst.Attribute(attr=cst.Name(value="__enter__")):
            return False
    return True
