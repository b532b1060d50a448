"""Values on their way through one file: where they are kept, which definitions reach a use, who calls whom."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model.definitions import Definition, How, Place
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.names import Bound, Scope
from ampify.syntax.tree import Tree
from ampify.syntax.walk import Kinds, children, dotted, is_none, walk_scope

if TYPE_CHECKING:
    from ampify.model.values import Handed, Values

MUTATORS = {"append", "extend", "insert", "add", "update", "appendleft", "put", "push", "setdefault", "add_", "sub_"}


_DEFINES = Kinds(cst.Assign, cst.AnnAssign, cst.NamedExpr, cst.AugAssign, cst.For, cst.With, cst.Param, cst.Call)

_Classes = dict[Place | cst.FunctionDef, cst.ClassDef | None]
"""What is known of the classes of places and of what functions return; None too while it is being found out."""


class Flow:
    """Places, definitions and calls of one file."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.names = tree, tree.names
        self.functions: list[Function] = [*tree.modules, *tree.all(cst.FunctionDef)]
        self.classes = tree.all(cst.ClassDef)
        self.calls = tree.all(cst.Call)
        self.body: dict[Function, list[cst.CSTNode]] = {}
        self._owner: dict[cst.CSTNode, Function] = {}
        for module in tree.modules:
            bodies, owner = blocks.bodies(module)
            self.body |= bodies
            self._owner |= owner
        self._named: dict[cst.CSTNode, cst.FunctionDef | cst.ClassDef | None] = {}
        self._plain: dict[cst.Call, cst.FunctionDef | None] = {}
        self._callees: dict[cst.Call, cst.FunctionDef | None] = {}
        self._handed: dict[cst.Call, frozenset[Handed]] = {}
        self._inside: dict[cst.CSTNode, tuple[cst.CSTNode, ...]] = {}
        self._calls_inside: dict[cst.CSTNode, list[cst.Call]] = {}
        self._places: dict[cst.CSTNode, Place | None] = {}
        self._reaching: dict[tuple[Place, cst.CSTNode], list[Definition]] = {}
        self._instances: dict[Place, cst.ClassDef | None] = {}
        self._reachable: dict[Function, tuple[cst.FunctionDef, ...]] = {}
        self._given: dict[Definition, tuple[cst.BaseExpression, ...]] = {}

    def function(self, node: cst.CSTNode) -> Function:
        """The function whose code ``node`` is part of."""
        if (found := self._owner.get(node)) is not None and not isinstance(node, cst.FunctionDef):
            return found
        return blocks.function_of(self.tree, node)

    # ------------------------------------------------------------------ places

    def place(self, node: cst.CSTNode) -> Place | None:
        """Where the value of a name, attribute chain or subscript is kept; None for any other expression."""
        if not isinstance(node, cst.Name | cst.Attribute | cst.Subscript):
            return None
        if node not in self._places:
            self._places[node] = self._place(node)
        return self._places[node]

    def _place(self, node: cst.Name | cst.Attribute | cst.Subscript) -> Place | None:
        if not isinstance(node, cst.Subscript) and (origin := self.names.origin(node)) and origin[1]:
            return Place(*origin)
        match node:
            case cst.Name(value=name):
                scope = self.names.scope[node].find(name)
                own = scope.node if scope else None  # of a class: what its instances have
                return Place(self.family(own) if isinstance(own, cst.ClassDef) else scope, (name,)) if scope else None
            case cst.Attribute(value=cst.Name() as base, attr=cst.Name(value=name)) if cls := self.self_class(base):
                return Place(self.family(cls), (name,))
            case cst.Attribute(value=base, attr=cst.Name(value=name)):
                inner = self.place(base)
                return Place(inner.root, (*inner.path, name)) if inner else None
            case cst.Subscript(value=base):
                inner = self.place(base)
                return Place(inner.root, (*inner.path, _key(node))) if inner else None
        return None

    def self_class(self, name: cst.Name) -> cst.ClassDef | None:
        """The class whose instance ``name`` is, where it is the first parameter of a method."""
        match self.names.scope[name].lookup(name.value):
            case [binding] if binding.how is Bound.PARAM:
                function = next(
                    p for p in self.tree.parents(binding.node) if isinstance(p, cst.FunctionDef | cst.Lambda)
                )
                if isinstance(function, cst.FunctionDef) and (cls := blocks.method_class(self.tree, function)):
                    static = any(dotted(d.decorator) == ("staticmethod",) for d in function.decorators)
                    first = next(iter(params(function)), None)
                    return cls if first is binding.node and not static else None
        return None

    def family(self, cls: cst.ClassDef) -> cst.ClassDef:
        """The topmost base class of ``cls`` that stands in this file: attributes are shared along inheritance."""
        seen = [cls]
        while (base := next(iter(self.bases(seen[-1])), None)) is not None and base not in seen:
            seen.append(base)
        return seen[-1]

    def bases(self, cls: cst.ClassDef) -> Iterator[cst.ClassDef]:
        for arg in cls.bases:
            if isinstance(found := self.named(arg.value), cst.ClassDef):
                yield found

    def named(self, node: cst.CSTNode) -> cst.FunctionDef | cst.ClassDef | None:
        """The function or class that a name stands for, if it can only be that one of the files at hand."""
        if node not in self._named:
            self._named[node] = self._stands_for(node)
        return self._named[node]

    def _stands_for(self, node: cst.CSTNode) -> cst.FunctionDef | cst.ClassDef | None:
        match self.names.bindings(node):
            case [binding] if isinstance(binding.node, cst.FunctionDef | cst.ClassDef):
                return binding.node
        return None

    # ------------------------------------------------------------------ definitions

    @cached_property
    def definitions(self) -> dict[Scope | cst.ClassDef, list[Definition]]:
        """All definitions of the file by root, in source order."""
        found: dict[Scope | cst.ClassDef, list[Definition]] = {}
        for function in self.functions:
            for node in (n for n in self.body[function] if _DEFINES[type(n)]):
                for definition in self._define(node, function):
                    found.setdefault(definition.place.root, []).append(definition)
        return found

    def defining(self, place: Place) -> Iterator[Definition]:
        """Every definition, anywhere in the file, that may change what is read from ``place``."""
        return (d for d in self._by_name.get((place.root, place.path[0]), ()) if d.place.touches(place))

    def assigned(self, place: Place) -> Iterator[Definition]:
        """Every definition of exactly ``place``."""
        return iter(self._by_place.get(place, ()))

    @cached_property
    def _by_name(self) -> dict[tuple[Scope | cst.ClassDef, str], list[Definition]]:
        """All definitions by root and first name."""
        found: dict[tuple[Scope | cst.ClassDef, str], list[Definition]] = {}
        for root, definitions in self.definitions.items():
            for d in definitions:
                found.setdefault((root, d.place.path[0]), []).append(d)
        return found

    @cached_property
    def _by_place(self) -> dict[Place, list[Definition]]:
        found: dict[Place, list[Definition]] = {}
        for definitions in self.definitions.values():
            for d in definitions:
                found.setdefault(d.place, []).append(d)
        return found

    def _define(self, node: cst.CSTNode, function: Function) -> Iterator[Definition]:
        match node:
            case cst.Assign():
                for target in node.targets:
                    yield from self._targets(target.target, node.value, How.ASSIGN, node, function)
            case cst.AnnAssign(value=cst.BaseExpression() as value):
                yield from self._targets(node.target, value, How.ASSIGN, node, function)
            case cst.NamedExpr():
                statement = blocks.small_statement_of(self.tree, node)
                yield from self._targets(node.target, node.value, How.ASSIGN, statement, function)
            case cst.AugAssign():
                yield from self._targets(node.target, node.value, How.CHANGE, node, function)
            case cst.For():
                yield from self._targets(node.target, node.iter, How.ITERATE, node, function)
            case cst.With():
                for item in node.items:
                    if item.asname is not None:
                        yield from self._targets(item.asname.name, item.item, How.OTHER, node, function)
            case cst.Param() if not isinstance(self.names.scope[node].node, cst.Lambda):
                if (place := self.place(node.name)) is not None:
                    owner = self.names.scope[node].node
                    if isinstance(owner, cst.FunctionDef):
                        yield Definition(place, How.PARAM, node, node.default, owner)
            case cst.Call(func=cst.Attribute(value=receiver, attr=cst.Name(value=method))) if method in MUTATORS:
                if (place := self.place(receiver)) is not None and node.args:
                    statement = blocks.small_statement_of(self.tree, node)
                    for arg in node.args:
                        yield Definition(place, How.CHANGE, statement, arg.value, function)

    def _targets(
        self, target: cst.CSTNode, value: cst.BaseExpression, how: How, node: cst.CSTNode, function: Function
    ) -> Iterator[Definition]:
        match target:
            case cst.Tuple() | cst.List():
                paired = isinstance(value, cst.Tuple | cst.List) and len(value.elements) == len(target.elements)
                for i, element in enumerate(target.elements):
                    if paired and isinstance(value, cst.Tuple | cst.List) and how is How.ASSIGN:
                        yield from self._targets(element.value, value.elements[i].value, how, node, function)
                    else:
                        inner = How.UNPACK if how is How.ASSIGN else how
                        yield from self._targets(element.value, value, inner, node, function)
            case cst.StarredElement():
                yield from self._targets(target.value, value, How.UNPACK, node, function)
            case cst.Subscript() if how is How.ASSIGN and (place := self.place(target)):
                how = How.ASSIGN if not place.path[-1].endswith("*]") else How.CHANGE
                yield Definition(place, how, node, value, function)
            case _ if (place := self.place(target)) is not None:
                yield Definition(place, how, node, value, function)

    def drawn(self, d: Definition) -> Iterator[cst.BaseExpression]:
        """The containers whose elements a loop gives to its target, `zip`, `enumerate` and the like looked through."""
        if isinstance(d.node, cst.For):
            yield from self.drawn_by(d.node.target, d.node.iter, d.place)

    def drawn_by(self, target: cst.CSTNode, source: cst.BaseExpression, place: Place) -> Iterator[cst.BaseExpression]:
        """The containers whose elements ``target`` takes one after the other, for what is kept at ``place``."""
        match target, source:
            case cst.Tuple() | cst.List(), cst.Call(func=func, args=args) if self._pairs(func):
                for element, arg in zip(target.elements, args, strict=False):
                    yield from self.drawn_by(element.value, arg.value, place)
            case cst.Tuple(elements=[_, element]), cst.Call(func=cst.Name(value="enumerate"), args=[arg, *_]):
                yield from self.drawn_by(element.value, arg.value, place)
            case cst.Tuple(elements=[_, element]), cst.Call(func=cst.Attribute(value=inner, attr=cst.Name("items"))):
                yield from self.drawn_by(element.value, inner, place)
            case _, cst.Call(func=cst.Attribute(value=inner, attr=cst.Name("values"))) if self.place(target) == place:
                yield inner
            case _, cst.List() | cst.Tuple() if self.place(target) == place:
                yield from (element.value for element in source.elements)
            case _, cst.Call(args=args) if self.place(target) == place:
                yield from (arg.value for arg in args)
            case _ if self.place(target) == place:
                yield source

    def _pairs(self, func: cst.BaseExpression) -> bool:
        """Whether a function gives tuples with one element of each of its arguments."""
        plain = isinstance(func, cst.Name) and func.value == "zip"
        return plain or "itertools.product" in self.names.imported(func)

    def reaching(self, place: Place, use: cst.CSTNode) -> list[Definition]:
        """The definitions whose value ``place`` may hold at statement ``use``."""
        if (place, use) not in self._reaching:
            self._reaching[place, use] = self._reach(place, use)
        return self._reaching[place, use]

    def _reach(self, place: Place, use: cst.CSTNode) -> list[Definition]:
        function = self.function(use)
        here = [d for d in self.defining(place) if d.function is function]
        before: list[Definition] = []
        after: list[Definition] = []
        at = self.tree.span(use).start
        for d in here:
            early = isinstance(d.node, cst.Param) or self.tree.span(d.node).start < at
            (before if early and not self.exclusive(d.node, use) else after).append(d)
        killer = next((d for d in reversed(before) if d.gives(place) and self.dominates(d, use)), None)
        live = before[before.index(killer) :] if killer else before
        live = [d for d in live if not any(self._overwrites(other, d, place) for other in live)]
        for loop in blocks.loops(self.tree, use):
            if killer is not None and self.tree.contains(loop, killer.node):
                break
            live += [d for d in after if d not in live and self.tree.contains(loop, d.node)]
        local = any(d.gives(place) or d.how is How.PARAM for d in live) and not isinstance(place.root, cst.ClassDef)
        if not local and killer is None:
            live += [d for d in self.defining(place) if d.function is not function]
        return live

    def dominates(self, d: Definition, use: cst.CSTNode) -> bool:
        """Whether ``use`` is only reached past ``d``: it stands below ``d`` in the block of ``d`` or deeper."""
        if self.tree.span(d.node).start > self.tree.span(use).start:
            return False
        if isinstance(d.node, cst.For):
            return self.tree.contains(d.node.body, use)
        return d.node is not use and self.tree.contains(blocks.surely_run_in(self.tree, d.node), use)

    def _overwrites(self, later: Definition, d: Definition, place: Place) -> bool:
        """Whether nothing of ``d`` is left after ``later``, which stands below it in its block or an outer one."""
        if later is d or not later.gives(place) or isinstance(d.node, cst.Param) or isinstance(later.node, cst.For):
            return False
        below = self.tree.span(d.node).start < self.tree.span(later.node).start
        return below and self.tree.contains(blocks.surely_run_in(self.tree, later.node), d.node)

    def exclusive(self, a: cst.CSTNode, b: cst.CSTNode) -> bool:
        """Whether ``a`` and ``b`` stand in different branches of one ``if``."""
        if isinstance(a, cst.Param):
            return False
        above = {id(p): p for p in self.tree.parents(a)}
        child: cst.CSTNode = b
        for parent in self.tree.parents(b):
            if id(parent) in above:
                if not isinstance(parent, cst.If):
                    return False
                return child is not parent.test and not self.tree.contains(parent.test, a)
            child = parent
        return False

    def inside(self, node: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
        """``node`` and the code below it that runs when it does."""
        if node not in self._inside:
            self._inside[node] = tuple(walk_scope(node))
        return self._inside[node]

    def calls_inside(self, node: cst.CSTNode) -> list[cst.Call]:
        """The calls among the code below ``node`` that runs when it does."""
        if node not in self._calls_inside:
            self._calls_inside[node] = [n for n in self.inside(node) if isinstance(n, cst.Call)]
        return self._calls_inside[node]

    # ------------------------------------------------------------------ reads

    def reads(self, node: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, Place]]:
        """The places that an expression (or a simple statement's value) reads, as the longest chains."""
        stack = [node]
        while stack:
            current = stack.pop()
            if isinstance(current, cst.Name | cst.Attribute | cst.Subscript):
                if (place := self.place(current)) is not None:
                    yield current, place
                if isinstance(current, cst.Subscript):
                    stack.extend(current.slice)
                    stack.append(current.value)
                    continue
                if isinstance(current, cst.Attribute) and not dotted(current):
                    stack.append(current.value)
                continue
            stack.extend(operands(current))

    # ------------------------------------------------------------------ calls

    def callee(self, call: cst.Call) -> cst.FunctionDef | None:
        """The function of this file that ``call`` runs, if that can be said: by name, ``self.method``, method of an
        object whose class is known, or through a value that can only be that function."""
        if (found := self.called(call)) is not None:
            return found
        functions = {handed.function for handed in self.handed(call)}
        return functions.pop() if len(functions) == 1 else None

    def called(self, call: cst.Call) -> cst.FunctionDef | None:
        """The function of this file that ``call`` names."""
        if call not in self._callees:
            self._callees[call] = self._plain_callee(call) or self._method_callee(call)
        return self._callees[call]

    def handed(self, call: cst.Call) -> frozenset[Handed]:
        """The functions of this file that ``call`` may run through a value, where all of them are known."""
        if call not in self._handed:
            self._handed[call] = self.values.run_by(call) if self.called(call) is None else frozenset()
        return self._handed[call]

    @cached_property
    def values(self) -> Values:
        from ampify.model.values import Values  # it is made of a flow

        return Values(self)

    def _plain_callee(self, call: cst.Call) -> cst.FunctionDef | None:
        if call not in self._plain:
            self._plain[call] = self._callee_by_name(call)
        return self._plain[call]

    def _callee_by_name(self, call: cst.Call) -> cst.FunctionDef | None:
        match call.func:
            case cst.Name() | cst.Attribute() if (found := self.named(call.func)) is not None:
                return self.method(found, "__init__") if isinstance(found, cst.ClassDef) else found
            case cst.Attribute(value=cst.Call(func=cst.Name(value="super")), attr=cst.Name(value=attr)):
                cls = blocks.class_of(self.tree, call)
                return next((m for b in self.bases(cls) if (m := self.method(b, attr))), None) if cls else None
            case cst.Attribute(value=cst.Name() as base, attr=cst.Name(value=attr)) if cls := self.self_class(base):
                return self._implemented(cls, attr)
            case cst.Attribute(value=cst.Name() as base, attr=cst.Name(value=attr)):
                owner = self.named(base)
                return self.method(owner, attr) if isinstance(owner, cst.ClassDef) else None
        return None

    def _method_callee(self, call: cst.Call) -> cst.FunctionDef | None:
        func = call.func
        if isinstance(func, cst.Attribute) and not self.names.imported(func.value):
            cls = self.instance_class(func.value)
            found = self.method(cls, func.attr.value) if cls is not None else None
            if found is not None:
                return found
        if isinstance(func, cst.Name | cst.Attribute) and (cls := self.instance_class(func)) is not None:
            return self.method(cls, "forward") or self.method(cls, "__call__")
        return None

    def instance_class(self, node: cst.CSTNode) -> cst.ClassDef | None:
        """The class of this file that the value of ``node`` is an instance of, from its one constructor call."""
        place = self.place(node)
        if place is None:
            return None
        if place not in self._instances:
            self._instances[place] = self._class_of(place, {})
        return self._instances[place]

    def _class_of(self, place: Place, known: _Classes) -> cst.ClassDef | None:
        if place not in known:
            known[place] = None
            found = {self._made(d, known) for d in self.assigned(place) if d.how in (How.ASSIGN, How.PARAM)}
            found.discard(None)
            known[place] = found.pop() if len(found) == 1 else None
        return known[place]

    def _made(self, d: Definition, known: _Classes) -> cst.ClassDef | None:
        if d.how is How.PARAM:
            made = {self._value_class(arg, known) for arg in self._passed(d, self._plain_sites)}
            made.discard(None)
            return made.pop() if len(made) == 1 else None
        return self._value_class(d.value, known) if d.value is not None else None

    def _value_class(self, value: cst.CSTNode, known: _Classes) -> cst.ClassDef | None:
        match value:
            case cst.Call(func=cst.Attribute(value=inner) as func) if not (
                self.named(func) or self.names.imported(func)
            ):
                return self._value_class(inner, known)
            case cst.Call(func=func):
                match self.named(func):
                    case cst.ClassDef() as made:
                        return made
                    case cst.FunctionDef() as function if (found := self._returned_class(function, known)) is not None:
                        return found
                return self._value_class(value.args[0].value, known) if value.args else None
            case cst.Name() | cst.Attribute() if place := self.place(value):
                return self._class_of(place, known)
        return None

    def _returned_class(self, function: cst.FunctionDef, known: _Classes) -> cst.ClassDef | None:
        if function not in known:
            known[function] = None
            found = {self._value_class(r.value, known) for r in self.returns(function) if r.value is not None}
            known[function] = found.pop() if len(found) == 1 else None
        return known[function]

    def method(self, cls: cst.ClassDef, name: str) -> cst.FunctionDef | None:
        """The method ``name`` of a class, looked up along its bases in this file."""
        for node in cls.body.body:
            if isinstance(node, cst.FunctionDef) and node.name.value == name:
                return node
        return next((m for base in self.bases(cls) if base is not cls and (m := self.method(base, name))), None)

    def _implemented(self, cls: cst.ClassDef, name: str) -> cst.FunctionDef | None:
        """What ``self.name()`` runs in ``cls``: for a method that is left to subclasses, that of the only one."""
        method = self.method(cls, name)
        if method is None or not blocks.abstract(method):
            return method
        below = (c for c in self.classes if c is not cls and self.family(c) is self.family(cls))
        own = (n for c in below for n in c.body.body if isinstance(n, cst.FunctionDef) and n.name.value == name)
        found = [n for n in own if not blocks.abstract(n)]
        return found[0] if len(found) == 1 else method

    def overridden(self, function: cst.FunctionDef) -> Iterator[cst.FunctionDef]:
        """A function, and those that override it in a subclass of this file."""
        yield function
        if (owner := blocks.method_class(self.tree, function)) is not None:
            for cls in self.classes:
                if cls is not owner and self.family(cls) is self.family(owner):
                    method = self.method(cls, function.name.value)
                    if method is not None and method is not function:
                        yield method

    @cached_property
    def _plain_sites(self) -> dict[cst.FunctionDef, list[cst.Call]]:
        """Calls that need no knowledge of classes to be followed: with it, classes are found."""
        found: dict[cst.FunctionDef, list[cst.Call]] = {}
        for call in self.calls:
            if (function := self._plain_callee(call)) is not None:
                found.setdefault(function, []).append(call)
        return found

    @cached_property
    def _direct_sites(self) -> dict[cst.FunctionDef, list[cst.Call]]:
        """Calls by name, or of a method of an object."""
        found: dict[cst.FunctionDef, list[cst.Call]] = {}
        for call in self.calls:
            if (function := self.called(call)) is not None:
                found.setdefault(function, []).append(call)
        return found

    @cached_property
    def sites(self) -> dict[cst.FunctionDef, list[cst.Call]]:
        """The calls of each function of the file, through values and by `partial` too."""
        found = {function: [*calls] for function, calls in self._direct_sites.items()}
        for call in self.calls:
            for function in {h.function: None for h in self.handed(call)}:
                found.setdefault(function, []).append(call)
            if (filled := self.values.filled(call)) is not None:
                found.setdefault(filled, []).append(call)
        return found

    def passed(self, parameter: Definition) -> tuple[cst.BaseExpression, ...]:
        """What the calls in this file pass for a parameter."""
        if parameter not in self._given:
            self._given[parameter] = tuple(self._passed(parameter, self.sites))
        return self._given[parameter]

    def passed_directly(self, parameter: Definition) -> Iterator[cst.BaseExpression]:
        """What calls by name, and of methods of objects, pass for a parameter."""
        return self._passed(parameter, self._direct_sites)

    def _passed(
        self, parameter: Definition, sites: dict[cst.FunctionDef, list[cst.Call]]
    ) -> Iterator[cst.BaseExpression]:
        function = parameter.function
        if isinstance(function, cst.FunctionDef) and isinstance(parameter.node, cst.Param):
            for call in sites.get(function, ()):
                if (value := self.argument(call, function, parameter.node.name.value)) is not None:
                    yield value

    def argument(self, call: cst.Call, function: cst.FunctionDef, name: str) -> cst.BaseExpression | None:
        """What ``call`` passes for parameter ``name`` of ``function``."""
        if (given := next((a.value for a in call.args if a.keyword and a.keyword.value == name), None)) is not None:
            return given
        positional = [p.name.value for p in (*function.params.posonly_params, *function.params.params)]
        if self.bound(call, function):
            positional = positional[1:]
        if name not in positional:
            return None
        index = positional.index(name)
        plain = [a for a in call.args if a.keyword is None]
        if self.called(call) is not function:
            index, plain = self.values.left_over(call, function, index, plain)
        if any(a.star for a in plain[: index + 1]) or index >= len(plain):
            return None
        return plain[index].value

    def bound(self, call: cst.Call, function: cst.FunctionDef) -> bool:
        """Whether the first parameter is filled by the object: a method called on an instance, or a constructor."""
        if blocks.method_class(self.tree, function) is None:
            return False
        if any(dotted(d.decorator) == ("staticmethod",) for d in function.decorators):
            return False
        by_class = isinstance(call.func, cst.Attribute) and isinstance(self.named(call.func.value), cst.ClassDef)
        return not by_class

    def returns(self, function: cst.FunctionDef) -> Iterator[cst.Return]:
        return (n for n in self.body[function] if isinstance(n, cst.Return) and n.value is not None)

    @cached_property
    def calls_in(self) -> dict[Function, list[cst.Call]]:
        """The calls in the code of each function."""
        return {function: [n for n in body if isinstance(n, cst.Call)] for function, body in self.body.items()}

    @cached_property
    def generators(self) -> set[Function]:
        return {function for function, body in self.body.items() if any(isinstance(n, cst.Yield) for n in body)}

    def reachable(self, function: Function) -> tuple[cst.FunctionDef, ...]:
        """The functions of this file that run when ``function`` runs, as far as calls can be followed."""
        if function not in self._reachable:
            self._reachable[function] = tuple(self._run_by(function))
        return self._reachable[function]

    def _run_by(self, function: Function) -> Iterator[cst.FunctionDef]:
        seen: set[cst.CSTNode] = {function}
        stack: list[Function] = [function]
        while stack:
            for call in self.calls_in[stack.pop()]:
                if (target := self.callee(call)) is not None and target not in seen:
                    seen.add(target)
                    stack.append(target)
                    yield target


def params(function: cst.FunctionDef) -> Iterator[cst.Param]:
    """The parameters of a function, ``*args`` and ``**kwargs`` left out."""
    p = function.params
    yield from (*p.posonly_params, *p.params, *p.kwonly_params)


def _key(node: cst.Subscript) -> str:
    match node.slice:
        case [cst.SubscriptElement(slice=cst.Index(value=(cst.SimpleString() | cst.Integer()) as key))]:
            text = key.evaluated_value if isinstance(key, cst.SimpleString) else key.value
            return f"[{text!r}]"
    return "[*]"


def operands(node: cst.CSTNode) -> list[cst.CSTNode]:
    """The expressions below ``node`` that it reads; keyword names and lambda parameters are not read."""
    match node:
        case cst.Arg():
            return [node.value]
        case cst.Lambda():
            return [node.body]
        case cst.Assign() | cst.AnnAssign():
            return [node.value] if node.value is not None else []
        case cst.AugAssign():
            return [node.target, node.value]
        case cst.Param() | cst.Parameters() | cst.FunctionDef() | cst.ClassDef() | cst.Import() | cst.ImportFrom():
            return []
    return children(node)


def unwrapped(definitions: list[Definition]) -> list[Definition]:
    """The definitions that give a real value (``self.optimizer = None`` gives none)."""
    return [d for d in definitions if not is_none(d.value)]
