"""Devices that are None where a machine has no accelerator, unless the program has asked for one first."""

from __future__ import annotations

import libcst as cst

from ampify.model.definitions import How
from ampify.model.step import Code
from ampify.syntax import blocks
from ampify.syntax.walk import walk

_MAYBE = {"torch.accelerator.current_accelerator"}
_DEEP = 5
"""So many names and parameters are looked through."""


def may_be_none(code: Code, node: cst.BaseExpression, depth: int = _DEEP) -> bool:
    """Whether the device that ``node`` stands for may be None."""
    match node:
        case cst.Call(func=func):
            return bool(code.flow.names.imported(func) & _MAYBE) and not _asked(code, node)
        case cst.IfExp(body=one, orelse=other):
            return may_be_none(code, one, depth) or may_be_none(code, other, depth)
        case cst.BooleanOperation(operator=cst.Or(), right=right):
            return may_be_none(code, right, depth)
        case cst.Name() | cst.Attribute() if depth and (place := code.flow.place(node)) is not None:
            given = [d for d in code.flow.assigned(place) if d.how in (How.ASSIGN, How.PARAM)]
            values = [v for d in given for v in (code.flow.passed(d) if d.how is How.PARAM else [d.value])]
            return any(v is not None and may_be_none(code, v, depth - 1) for v in values)
    return False


def _asked(code: Code, node: cst.CSTNode) -> bool:
    """Whether a device is only taken where `is_available` has said that there is one, or after it has not let go on."""
    child = node
    for parent in code.tree.parents(node):
        match parent:
            case cst.If(test=test) | cst.IfExp(test=test) if child is not test:
                first = child is parent.body
                if _says_available(code, test, truth=first):
                    return True
            case cst.IndentedBlock() | cst.Module():
                before = (s for s in blocks.statements(parent) if code.tree.span(s).end <= code.tree.span(child).start)
                if any(_leaves_without(code, s) for s in before):
                    return True
            case cst.FunctionDef():
                return False
        child = parent
    return False


def _leaves_without(code: Code, statement: cst.CSTNode) -> bool:
    """``if not torch.accelerator.is_available(): sys.exit()``, or an assertion."""
    match statement:
        case cst.If(test=test, body=body, orelse=None):
            ends = any(isinstance(n, cst.Return | cst.Raise) or _exits(n) for n in walk(body))
            return ends and _says_available(code, test, truth=False)
        case cst.SimpleStatementLine(body=[cst.Assert(test=test)]):
            return _says_available(code, test, truth=True)
    return False


def _exits(node: cst.CSTNode) -> bool:
    match node:
        case cst.Call(func=cst.Name(value="exit" | "quit") | cst.Attribute(attr=cst.Name(value="exit" | "_exit"))):
            return True
    return False


def _says_available(code: Code, test: cst.BaseExpression, truth: bool, depth: int = _DEEP) -> bool:
    """Whether there is an accelerator wherever ``test`` comes out as ``truth``."""
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            return _says_available(code, inner, not truth, depth)
        case cst.BooleanOperation(left=left, operator=operator, right=right):
            sides = [_says_available(code, side, truth, depth) for side in (left, right)]
            return any(sides) if isinstance(operator, cst.And) is truth else all(sides)
        case cst.Call(func=func):
            return truth and any(p.endswith(".is_available") for p in code.flow.names.imported(func))
        case cst.Name() | cst.Attribute() if depth and (place := code.flow.place(test)) is not None:
            values = [d.value if d.how is How.ASSIGN else None for d in code.flow.assigned(place)]
            return bool(values) and all(v is not None and _says_available(code, v, truth, depth - 1) for v in values)
    return False
