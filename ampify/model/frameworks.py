"""Where a file leaves its training to a framework: what it builds, derives and calls. The frameworks are a table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst

from ampify.model.definitions import Definition, How, Place
from ampify.model.flow import Flow, params
from ampify.model.instances import Instances
from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.tree import Tree
from ampify.syntax.walk import arguments, dotted


@dataclass(frozen=True, slots=True, eq=False)
class Framework:
    """A row of the table, which says what the fields mean."""

    name: str
    packages: tuple[str, ...]
    how: str
    makes: Mapping[str, list[str]] = field(default_factory=dict)
    derives: Mapping[str, list[str]] = field(default_factory=dict)
    settled: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    without: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    argument: str | None = None
    method: str | None = None
    entry: tuple[str, str] | None = None

    @property
    def answer(self) -> str:
        """What to do for mixed precision."""
        return f"mixed precision is the business of {self.name} here; {self.how} switches it on"

    def names(self, paths: Iterable[str]) -> set[str]:
        """The names along those paths that are in its packages."""
        return {name for path in paths if _root(path) in self.packages for name in path.split(".")[1:]}

    def trains(self, paths: Iterable[str]) -> bool:
        """Whether one of the paths is to what trains: to what builds or types the object, or to a base class."""
        return not self.trained.isdisjoint(self.names(paths))

    @property
    def trained(self) -> frozenset[str]:
        """The names of what builds or types the object that trains, and of base classes."""
        return frozenset((*self.makes, *self.types, *self.derives))


_TABLE = Path(__file__).with_suffix(".toml")
FRAMEWORKS = tuple(Framework(name, **row) for name, row in tomllib.loads(_TABLE.read_text("utf-8")).items())
PACKAGES = {package for framework in FRAMEWORKS for package in framework.packages}


@dataclass(frozen=True, slots=True, eq=False)
class FrameworkCall:
    """A call of what a framework exports: ``Trainer(max_epochs=3)``."""

    span: Span
    node: cst.Call
    paths: frozenset[str]
    """The import paths that are called, as they are written."""
    arguments: Mapping[str, str]
    """Its keywords, with what is given for them, as it is written."""
    displays: Mapping[str, cst.Dict]
    """The dicts among those arguments that can be seen."""
    keys: frozenset[str]
    """The string keys of all dicts that it is given."""
    opaque: bool
    """It is given more by ``*args`` or ``**kwargs``."""
    methods: frozenset[str]
    """The methods that are called on what it gives, anywhere in the file."""
    backwards: tuple[Span, ...]
    """Where it is asked to differentiate a loss: ``accelerator.backward(loss)``."""


@dataclass(frozen=True, slots=True)
class FrameworkClass:
    """A class that derives from a framework's, directly or through classes of the file."""

    span: Span
    """Its name."""
    bases: frozenset[str]
    methods: frozenset[str]


@dataclass(frozen=True, slots=True)
class FrameworkBackward:
    """``accelerator.backward(loss)``, where only an annotation says what it is, or a method of a framework's class."""

    span: Span
    types: frozenset[str]
    """The import paths in the annotation, or those of the base classes."""


@dataclass(frozen=True, slots=True)
class Frameworks:
    """All that a file leaves to frameworks, in source order."""

    calls: tuple[FrameworkCall, ...] = ()
    classes: tuple[FrameworkClass, ...] = ()
    backwards: tuple[FrameworkBackward, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the file puts into `os.environ`, where both are strings."""

    @property
    def differentiating(self) -> dict[Span, Framework]:
        """The calls that have a framework differentiate a loss: no ``backward`` of a tensor."""
        built = [(span, call.paths) for call in self.calls for span in call.backwards]
        found = ((span, _trainer(paths)) for span, paths in (*built, *((u.span, u.types) for u in self.backwards)))
        return {span: framework for span, framework in found if framework is not None}


def _trainer(paths: frozenset[str]) -> Framework | None:
    return next((framework for framework in FRAMEWORKS if framework.trains(paths)), None)


def find_frameworks(tree: Tree, instances: Instances) -> Frameworks:
    """The uses of frameworks in one file."""
    return _Finder(tree, instances).found() if _imports_any(tree) else Frameworks()


def _imports_any(tree: Tree) -> bool:
    scopes = {id(scope): scope for scope in tree.names.inner.values()}.values()
    bound = (binding.path for scope in scopes for bindings in scope.bindings.values() for binding in bindings)
    return any(_root(path) in PACKAGES for path in bound if path) or any(
        _root(star) in PACKAGES for scope in scopes for star in scope.stars
    )


def _root(path: str) -> str:
    return path.partition(".")[0]


class _Finder:
    """Looks through one file that imports a framework."""

    def __init__(self, tree: Tree, instances: Instances) -> None:
        self.tree, self.flow, self._place = tree, instances.flow, instances.place
        self._receivers: dict[Place, list[tuple[str, cst.Call]]] = {}
        for call in self.flow.calls:
            if isinstance(call.func, cst.Attribute) and (place := self._place(call.func.value)) is not None:
                self._receivers.setdefault(place, []).append((call.func.attr.value, call))
        self._kept: dict[cst.CSTNode, list[Definition]] = {}
        self._aliases: dict[Place, list[Place]] = {}
        for definition in (d for definitions in self.flow.definitions.values() for d in definitions):
            for value in _values(self.flow, definition):
                self._kept.setdefault(value, []).append(definition)
                if (source := self._place(value)) is not None and definition.how is not How.CHANGE:
                    self._aliases.setdefault(source, []).append(definition.place)

    def found(self) -> Frameworks:
        backwards = tuple(dict.fromkeys(self._backwards()))
        return Frameworks(tuple(self._calls()), tuple(self._classes()), backwards, dict(self._environment()))

    def _paths(self, node: cst.CSTNode) -> frozenset[str]:
        """The paths in our packages that a name stands for, star imports included."""
        paths = self.flow.names.imported(node)
        chain = dotted(node)
        if chain and self.flow.names.unknown(chain[0], node):
            scopes = self.flow.names.scope[node].chain()
            paths |= {".".join((star, *chain)) for scope in scopes for star in scope.stars}
        return frozenset(path for path in paths if _root(path) in PACKAGES)

    # ------------------------------------------------------------------ what is built

    def _calls(self) -> Iterator[FrameworkCall]:
        for call in self.flow.calls:
            if paths := self._paths(call.func):
                chained, whole = self._chain(call)
                used = [*self._uses(d.place for d in self._kept.get(whole, ()))]
                yield FrameworkCall(
                    self.tree.span(call),
                    call,
                    paths,
                    {a.keyword.value: self.tree.text(a.value) for a in call.args if a.keyword is not None},
                    dict(self._given(call)),
                    frozenset(self._keys(call)),
                    any(arg.star for arg in call.args),
                    frozenset((*chained, *(name for name, _ in used))),
                    tuple(self.tree.span(c) for name, c in used if name == "backward" and given_loss(c)),
                )

    def _chain(self, call: cst.CSTNode) -> tuple[list[str], cst.CSTNode]:
        """The methods that are called on a call right away, and the whole expression: ``Learner(…).to_fp16()``."""
        methods: list[str] = []
        parent = self.flow.names.parent
        while isinstance(attribute := parent[call], cst.Attribute) and isinstance(outer := parent[attribute], cst.Call):
            methods.append(attribute.attr.value)
            call = outer
        return methods, call

    def _uses(self, places: Iterable[Place]) -> Iterator[tuple[str, cst.Call]]:
        """The method calls on what is kept at ``places``, and wherever it goes from there."""
        found = [*dict.fromkeys(places)]
        for place in found:
            found += [p for p in dict.fromkeys(self._aliases.get(place, ())) if p not in found]
            yield from self._receivers.get(place, ())

    def _given(self, call: cst.Call) -> Iterator[tuple[str, cst.Dict]]:
        for arg in call.args:
            if arg.keyword is not None:
                yield from ((arg.keyword.value, display) for display in self._displays(arg.value))

    def _keys(self, call: cst.Call) -> Iterator[str]:
        for display in (d for value in arguments(call) for d in self._displays(value)):
            for element in display.elements:
                if isinstance(element, cst.DictElement) and isinstance(element.key, cst.SimpleString):
                    yield str(element.key.evaluated_value)

    def _displays(self, value: cst.BaseExpression) -> Iterator[cst.Dict]:
        """The dict that an argument is, or that the name it is was bound to."""
        if isinstance(value, cst.Dict):
            yield value
        elif (place := self.flow.place(value)) is not None:
            yield from (d.value for d in self.flow.assigned(place) if isinstance(d.value, cst.Dict))

    # ------------------------------------------------------------------ what is derived, what is passed in

    def _environment(self) -> Iterator[tuple[str, str]]:
        """``os.environ["KERAS_BACKEND"] = "torch"``."""
        for node in (node for function in self.flow.functions for node in self.flow.body[function]):
            match node:
                case cst.Assign(
                    targets=[cst.AssignTarget(target=cst.Subscript() as entry)], value=cst.SimpleString() as value
                ):
                    key = entry.slice[0].slice
                    known = "os.environ" in self.flow.names.imported(entry.value)
                    if known and isinstance(key, cst.Index) and isinstance(key.value, cst.SimpleString):
                        yield str(key.value.evaluated_value), str(value.evaluated_value)

    def _classes(self) -> Iterator[FrameworkClass]:
        for cls in self.flow.classes:
            if bases := self._bases(cls):
                own = frozenset(n.name.value for n in cls.body.body if isinstance(n, cst.FunctionDef))
                yield FrameworkClass(self.tree.span(cls.name), bases, own)

    def _bases(self, cls: cst.ClassDef) -> frozenset[str]:
        """The classes of frameworks that a class derives from."""
        return frozenset(p for c in self._family(cls) for base in c.bases for p in self._paths(base.value))

    def _family(self, cls: cst.ClassDef) -> list[cst.ClassDef]:
        """The class and the classes of the file that it derives from."""
        found = [cls]
        for known in found:
            found += [base for base in self.flow.bases(known) if base not in found]
        return found

    def _backwards(self) -> Iterator[FrameworkBackward]:
        for definition in (d for definitions in self.flow.definitions.values() for d in definitions):
            if types := self._annotated(definition.node):
                for name, call in self._uses([definition.place]):
                    if name == "backward" and given_loss(call):
                        yield FrameworkBackward(self.tree.span(call), types)
        for call in self.flow.calls:
            if given_loss(call) and (bases := self._inherited(call)):
                yield FrameworkBackward(self.tree.span(call), bases)

    def _inherited(self, call: cst.Call) -> frozenset[str]:
        """The bases of the class that brings along what goes backward in one of its methods."""
        function = self.flow.function(call)
        cls = blocks.method_class(self.tree, function) if isinstance(function, cst.FunctionDef) else None
        if cls is None or not isinstance(function, cst.FunctionDef) or not (bases := self._bases(cls)):
            return frozenset()
        match call.func:
            case cst.Attribute(value=cst.Name() as owner, attr=cst.Name(value="manual_backward")):
                brought = self.flow.self_class(owner) is not None
            case cst.Attribute(value=cst.Attribute(value=cst.Name() as owner) as part, attr=cst.Name(value="backward")):
                place = self.flow.place(part)
                brought = (
                    self.flow.self_class(owner) is cls and place is not None and not any(self.flow.assigned(place))
                )
            case cst.Attribute(value=cst.Name() as owner, attr=cst.Name(value="backward")):
                given = {param.name.value for param in params(function)}
                brought = owner.value in given and _overrides(function.name.value, bases)
            case _:
                brought = False
        return bases if brought else frozenset()

    def _annotated(self, node: cst.CSTNode) -> frozenset[str]:
        if isinstance(node, cst.Param | cst.AnnAssign) and node.annotation is not None:
            return self._paths(node.annotation.annotation)
        return frozenset()


def _overrides(method: str, bases: frozenset[str]) -> bool:
    """Whether a framework calls the method of classes with these bases to train."""
    return any(
        method in methods
        for framework in FRAMEWORKS
        for base, methods in framework.derives.items()
        if base in framework.names(bases)
    )


def given_loss(call: cst.Call) -> bool:
    """Whether the object of the method is not the loss itself: that would be given options only."""
    if not call.args or call.args[0].star:
        return False
    return call.args[0].keyword is None or call.args[0].keyword.value == "loss"


def _values(flow: Flow, definition: Definition) -> Iterator[cst.BaseExpression]:
    """What a definition may give its place: for a parameter what is passed for it, for a call what it returns too."""
    if definition.how is How.PARAM:
        yield from flow.passed(definition)
    elif (value := definition.value) is not None:
        yield from _either(value)
        function = flow.callee(value) if isinstance(value, cst.Call) else None
        for returned in flow.returns(function) if function is not None else ():
            yield from _element(flow, definition, returned.value)


def _either(value: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """The expressions of which one gives the value: ``Accelerator() if several else None``."""
    match value:
        case cst.IfExp(body=one, orelse=other) | cst.BooleanOperation(left=one, right=other):
            yield from (*_either(one), *_either(other))
        case _:
            yield value


def _element(flow: Flow, definition: Definition, returned: cst.BaseExpression | None) -> Iterator[cst.BaseExpression]:
    """The part of what a function returns that a definition takes."""
    match definition, returned:
        case Definition(how=How.ASSIGN), cst.BaseExpression():
            yield returned
        case Definition(how=How.UNPACK, node=cst.Assign(targets=[target])), cst.Tuple():
            names = target.target.elements if isinstance(target.target, cst.Tuple | cst.List) else ()
            pairs = zip(names, returned.elements, strict=False)
            yield from (value.value for name, value in pairs if flow.place(name.value) == definition.place)
