"""LibCST's nodes, made as cheap to ask as plain objects where ampify owns the process.

LibCST makes its classes with `abc.ABCMeta`, so that each `isinstance` and each class pattern of a `match` is answered
in Python, and it compares and hashes nodes in Python. None of its classes has virtual subclasses, and nodes are equal
by identity: the answers of `type` and `object` are the same, in C. It saves a seventh of the time of a check.

Others who use LibCST in the same process could tell: virtual subclasses that they register would count no longer, and
their own metaclasses would not go with ours. So this is for the command line, not for `import ampify`.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Iterator

import libcst as cst

from ampify import syntax


class _Plain(ABCMeta):
    """The class of classes without virtual subclasses."""

    __instancecheck__ = type.__instancecheck__
    __subclasscheck__ = type.__subclasscheck__


def kinds(kind: type[cst.CSTNode] = cst.CSTNode) -> Iterator[type[cst.CSTNode]]:
    """The classes that LibCST itself makes; those derived from several come several times."""
    if kind.__module__.startswith("libcst."):
        yield kind
        for below in type.__subclasses__(kind):
            yield from kinds(below)


def quicken() -> None:
    """Make them cheap to ask, in the whole process and for good."""
    for kind in {*kinds()}:
        kind.__class__ = _Plain  # type: ignore[assignment]
        kind.__eq__, kind.__hash__ = object.__eq__, object.__hash__  # type: ignore[method-assign]


if syntax.owned:
    quicken()
