"""Where values come from: the places that one and the same object was kept in before it got here."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model.definitions import Definition, How, Place
from ampify.model.step import Code
from ampify.syntax.walk import is_none


class Origins:
    """Follows names back through parameters, aliases, containers and wrappers such as `DistributedDataParallel`."""

    def __init__(self, code: Code) -> None:
        self.flow, self.roles = code.flow, code.roles
        self._known: dict[Place, frozenset[Place]] = {}
        self.blurred: set[Place] = set()
        """Parameters that get different objects from different calls."""
        self.elements: set[Place] = set()
        """Containers, and what else was gone through, of which one object after the other is taken."""

    def of(self, node: cst.CSTNode | Place | None) -> frozenset[Place]:
        """The first places of the object that ``node`` stands for; empty where it is kept nowhere."""
        place = node if isinstance(node, Place) or node is None else self.flow.place(node)
        return self._of(place) if place is not None else frozenset()

    def _of(self, place: Place) -> frozenset[Place]:
        if place not in self._known:
            self._known[place] = frozenset({_kept(place)})  # a cycle ends here
            before = frozenset().union(*(self._of(p) for p in dict.fromkeys(self._sources(place))))
            self._known[place] = before or frozenset({_kept(place)})
            if _kept(place) != place or any(d.how is How.ITERATE for d in self._definitions(place)):
                self.elements |= self._known[place]
        return self._known[place]

    def _sources(self, place: Place) -> Iterator[Place]:
        for d in self._definitions(place):
            values = [*self._values(d)]
            found = [p for v in values if (p := self.flow.place(v)) is not None]
            if d.how is How.PARAM and len({q for p in found for q in self._of(p)}) > 1:
                self.blurred.add(place)
            yield from found
        if (whole := _kept(place)) != place:
            yield whole

    def _definitions(self, place: Place) -> list[Definition]:
        return [d for d in self.flow.assigned(place) if d.how is How.PARAM or not is_none(d.value)]

    def _values(self, d: Definition) -> Iterator[cst.BaseExpression]:
        if d.how is How.PARAM:
            yield from self.flow.passed(d)
        elif d.how in (How.ASSIGN, How.ITERATE) and d.value is not None:
            yield from self._same(d.value)

    def _same(self, value: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
        """The parts of an expression that its result is, holds, or wraps."""
        match value:
            case cst.Name() | cst.Attribute() | cst.Subscript():
                yield value
            case cst.List() | cst.Tuple():
                yield from (inner for e in value.elements for inner in self._same(e.value))
            case cst.Call(func=cst.Name(value="zip" | "enumerate" | "reversed" | "list" | "tuple"), args=args):
                yield from (inner for a in args for inner in self._same(a.value))
            case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value="values" | "items" | "to" | "cuda"))):
                yield from self._same(inner)
            case cst.Call(args=[first, *_]) if self.roles.of(first.value) is not None:
                if self.roles.of(value) is self.roles.of(first.value):
                    yield from self._same(first.value)


def _kept(place: Place) -> Place:
    """A container stands for what is in it."""
    path = place.path
    while len(path) > 1 and path[-1].startswith("["):
        path = path[:-1]
    return Place(place.root, path)


def related(some: frozenset[Place], others: frozenset[Place]) -> bool:
    """Whether two values may be one object, or one a part of the other."""
    return any(a.touches(b) for a in some for b in others)
