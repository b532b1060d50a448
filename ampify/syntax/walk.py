"""Iterative walks over the code fields of LibCST nodes: trivia is never entered.

Any `CSTVisitor`, even an empty one, costs about 15 times as much: it rebuilds each node and visits all whitespace.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache

import libcst as cst

import ampify.syntax.nodes  # noqa: F401 - may make them cheap to ask

_TRIVIA = (
    "whitespace", "leading", "lines_after", "footer", "header", "trailing", "comma", "semicolon", "lpar", "rpar",
    "lbracket", "rbracket", "lbrace", "rbrace", "equal", "dot", "colon", "newline", "indent", "operator", "quote",
)  # fmt: skip


@cache
def child_fields(node_type: type[cst.CSTNode]) -> tuple[str, ...]:
    """The fields that can hold code (not whitespace or punctuation), in source order."""
    return tuple(f.name for f in dataclasses.fields(node_type) if not f.name.startswith(_TRIVIA))


class Kinds(dict[type, bool]):
    """Whether a type is one of ``kinds``, or derived from one: a look-up is several times cheaper than `isinstance`."""

    def __init__(self, *kinds: type) -> None:
        self._kinds = kinds

    def __missing__(self, kind: type) -> bool:
        self[kind] = issubclass(kind, self._kinds)
        return self[kind]


_IS_NODE = Kinds(cst.CSTNode)


def children(node: cst.CSTNode) -> list[cst.CSTNode]:
    """The code directly below ``node``, in source order."""
    found: list[cst.CSTNode] = []
    for name in child_fields(type(node)):
        value = getattr(node, name)
        if _IS_NODE[kind := type(value)]:
            found.append(value)
        elif kind is tuple or kind is list:
            found += [v for v in value if _IS_NODE[type(v)]]
    return found


def walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """``node`` and all code below it, in source order."""
    stack = [node]
    while stack:
        yield (node := stack.pop())
        stack += reversed(children(node))


def walk_scope(root: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """``root`` and the code below it that runs when it does: the bodies of functions inside it are left out."""
    stack = [root]
    while stack:
        yield (node := stack.pop())
        if node is not root and type(node) is cst.FunctionDef:
            stack.extend(reversed([*node.decorators, node.params]))
        elif node is root or type(node) is not cst.Lambda:
            stack += reversed(children(node))


def dotted(node: cst.CSTNode) -> tuple[str, ...]:
    """``torch.cuda.amp`` → ("torch", "cuda", "amp"); anything that is not a plain chain → ()."""
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    return (node.value, *reversed(parts)) if isinstance(node, cst.Name) else ()


def arguments(call: cst.Call) -> Iterator[cst.BaseExpression]:
    """The argument expressions of a call."""
    yield from (arg.value for arg in call.args)


def keyword(call: cst.Call, name: str) -> cst.BaseExpression | None:
    """The value of keyword argument ``name``."""
    return next((a.value for a in call.args if a.keyword and a.keyword.value == name), None)


def target_names(target: cst.CSTNode) -> Iterator[cst.Name]:
    """The names that an assignment target binds (not attributes or subscripts)."""
    match target:
        case cst.Name():
            yield target
        case cst.Tuple() | cst.List():
            for element in target.elements:
                yield from target_names(element.value)
        case cst.StarredElement():
            yield from target_names(target.value)


def is_none(node: cst.CSTNode | None) -> bool:
    return isinstance(node, cst.Name) and node.value == "None"
