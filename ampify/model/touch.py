"""What a statement does with the gradients it touches: looks at them, changes them, or only multiplies them."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

import libcst as cst

from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk

_NUMBERS = {"norm", "mean", "std", "var", "max", "min", "abs", "pow", "square", "item", "vector_norm"}
"""Methods and functions whose result is a quantity of the gradient."""
_SHOWS = {"add_histogram", "Histogram", "add_scalar"}
_SAME = {"data", "detach", "clone", "cpu", "float", "view", "flatten", "reshape", "ravel", "contiguous", "numpy"}
"""What gives the gradient once more."""
_LIMITS = {"clamp", "clip", "clamp_", "clip_", "clamp_min_", "clamp_max_", "clamp_min", "clamp_max"}
_TESTS = {"isnan", "isfinite", "isinf", "any", "all"}
_NOISE = {"randn", "randn_like", "normal", "rand", "rand_like"}


class Touch(Enum):
    """What becomes of gradients."""

    READ = auto()
    """A quantity of them is computed or shown."""
    WRITE = auto()
    """They are limited, or something is added that knows nothing of a scale."""
    OTHER = auto()


def touch(tree: Tree, statement: cst.CSTNode) -> Touch:
    """What a statement, or the head of a compound one, does with the ``.grad`` in it."""
    head = statement
    match statement:
        case cst.If(test=inner) | cst.While(test=inner) | cst.For(iter=inner):
            head = inner
        case cst.With():
            return Touch.OTHER
    found = {_one(tree, node) for node in walk(head) if isinstance(node, cst.Attribute) and node.attr.value == "grad"}
    return next((t for t in (Touch.OTHER, Touch.WRITE, Touch.READ) if t in found), Touch.OTHER)


def _one(tree: Tree, gradient: cst.Attribute) -> Touch:
    """What happens to one gradient. A test for existence or zero asks nothing of its scale."""
    names, inner = [*_done(tree, gradient)], tree.names.parent[gradient]
    while inner is not None and not isinstance(inner, cst.BaseSmallStatement):
        if isinstance(inner, cst.Comparison):
            return Touch.OTHER
        inner = tree.names.parent[inner]
    if {*names} & _LIMITS:
        return Touch.WRITE
    if {*names} & _TESTS:
        return Touch.OTHER
    if {*names} & (_NUMBERS | _SHOWS):
        return Touch.READ
    return Touch.WRITE if _adds(tree, gradient) else Touch.OTHER


def _done(tree: Tree, node: cst.CSTNode) -> Iterator[str]:
    """The names of what is called on a value or given it, from the inside to the outside."""
    child, parent = node, tree.names.parent[node]
    while isinstance(parent, cst.Attribute | cst.Call | cst.Arg | cst.BinaryOperation | cst.UnaryOperation):
        match parent:
            case cst.Attribute(value=value, attr=cst.Name(value=name)) if value is child and name not in _SAME:
                yield name
            case cst.Arg() if isinstance(call := tree.names.parent[parent], cst.Call):
                match call.func:
                    case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
                        yield name
        child, parent = parent, tree.names.parent[parent]


def _adds(tree: Tree, gradient: cst.Attribute) -> bool:
    """Whether noise or a part of the parameter itself is added to a gradient."""
    owner, whole = tree.text(gradient.value), tree.names.parent[gradient]
    if isinstance(whole, cst.Attribute) and whole.attr.value == "data":
        gradient, whole = whole, tree.names.parent[whole]
    match whole:
        case cst.AugAssign(target=target, operator=cst.AddAssign() | cst.SubtractAssign(), value=value):
            added: list[cst.CSTNode] = [value] if target is gradient else []
        case cst.Attribute(attr=cst.Name(value="add_" | "sub_")) if isinstance(
            call := tree.names.parent[whole], cst.Call
        ):
            added = [arg.value for arg in call.args]
        case _:
            return False
    parts = [n for value in added for n in walk(value)]
    if any(isinstance(n, cst.Attribute) and n.attr.value == "grad" for n in parts):
        return False
    noise = any(isinstance(n, cst.Name) and n.value in _NOISE for n in parts)
    return noise or any(isinstance(n, cst.Name | cst.Attribute) and tree.text(n) == owner for n in parts)
