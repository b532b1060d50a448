"""Where values are kept, and what gives a place its value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

import libcst as cst

from ampify.syntax.blocks import Function

if TYPE_CHECKING:
    from ampify.syntax.names import Scope


class Place(NamedTuple):
    """Where a value is kept: a name of a scope, or an attribute of the instances of a class (``self.x``).

    Further attributes and subscripts follow in ``path``; a subscript that is not a constant is ``[*]``.
    """

    root: Scope | cst.ClassDef
    path: tuple[str, ...]

    def touches(self, other: Place) -> bool:
        """Whether writing one may change what is read from the other."""
        n = min(len(self.path), len(other.path))
        return self.root is other.root and self.path[:n] == other.path[:n]


class How(Enum):
    """How a definition gives its place a value."""

    ASSIGN = auto()
    UNPACK = auto()
    ITERATE = auto()
    PARAM = auto()
    CHANGE = auto()
    """In place: ``x += …``, ``x[k] = …``, ``x.append(…)``."""
    OTHER = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """One statement (or parameter) that gives ``place`` a value made from ``value``."""

    place: Place
    how: How
    node: cst.CSTNode
    """The statement; a `cst.Param` for parameters."""
    value: cst.BaseExpression | None
    function: Function

    def gives(self, place: Place) -> bool:
        """Whether ``place`` has a new value after this, whatever it had before."""
        whole = self.place.root is place.root and self.place.path == place.path[: len(self.place.path)]
        return whole and self.how in (How.ASSIGN, How.UNPACK, How.ITERATE)
