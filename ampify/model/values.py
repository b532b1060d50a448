"""Functions as values: which ones a call through a name, an attribute or a table runs, and where one goes out of sight.

``partial(train, model)`` is such a value too, and a class is one that runs its constructor. What a library does with a
function that it is given is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from ampify.model.definitions import Definition, How, Place
from ampify.model.flow import MUTATORS, Flow
from ampify.syntax.walk import is_none

_PARTIAL = "functools.partial"
_AS_THEY_ARE = {"enumerate", "zip", "list", "tuple", "reversed"}
"""Built-ins that give the elements of what they are given."""

_DEEPEST = 4
"""Tables within tables: what is made of its own elements, as by ``x = x[0]``, would go on for ever."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A function on its way, and the `partial` that has filled some of its parameters."""

    function: cst.FunctionDef
    partial: cst.Call | None = None

    @property
    def filled(self) -> int:
        """How many arguments by position are there already."""
        return len([a for a in self.partial.args if a.keyword is None]) - 1 if self.partial is not None else 0


_Found = frozenset[Handed] | None
"""What a value may be; None where it may be something else as well."""


class Values:
    """The functions of the files at hand that are handed on as values."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.names = flow, flow.names
        self._at: dict[tuple[Place, int], _Found] = {}

    # ------------------------------------------------------------------ what a value may be

    def run_by(self, call: cst.Call) -> frozenset[Handed]:
        """The functions that ``call`` runs through a value; empty where others cannot be ruled out."""
        if not isinstance(call.func, cst.Name | cst.Attribute | cst.Subscript | cst.Call):
            return frozenset()
        if isinstance(call.func, cst.Name | cst.Attribute) and self.flow.named(call.func) is not None:
            return frozenset()
        return self.held(call.func) or frozenset()

    def held(self, node: cst.BaseExpression, depth: int = 0) -> _Found:
        """What ``node`` may be, or with ``depth`` what the elements of the table may be that it is."""
        match node:
            case cst.IfExp(body=one, orelse=other) | cst.BooleanOperation(left=one, right=other):
                return _both(self.held(v, depth) for v in (one, other) if not is_none(v))
            case cst.Call() if (function := self.filled(node)) is not None and depth == 0:
                return frozenset({Handed(function, node)})
            case cst.Call(func=cst.Attribute(value=table, attr=cst.Name("get")), args=[_]):
                return self.held(table, depth + 1)
            case cst.Subscript(value=table):
                return self.held(table, depth + 1)
            case cst.Dict(elements=elements) if depth:
                return _both(self.held(e.value, depth - 1) for e in elements)
            case cst.List(elements=elements) | cst.Tuple(elements=elements) if depth:
                return _both(self.held(e.value, depth - 1) for e in elements)
            case cst.Name() | cst.Attribute():
                function = self.function(node) or self._constructor(node) if depth == 0 else None
                return frozenset({Handed(function)}) if function is not None else self._kept(node, depth)
        return None

    def function(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        """The function or method that ``node`` names."""
        if isinstance(found := self.flow.named(node), cst.FunctionDef):
            return found
        match node:
            case cst.Attribute(value=cst.Name() as base, attr=cst.Name(name)) if cls := self.flow.self_class(base):
                return self.flow.method(cls, name)
        return None

    def _constructor(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        cls = self.flow.named(node)
        return self.flow.method(cls, "__init__") if isinstance(cls, cst.ClassDef) else None

    def filled(self, call: cst.Call) -> cst.FunctionDef | None:
        """The function whose parameters ``call`` fills in part."""
        if _PARTIAL not in self.names.imported(call.func) or not call.args or any(a.star for a in call.args):
            return None
        return self.function(call.args[0].value)

    def _kept(self, node: cst.Name | cst.Attribute, depth: int) -> _Found:
        place = self.flow.place(node)
        if place is None or depth > _DEEPEST:
            return None
        if (place, depth) not in self._at:
            self._at[place, depth] = None  # what is made of itself ends here
            given = [d for d in self.flow.defining(place) if d.place == place or (depth and _entry(d.place, place))]
            self._at[place, depth] = _both(self._given(d, depth - (d.place != place)) for d in given) if given else None
        return self._at[place, depth]

    def _given(self, d: Definition, depth: int) -> _Found:
        match d.how:
            case How.ASSIGN if d.value is not None:
                return self.held(d.value, depth) if not is_none(d.value) else frozenset()
            case How.CHANGE if depth and d.value is not None:
                return self.held(d.value, depth - 1)
            case How.ITERATE:
                return _both(self.held(source, depth + 1) for source in self.flow.drawn(d)) or None
            case How.PARAM if isinstance(d.function, cst.FunctionDef):
                passed = [*self.flow.passed_directly(d)]
                default = [d.value] if d.value is not None and not is_none(d.value) else []
                return _both(self.held(v, depth) for v in (*passed, *default)) if passed else None
        return None

    def left_over(
        self, call: cst.Call, function: cst.FunctionDef, index: int, plain: list[cst.Arg]
    ) -> tuple[int, list[cst.Arg]]:
        """Where the argument for parameter ``index`` is, of those by position: the first ones may be filled already."""
        if self.filled(call) is function:
            return index, plain[1:]
        filled = {h.filled for h in self.flow.handed(call) if h.function is function} or {0}
        before = filled.pop() if len(filled) == 1 else index + 1
        return (index - before, plain) if index >= before else (len(plain), plain)

    # ------------------------------------------------------------------ where a function goes

    @cached_property
    def handed(self) -> dict[cst.FunctionDef, list[cst.CSTNode]]:
        """Where each function is used as a value."""
        found: dict[cst.FunctionDef, list[cst.CSTNode]] = {}
        for function in self.flow.functions:
            for node in self.flow.body[function]:
                if (target := self._handed_around(node)) is not None:
                    found.setdefault(target, []).append(node)
        return found

    def _handed_around(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        parent = self.names.parent[node]
        match node:
            case cst.Name() if _is_value(node, parent) and not self._names_module(parent):
                target = self.function(node)
                return target if target is not None and target.name is not node else None
            case cst.Attribute(value=base) if not (isinstance(parent, cst.Call) and parent.func is node):
                cls = self.flow.instance_class(base)
                return self.function(node) or (self.flow.method(cls, node.attr.value) if cls is not None else None)
        return None

    def _names_module(self, node: cst.CSTNode | None) -> bool:
        """Whether ``node`` is an import, or a part of the path in one: a module may be called as a function is."""
        while isinstance(node, cst.Attribute):
            node = self.names.parent[node]
        return isinstance(node, cst.ImportFrom | cst.ImportAlias)

    def leaving(self, function: cst.FunctionDef, given: Collection[cst.Call] = ()) -> cst.CSTNode | None:
        """Where ``function`` is handed to code that cannot be followed; what is ``given`` its arguments may be."""
        for node in self.handed.get(function, ()):
            around = {*self.flow.tree.parents(node)}
            if (
                not any(call in around and call.args[0].value is node for call in given)
                and (out := self._out(node, 0, frozenset())) is not None
            ):
                return out
        return None

    def _out(self, node: cst.CSTNode, depth: int, seen: frozenset[tuple[Place, int]]) -> cst.CSTNode | None:
        """Where the value of ``node`` gets out of sight, whatever holds it on the way."""
        parent = self.names.parent[node]
        match parent:
            case cst.Call() if parent.func is node:
                return None
            case cst.Arg():
                return self._argument(parent, depth, seen)
            case cst.IfExp() if parent.test is not node:
                return self._out(parent, depth, seen)
            case cst.BooleanOperation():
                return self._out(parent, depth, seen)
            case cst.DictElement() | cst.Element() if (table := self.names.parent[parent]) is not None:
                return self._out(table, depth + 1, seen)
            case cst.Subscript() if parent.value is node and depth:
                return self._out(parent, depth - 1, seen)
            case cst.Attribute():
                return self._asked(parent, depth, seen) if depth else None
            case cst.For():
                return self._first_out(self._targets(parent), depth - 1, seen) if depth else parent
            case cst.Assign() | cst.AnnAssign() | cst.NamedExpr():
                return self._first_out(self._targets(parent), depth, seen)
            case cst.Comparison() | cst.ComparisonTarget() | cst.UnaryOperation() | cst.If() | cst.IfExp() | cst.Expr():
                return None
        return node

    def _asked(self, node: cst.Attribute, depth: int, seen: frozenset[tuple[Place, int]]) -> cst.CSTNode | None:
        """A method of a table: ``get`` gives an element, ``values`` a table of the same."""
        call = self.names.parent[node]
        if node.attr.value in MUTATORS | {"keys"}:
            return None
        if isinstance(call, cst.Call) and node.attr.value in ("get", "values", "items"):
            return self._out(call, depth - (node.attr.value == "get"), seen)
        return node

    def _argument(self, arg: cst.Arg, depth: int, seen: frozenset[tuple[Place, int]]) -> cst.CSTNode | None:
        call = self.names.parent[arg]
        assert isinstance(call, cst.Call)
        if self.filled(call) is not None and call.args[0] is arg:
            return self._out(call, depth, seen)
        if depth and isinstance(call.func, cst.Name) and call.func.value in _AS_THEY_ARE:
            return self._out(call, depth, seen)
        callee = self.flow.called(call)
        for param in self._parameters(callee) if callee is not None else ():
            if self.flow.argument(call, callee, param.name.value) is arg.value:  # type: ignore[arg-type]
                place = self.flow.place(param.name)
                return self._first_out([place] if place is not None else [], depth, seen)
        return call

    def _parameters(self, function: cst.FunctionDef) -> Iterator[cst.Param]:
        yield from (*function.params.posonly_params, *function.params.params, *function.params.kwonly_params)

    def _targets(self, node: cst.CSTNode) -> list[Place]:
        return [d.place for found in self.flow.definitions.values() for d in found if d.node is node]

    def _first_out(self, places: Iterable[Place], depth: int, seen: frozenset[tuple[Place, int]]) -> cst.CSTNode | None:
        for place in places:
            if (place, depth) in seen:
                continue
            for read in self._reads.get(place.path[-1], ()):
                if (
                    self.flow.place(read) != place
                    and isinstance(place.root, cst.ClassDef)
                    and isinstance(read, cst.Attribute)
                ):
                    return read  # an attribute of that name of some other object, or of this one from outside
                if self.flow.place(read) == place and (out := self._out(read, depth, seen | {(place, depth)})):
                    return out
        return None

    @cached_property
    def _reads(self) -> dict[str, list[cst.CSTNode]]:
        """Names and attributes in the places where they are read, by their last word."""
        found: dict[str, list[cst.CSTNode]] = {}
        for function in self.flow.functions:
            for node in self.flow.body[function]:
                if isinstance(node, cst.Name | cst.Attribute) and self._is_read(node):
                    word = node.value if isinstance(node, cst.Name) else node.attr.value
                    found.setdefault(word, []).append(node)
        return found

    def _is_read(self, node: cst.Name | cst.Attribute) -> bool:
        parent = self.names.parent[node]
        match parent:
            case cst.Attribute():
                return parent.attr is not node
            case cst.AssignTarget() | cst.Param() | cst.NameItem() | cst.ImportAlias() | cst.AsName():
                return False
            case cst.Arg():
                return parent.keyword is not node
            case cst.For() | cst.NamedExpr() | cst.AnnAssign():
                return parent.target is not node
        return True


def _both(found: Iterable[_Found]) -> _Found:
    """All of them, if all are known."""
    every: frozenset[Handed] = frozenset()
    for handed in found:
        if handed is None:
            return None
        every |= handed
    return every


def _entry(inner: Place, table: Place) -> bool:
    """``table["key"]``"""
    return inner.path[:-1] == table.path and inner.path[-1].startswith("[")


def _is_value(node: cst.Name, parent: cst.CSTNode | None) -> bool:
    """Whether a name is used as a value: not called, and not the word of a keyword, attribute or definition."""
    match parent:
        case cst.Call():
            return parent.func is not node
        case cst.Arg():
            return parent.keyword is not node
        case cst.Attribute():
            return parent.attr is not node
        case cst.Param() | cst.FunctionDef() | cst.ClassDef() | cst.ImportAlias() | cst.NameItem():
            return getattr(parent, "name", None) is not node
    return True
