"""Objects of the file's own classes: which class made what an expression stands for, where its attributes are kept."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model import records
from ampify.model import vocabulary as words
from ampify.model.definitions import Definition, How, Place
from ampify.model.flow import Flow


class Instances:
    """The objects of one file. A class is only told where every value that is seen was made by it."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self._known: dict[Place, cst.ClassDef | None] = {}
        self._returned: dict[cst.FunctionDef, cst.ClassDef | None] = {}

    def place(self, node: cst.CSTNode) -> Place | None:
        """Where a value is kept: ``agent.optimizer`` in the same place as ``self.optimizer`` of its class."""
        return self.attribute(node) or self.flow.place(node)

    def attribute(self, node: cst.CSTNode) -> Place | None:
        """The attribute of a class of the file that ``node`` reads from outside of its methods."""
        match node:
            case cst.Attribute(value=owner, attr=cst.Name(value=name)) if (cls := self.of(owner)) is not None:
                return Place(cls, (name,))
        return None

    def of(self, node: cst.CSTNode) -> cst.ClassDef | None:
        """The topmost class, of those in this file, of the object that ``node`` stands for."""
        match node:
            case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in words.SAME_OBJECT:
                return self.of(inner)
            case cst.Call(func=func):
                return self._made(self.flow.named(func))
            case cst.Name() | cst.Attribute():
                place = self.place(node)
                return self._at(place) if place is not None else None
        return None

    def makers(self, node: cst.CSTNode) -> list[cst.Call]:
        """The calls that may have given the value of a name or attribute, through names and arguments."""
        found: list[cst.Call] = []
        seen: set[Place] = set()
        stack = [node]
        while stack:
            value = stack.pop()
            if isinstance(value, cst.Call):
                found.append(value)
            elif (place := self.place(value)) is not None and place not in seen:
                seen.add(place)
                for d in self.flow.assigned(place):
                    given = [*self.flow.passed(d)] if d.how is How.PARAM else [d.value]
                    stack += [v for v in given if v is not None]
        return found

    def in_record(self, node: cst.Attribute) -> bool:
        """Whether ``node`` is a field of a record, given to the constructor of the record."""
        return any(node.attr.value in records.given(self.flow, call) for call in self.makers(node.value))

    def _made(self, maker: cst.FunctionDef | cst.ClassDef | None) -> cst.ClassDef | None:
        match maker:
            case cst.ClassDef():
                return self.flow.family(maker)
            case cst.FunctionDef() if maker not in self._returned:
                self._returned[maker] = None  # a function that returns what it returns ends here
                found = {self.of(r.value) for r in self.flow.returns(maker) if r.value is not None}
                self._returned[maker] = _only(found)
        return self._returned.get(maker) if isinstance(maker, cst.FunctionDef) else None

    def _at(self, place: Place) -> cst.ClassDef | None:
        if place not in self._known:
            self._known[place] = None  # a cycle ends here
            self._known[place] = _only({self.of(v) if v is not None else None for v in self._values(place)})
        return self._known[place]

    def _values(self, place: Place) -> Iterator[cst.BaseExpression | None]:
        """All that a place is given; None for what cannot be seen."""
        for d in self.flow.assigned(place):
            match d:
                case Definition(how=How.PARAM, function=cst.FunctionDef() as function, node=cst.Param() as param):
                    for call in self.flow.sites.get(function, ()):
                        yield self.flow.argument(call, function, param.name.value)
                case Definition(how=How.ASSIGN):
                    yield d.value
                case _:
                    yield None


def _only(classes: set[cst.ClassDef | None]) -> cst.ClassDef | None:
    return classes.pop() if len(classes) == 1 else None
