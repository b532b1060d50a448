"""Scalers that are made under a test, and read where that test may have come out otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from ampify.model.paths import Fact, Paths, Script, World
from ampify.model.precision import asks_for_precision, is_precision, names_in, tests_around
from ampify.model.step import Code, FileModel
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.names import Bound, Scope
from ampify.syntax.walk import walk

_LOOKS = {"locals", "globals", "vars", "dir"}
"""With these, and nothing given, a program can ask whether a name is bound, or bind it."""
_ENDS = {"exit", "_exit", "quit", "error", "fail", "fatal", "abort", "die", "usage"}
"""Functions and methods after which a program mostly does not go on."""
_CATCHES = {"NameError", "UnboundLocalError", "Exception", "BaseException"}
_DEEP = 3
"""So many names are looked through."""


@dataclass(frozen=True, slots=True, eq=False)
class Unbound:
    """``name`` is read on a path that has not run through ``made``; ``when`` are the tests of that path."""

    name: cst.Name
    made: cst.Assign | cst.AnnAssign
    when: tuple[tuple[str, bool], ...]


def unbound(model: FileModel) -> Iterator[Unbound]:
    """The first read of each scaler of a file, kept under a plain name, that may find it unbound."""
    code, seen = model.code, set[tuple[Scope, str]]()
    for made in code.amp.scalers:
        target = made.targets[0].target if isinstance(made, cst.Assign) else made.target
        scope = code.tree.names.scope[target]
        if isinstance(target, cst.Name) and (scope, target.value) not in seen:
            seen.add((scope, target.value))
            name = _Name(code, scope, target.value, made)
            if name.followed and (found := name.misread()) is not None:
                yield found


class _Name:
    """One name of a function, or of a module, that is given a scaler by ``made``."""

    def __init__(self, code: Code, scope: Scope, name: str, made: cst.Assign | cst.AnnAssign) -> None:
        self.code, self.tree, self.scope, self.name, self.made = code, code.tree, scope, name, made
        self._found: dict[cst.Name, list[frozenset[Fact]]] = {}

    @cached_property
    def bindings(self) -> list[cst.CSTNode]:
        return [b.node for b in self.scope.bindings.get(self.name, ())]

    @cached_property
    def body(self) -> list[cst.CSTNode]:
        function = self.scope.node
        return self.code.flow.body[function] if isinstance(function, Function) else []

    @property
    def followed(self) -> bool:
        """Whether all that binds the name are assignments here, before any loop, under tests."""
        plain = all(b.how is Bound.ASSIGN for b in self.scope.bindings.get(self.name, ()))
        here = self.scope.find(self.name) is self.scope and bool(self.body)
        looks = any(map(_looks, self.body))
        return plain and here and not looks and all(map(self._under_tests, self.bindings))

    def _under_tests(self, node: cst.CSTNode) -> bool:
        around = [p for p in self.tree.parents(node) if isinstance(p, cst.BaseCompoundStatement)]
        inside = around[: next((i for i, p in enumerate(around) if p is self.scope.node), len(around))]
        return isinstance(node, cst.Assign | cst.AnnAssign) and bool(inside) and all(
            isinstance(p, cst.If | cst.With) for p in inside
        )  # fmt: skip

    # ------------------------------------------------------------------ the paths

    def misread(self) -> Unbound | None:
        """The first read that may find nothing."""
        function = self.scope.node
        assert isinstance(function, Function)
        script: Script[bool] = Script(self._happenings(), self._advance, lambda world, _: world.state, lambda _: None)
        Paths(self.tree, script).run(function, state=False)
        for read in sorted(self._found, key=lambda n: self.tree.span(n).start):
            paths = [self._when(facts) for facts in self._found[read] if self._says_why(facts)]
            if paths:
                return Unbound(read, self.made, min(paths, key=lambda when: (len(when), when)))
        return None

    def _when(self, facts: frozenset[Fact]) -> tuple[tuple[str, bool], ...]:
        return tuple(sorted((f.text, f.truth) for f in facts if f.text in self._tests))

    def _happenings(self) -> dict[cst.CSTNode, list[object]]:
        found: list[tuple[int, cst.CSTNode, object]] = []
        for node in self.body:
            match node:
                case cst.Name() if self._is_read(node):
                    found.append((self.tree.span(node).end, node, node))
                case cst.Raise():
                    found.append((self.tree.span(node).end, node, False))
                case cst.Call() | cst.Assert() if self._may_end(node):
                    found.append((self.tree.span(node).end, node, True))
                case _ if node in self.bindings:
                    found.append((self.tree.span(node).end + 1, node, True))
        ordered: dict[cst.CSTNode, list[object]] = {}
        for _, node, what in sorted(found, key=lambda f: f[0]):
            ordered.setdefault(blocks.small_statement_of(self.tree, node), []).append(what)
        return ordered

    def _advance(self, world: World[bool], happening: object) -> bool:
        if isinstance(happening, cst.Name) and not world.state:
            self._found.setdefault(happening, []).append(world.facts)
        return world.state or happening is True

    def _is_read(self, node: cst.Name) -> bool:
        """Whether a name is surely read where its statement runs, and nobody waits for its being unbound."""
        child: cst.CSTNode = node
        if node.value != self.name or self.tree.names.scope[node] is not self.scope:
            return False
        for parent in self.tree.parents(node):
            match parent:
                case cst.AssignTarget() | cst.AnnAssign() if child is parent.target:
                    return False
                case cst.Attribute(attr=attr) if attr is child:
                    return False
                case cst.Arg(keyword=keyword) if keyword is child:
                    return False
                case cst.IfExp() | cst.BooleanOperation() | cst.Assert() | cst.Del():
                    return False
                case cst.Try(body=body, handlers=handlers) if body is child and any(map(_catches, handlers)):
                    return False
            if parent is self.scope.node:
                break
            child = parent
        return True

    def _may_end(self, node: cst.CSTNode) -> bool:
        """Whether the program may end here for want of a scaler."""
        match node:
            case cst.Assert(test=test):
                return asks_for_precision(self.tree, self.scope, names_in(test)) or self.tree.text(test) in self._tests
            case cst.Call(func=cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name))):
                callee = self.code.flow.callee(node)
                leaves = callee is not None and isinstance(callee.body, cst.IndentedBlock) and _raises(callee.body)
                return name in _ENDS or leaves
        return False

    # ------------------------------------------------------------------ what is known on a path

    @cached_property
    def _tests(self) -> set[str]:
        """What decides whether the name is bound, as the facts of paths say it."""
        tests = [test for b in self.bindings for test in tests_around(self.tree, b)]
        return {self.tree.text(part) for test in tests for part in self._parts(test, _DEEP)}

    def _parts(self, test: cst.BaseExpression, depth: int) -> Iterator[cst.BaseExpression]:
        for node in walk(test):
            if isinstance(node, cst.BaseExpression):
                yield node
            if isinstance(node, cst.Name) and depth:
                for binding in self.tree.names.scope[node].lookup(node.value):
                    if isinstance(binding.value, cst.Comparison | cst.BooleanOperation | cst.UnaryOperation):
                        yield from self._parts(binding.value, depth - 1)

    def _says_why(self, facts: frozenset[Fact]) -> bool:
        """Whether a path misses the name for the tests around it alone; what else it has asked for may know better."""
        why = [f for f in facts if f.text in self._tests]
        rest = [f for f in facts if f.text not in self._tests]
        mixed = all(any(map(is_precision, f.names)) for f in why)
        return bool(why) and mixed and not any(asks_for_precision(self.tree, self.scope, f.names) for f in rest)


def _looks(node: cst.CSTNode) -> bool:
    match node:
        case cst.Call(func=cst.Name(value="exec")):
            return True
        case cst.Call(func=cst.Name(value=name), args=[]):
            return name in _LOOKS
    return False


def _catches(handler: cst.ExceptHandler) -> bool:
    caught = [n.value for n in walk(handler.type) if isinstance(n, cst.Name)] if handler.type is not None else ()
    return handler.type is None or bool(_CATCHES & {*caught})


def _raises(body: cst.IndentedBlock) -> bool:
    last = body.body[-1] if body.body else None
    match last:
        case cst.SimpleStatementLine(body=[*_, cst.Raise()]):
            return True
        case cst.SimpleStatementLine(
            body=[*_, cst.Expr(value=cst.Call(func=cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name))))]
        ):
            return name in _ENDS
    return False
