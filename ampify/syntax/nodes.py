"""LibCST's nodes, made as cheap to ask as plain objects: imported before the first of them is made.

LibCST makes its classes with `abc.ABCMeta`, so that each `isinstance` and each class pattern of a `match` is answered
in Python, and it hashes nodes in Python. No class of it has virtual subclasses, and nodes are equal by identity: the
answers of `type` and `object` are the same, in C. It was a fifth of the time of a run.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterator

import libcst as cst


class _Plain(ABCMeta):
    """The class of classes without virtual subclasses."""

    __instancecheck__ = type.__instancecheck__
    __subclasscheck__ = type.__subclasscheck__


def _kinds(kind: type[cst.CSTNode]) -> Iterator[type[cst.CSTNode]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


for _kind in {*_kinds(cst.CSTNode)}:  # type: ignore[type-abstract]
    _kind.__class__ = _Plain  # type: ignore[assignment]
    _kind.__eq__, _kind.__hash__ = object.__eq__, object.__hash__  # type: ignore[method-assign]
