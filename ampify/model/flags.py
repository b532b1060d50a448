"""The flags of a script: those that its ``.cuda()`` calls stand behind, and those for mixed precision that it ignores.

A flag is followed by its binding: from the option or the assignment that makes it to the names that it is read by.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import Definition, How, Place
from ampify.model.flow import Flow
from ampify.model.options import Option, Options
from ampify.model.step import Code
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.tree import Tree
from ampify.syntax.walk import children, dotted, is_none, walk


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag as code can name it: what is kept at ``place``, or its opposite."""

    place: Place
    negated: bool = False
    is_bool: bool = False
    """Known to be True or False, so that it can be passed on as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Unheard:
    """An option for mixed precision that nothing reads; ``doubt`` says why it may have a reader all the same."""

    option: Option
    doubt: str | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a program switched its mixed precision on by: conditions that all hold, as a function could say them."""

    file: int
    function: str
    """With the names of the classes around it; empty for the code of the file itself."""
    tests: tuple[str, ...]


class Flags:
    """The flags of one file."""

    def __init__(self, code: Code) -> None:
        self.code, self.tree, self.flow = code, code.tree, code.flow
        self.options = Options(code.flow)

    # ------------------------------------------------------------------ flags for CUDA

    def for_cuda(self, function: Function, before: cst.CSTNode | None = None) -> Flag | None:
        """The flag that every ``.cuda()`` of the file stands behind, as ``function`` can name it at ``before``.

        Of files that are one program, that of the function counts, and all of them where it moves nothing.
        """
        moves = [call for call in self._moves if self.tree.module(call) is self.tree.module(function)] or self._moves
        guards = [{self._key(t): t for t in _tests(self.tree, call)} for call in moves]
        common = [key for key in guards[0] if all(key in g for g in guards)] if guards else []
        for key in (k for k in common if k is not None):
            tests = [_plain(g[key]) for g in guards]
            for place in dict.fromkeys(self._places(tests)):
                if self._steady(place, tests, function) and bound_at(self.code, place, function, before):
                    return Flag(place, _negates(guards[0][key]), self._is_bool(tests[0]))
        return None

    @cached_property
    def _moves(self) -> list[cst.Call]:
        calls = (c for c in self.flow.calls if isinstance(c.func, cst.Attribute) and c.func.attr.value == "cuda")
        return [c for c in calls if not any(p.startswith("torch.") for p in self.flow.names.imported(c.func))]

    def _key(self, test: cst.BaseExpression) -> tuple[object, bool] | None:
        """What a test reads, the same for all names of one set of options."""
        flag, place = _plain(test), self.flow.place(_plain(test))
        if place is None or self.flow.names.imported(flag):
            return None
        if isinstance(flag, cst.Attribute) and (source := self.options.source(flag.value)) is not None:
            return (source, flag.attr.value), _negates(test)
        return place, _negates(test)

    def _places(self, tests: Iterable[cst.BaseExpression]) -> Iterator[Place]:
        for test in tests:
            if (place := self.flow.place(test)) is not None:
                yield place
            if isinstance(test, cst.Attribute) and (source := self.options.source(test.value)) is not None:
                yield from (Place(p.root, (*p.path, test.attr.value)) for p in self.options.places(source))

    def _steady(self, place: Place, tests: list[cst.BaseExpression], function: Function) -> bool:
        """Whether a flag has one value from its first test on: set once at most, above all of them."""
        made = [d for d in self.flow.defining(place) if d.place == place and d.how is not How.PARAM]
        if len(place.path) > 1 and len(self.options.written(place.path[-1])) > len(made):
            return False
        return len(made) <= 1 and all(self._first(d, tests, function) for d in made)

    def _first(self, d: Definition, tests: list[cst.BaseExpression], function: Function) -> bool:
        here = d.function is function or d.function is self.tree.module(function)
        later = (t for t in tests if self.flow.function(t) is d.function)
        return here and all(self.tree.span(d.node).start < self.tree.span(t).start for t in later)

    def _is_bool(self, node: cst.BaseExpression, seen: frozenset[Place] = frozenset()) -> bool:
        """Whether an expression can only be True or False."""
        match node:
            case cst.Name(value="True" | "False") | cst.Comparison() | cst.UnaryOperation(operator=cst.Not()):
                return True
            case cst.BooleanOperation(left=one, right=other) | cst.IfExp(body=one, orelse=other):
                return self._is_bool(one, seen) and self._is_bool(other, seen)
            case cst.Call(func=cst.Name(value=name)) if name in ("bool", "isinstance", "hasattr"):
                return True
            case cst.Call():
                return any(path.endswith(".is_available") for path in self.flow.names.imported(node.func))
            case cst.Name() | cst.Attribute() if (place := self.flow.place(node)) is not None and place not in seen:
                return self._holds_bool(node, place, seen | {place})
        return False

    def _holds_bool(self, node: cst.BaseExpression, place: Place, seen: frozenset[Place]) -> bool:
        given = self.options.given(node)
        made = [*self.flow.assigned(place)]
        values = [v for d in made for v in (self.flow.passed(d) if d.how is How.PARAM else [d.value])]
        known = given is not None and given.is_bool
        return (known if given is not None else bool(values)) and all(
            v is not None and self._is_bool(v, seen) for v in values
        )

    # ------------------------------------------------------------------ flags for mixed precision

    @cached_property
    def unheard(self) -> Unheard | None:
        """The one option that asks for mixed precision and that nothing acts on but the AMP of other steps."""
        wishes = [o for o in self.options.all if o.name in words.MIXED_FLAGS and o.truth]
        if len(wishes) != 1 or self.options.written(wishes[0].name):
            return None
        readers = self.options.readers(wishes[0])
        if not all(self._switches_amp(n) for n in readers):
            return None
        return Unheard(wishes[0], None if readers else self.options.doubt(wishes[0]))

    def _switches_amp(self, node: cst.CSTNode) -> bool:
        """Whether what an option says decides about a scaler or an autocast region, and about nothing else."""
        child = node
        for parent in self.tree.parents(node):
            match parent:
                case cst.Arg(keyword=cst.Name(value="enabled")):
                    return isinstance(call := self.flow.names.parent[parent], cst.Call) and self._of_amp(call)
                case cst.If(body=body) | cst.IfExp(body=body) if child is parent.test:
                    return any(self._of_amp(n) for n in walk(body))
                case cst.BooleanOperation() | cst.UnaryOperation():
                    child = parent
                case _:
                    return False
        return False

    def _of_amp(self, node: cst.CSTNode) -> bool:
        amp = self.code.amp
        return isinstance(node, cst.BaseExpression) and (amp.is_scaler(node) or amp.is_autocast(node))

    def wish(self, option: Option, function: Function, before: cst.CSTNode | None = None) -> Flag | None:
        """An option as ``function`` can name it at ``before``."""
        for place in self.options.kept(option):
            if bound_at(self.code, place, function, before):
                return Flag(place, is_bool=option.is_bool)
        return None

    def said(self, wish: Wish, function: Function, before: cst.CSTNode | None = None) -> list[str] | None:
        """The conditions of a wish as ``function`` can say them at ``before``, without those that hold there anyway.

        None where it cannot read them.
        """
        around = {self.tree.text(test) for test in _tests(self.tree, before)} if before is not None else set()
        told = [(text, cst.parse_expression(text)) for text in wish.tests if text not in around]
        same = title(self.tree, function) == (wish.file, wish.function)
        if not all(self._can_read(node, function, before, same) for _, node in told):
            return None
        return [text if self._surely_bool(node, function) else f"bool({text})" for text, node in told]

    def _can_read(self, test: cst.BaseExpression, function: Function, before: cst.CSTNode | None, same: bool) -> bool:
        """Whether the names in a condition are bound for ``function``, and mean there what they mean in the wish."""
        scope = self.flow.names.inner[function]
        for chain in _chains(test):
            home = scope.find(chain[0])
            if home is None:
                if not hasattr(builtins, chain[0]):
                    return False
                continue
            place = self._kept_at(chain, function)
            shared = home.node is self.tree.module(function) or isinstance(place.root, cst.ClassDef)
            if not ((same or shared) and bound_at(self.code, place, function, before)):
                return False
        return True

    def _kept_at(self, chain: tuple[str, ...], function: Function) -> Place:
        """Where ``function`` finds what a chain of names reads."""
        scope = self.flow.names.inner[function]
        home = scope.find(chain[0])
        bound = [b.node for b in scope.lookup(chain[0])]
        match bound:
            case [cst.Param() as param] if len(chain) > 1 and (cls := self.flow.self_class(param.name)) is not None:
                return Place(self.flow.family(cls), chain[1:])
        assert home is not None
        return Place(home, chain)

    def _surely_bool(self, test: cst.BaseExpression, function: Function) -> bool:
        match test:
            case cst.Comparison() | cst.UnaryOperation(operator=cst.Not()):
                return True
            case cst.Name() | cst.Attribute() if (chain := dotted(test)) and self.flow.names.inner[function].find(
                chain[0]
            ):
                place = self._kept_at(chain, function)
                return any(o.is_bool and place in {*self.options.kept(o)} for o in self.options.all)
        return False

    def means(self, flag: Flag, function: Function) -> bool:
        """Whether ``function`` sees a flag under the same name."""
        return bound_at(self.code, flag.place, function, None)


def bound_at(code: Code, place: Place, function: Function, before: cst.CSTNode | None) -> bool:
    """Whether ``function`` can read ``place`` and finds its value there already, at statement ``before``."""
    flow = code.flow
    definitions = [d for d in _bases(flow, place) if d.how is not How.CHANGE]
    if any(is_none(d.value) for d in definitions if d.how is not How.PARAM or d.place == place):
        return False
    if isinstance(place.root, cst.ClassDef):
        cls = blocks.class_of(code.tree, function)
        mine = cls is not None and flow.family(cls) is place.root
        return mine and any(_has_run(code, d, function, before) for d in definitions)
    scope = flow.names.inner.get(function)
    visible = scope is not None and scope.find(place.path[0]) is place.root
    own = [d for d in definitions if d.function is function and not isinstance(d.node, cst.Param)]
    if visible and not own and definitions and all(_of_script(code, d.node) for d in definitions):
        base = Place(place.root, place.path[:1])  # whoever imports the file has none; the function may need it anyway
        return any(flow.place(n) == base for n in flow.body[function] if isinstance(n, cst.Name))
    return visible and (not own or any(_above(code, d.node, before) for d in own))


def _of_script(code: Code, node: cst.CSTNode) -> bool:
    """Whether code runs only where its file is the program: ``if __name__ == "__main__":``"""
    tests = (p.test for p in code.tree.parents(node) if isinstance(p, cst.If))
    return any(isinstance(t, cst.Comparison) and dotted(t.left) == ("__name__",) for t in tests)


def title(tree: Tree, node: cst.CSTNode) -> tuple[int, str]:
    """The file and the name, with those of the classes around it, of the function that ``node`` is or stands in."""
    around = (p.name.value for p in (node, *tree.parents(node)) if isinstance(p, cst.FunctionDef | cst.ClassDef))
    return tree.source.file(tree.span(node).start), ".".join(reversed([*around]))


def _chains(test: cst.BaseExpression) -> Iterator[tuple[str, ...]]:
    """The chains of names that an expression reads."""
    stack: list[cst.CSTNode] = [test]
    while stack:
        node = stack.pop()
        match node:
            case cst.Name() | cst.Attribute() if chain := dotted(node):
                yield chain
            case cst.Attribute(value=value):
                stack.append(value)
            case cst.Arg(value=value):
                stack.append(value)
            case _:
                stack.extend(children(node))


def _bases(flow: Flow, place: Place) -> Iterator[Definition]:
    """The definitions of a place and of what it is an attribute of."""
    return (d for d in flow.defining(place) if d.place.path == place.path[: len(d.place.path)])


def _has_run(code: Code, d: Definition, function: Function, before: cst.CSTNode | None) -> bool:
    """Whether an attribute is there at ``before``: what no constructor has called yet has not run in it."""
    if d.function is function:
        return _above(code, d.node, before)
    if not (isinstance(function, cst.FunctionDef) and function.name.value == "__init__"):
        return True
    calls = (n for n in code.flow.body[function] if isinstance(n, cst.Call) and _above(code, n, before))
    called = {callee for call in calls if (callee := code.flow.callee(call)) is not None}
    return any(d.function in (f, *code.flow.reachable(f)) for f in called)


def _above(code: Code, node: cst.CSTNode, before: cst.CSTNode | None) -> bool:
    return before is None or code.tree.span(node).start < code.tree.span(before).end


def _tests(tree: Tree, node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """The tests that hold wherever ``node`` runs."""
    child = node
    for parent in tree.parents(node):
        if isinstance(parent, cst.If | cst.IfExp) and child is parent.body:
            yield parent.test
        child = parent


def _plain(test: cst.BaseExpression) -> cst.BaseExpression:
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            return inner
    return test


def _negates(test: cst.BaseExpression) -> bool:
    return isinstance(test, cst.UnaryOperation)
