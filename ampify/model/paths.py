"""Follows a state along every path through structured code. Knows Python's control flow, not what the states mean."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import libcst as cst

from ampify.syntax import blocks
from ampify.syntax.blocks import Block, Function
from ampify.syntax.tree import Tree
from ampify.syntax.walk import is_none, target_names, walk, walk_scope

_CROWD = 64
"""More worlds than that at one place are told apart by their states alone."""

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Fact:
    """A test that came out one way on the path so far; ``names`` are what it depends on."""

    text: str
    truth: bool
    names: frozenset[str]

    @property
    def denied(self) -> Fact:
        return Fact(self.text, not self.truth, self.names)


Facts = frozenset[Fact]


@dataclass(frozen=True, slots=True)
class World(Generic[S]):
    """A state, with what is known on the paths that lead to it."""

    state: S
    facts: Facts = frozenset()


@dataclass(frozen=True, slots=True)
class Ways(Generic[S]):
    """The worlds in which a piece of code is left, by the way they leave it."""

    on: frozenset[World[S]] = frozenset()
    again: frozenset[World[S]] = frozenset()
    out: frozenset[World[S]] = frozenset()
    back: frozenset[World[S]] = frozenset()

    def __or__(self, other: Ways[S]) -> Ways[S]:
        return Ways(self.on | other.on, self.again | other.again, self.out | other.out, self.back | other.back)


@dataclass(frozen=True, slots=True, eq=False)
class Script(Generic[S]):
    """What happens on the way: the owner of the analysis fills this in.

    ``happenings`` are what each statement itself does, in order; a function among them is run in place.
    ``decide`` says how a test comes out, None where that is not known; ``dead`` blocks are not entered.
    ``laps`` are the loops whose every round begins with ``lap``.
    """

    happenings: dict[cst.CSTNode, list[object]]
    advance: Callable[[World[S], object], S]
    lap: Callable[[World[S], cst.CSTNode], S]
    decide: Callable[[cst.BaseExpression], bool | None]
    dead: set[cst.CSTNode] = field(default_factory=set)
    laps: set[cst.CSTNode] = field(default_factory=set)


class Paths(Generic[S]):
    """Runs a `Script` over functions of one file. Loops are taken to run at least once."""

    def __init__(self, tree: Tree, script: Script[S]) -> None:
        self.tree, self.script = tree, script
        self._busy = {p for node in script.happenings for p in (node, *tree.parents(node))}
        self._changed: dict[cst.CSTNode, frozenset[str]] = {}
        self._entered: list[Function] = []
        self._ends: dict[tuple[Function, World[S], tuple[Function, ...]], frozenset[World[S]]] = {}

    def run(self, function: Function, state: S) -> frozenset[World[S]]:
        """The worlds at the end of ``function``, entered in ``state``."""
        return self._function(function, frozenset({World(state)}))

    def _function(self, function: Function, worlds: frozenset[World[S]]) -> frozenset[World[S]]:
        if function in self._entered:
            return worlds
        self._entered.append(function)
        body = function.body if isinstance(function, cst.FunctionDef) else function
        assert isinstance(body, Block)
        ways = self._block(blocks.statements(body), worlds)
        self._entered.pop()
        return ways.on | ways.back

    # ------------------------------------------------------------------ statements

    def _block(self, statements: Iterable[cst.CSTNode], worlds: frozenset[World[S]]) -> Ways[S]:
        ways = Ways(on=worlds)
        for statement in statements:
            if not ways.on:
                break
            ways = Ways(frozenset(), ways.again, ways.out, ways.back) | self._statement(statement, ways.on)
        return ways

    def _statement(self, node: cst.CSTNode, worlds: frozenset[World[S]]) -> Ways[S]:
        match node:
            case cst.SimpleStatementLine():
                return self._block(node.body, worlds)
            case cst.FunctionDef() | cst.ClassDef():
                return Ways(on=worlds)
            case cst.BaseCompoundStatement() if node not in self._busy and not any(blocks.jumps(node)):
                return Ways(on=self._forget(node, worlds))
        if not isinstance(node, cst.While):
            worlds = self._happen(node, worlds)
        match node:
            case cst.If():
                return self._branch(node, worlds)
            case cst.For() | cst.While():
                return self._loop(node, worlds)
            case cst.Try() | cst.TryStar():
                return self._try(node, worlds)
            case cst.With():
                return self._suite(node.body, self._forget_targets(node, worlds))
            case cst.Match():
                ways = [self._suite(case.body, worlds) for case in node.cases]
                return self._merged(Ways(on=worlds), *ways)
        return self._simple(node, worlds)

    def _simple(self, node: cst.CSTNode, worlds: frozenset[World[S]]) -> Ways[S]:
        match node:
            case cst.Return():
                return Ways(back=worlds)
            case cst.Continue():
                return Ways(again=worlds)
            case cst.Break():
                return Ways(out=worlds)
            case cst.Raise():
                return Ways()
        return Ways(on=self._forget(node, worlds))

    def _suite(self, suite: cst.BaseSuite, worlds: frozenset[World[S]]) -> Ways[S]:
        assert isinstance(suite, Block)
        return self._block(blocks.statements(suite), worlds)

    def _merged(self, *ways: Ways[S]) -> Ways[S]:
        whole: Ways[S] = Ways()
        for one in ways:
            whole |= one
        return Ways(*map(_simplified, (whole.on, whole.again, whole.out, whole.back)))

    def _branch(self, node: cst.If, worlds: frozenset[World[S]]) -> Ways[S]:
        yes: Ways[S] = Ways()
        no: Ways[S] = Ways()
        if node.body not in self.script.dead:
            yes = self._suite(node.body, self._assumed(node.test, worlds, truth=True))
        rest = self._assumed(node.test, worlds, truth=False)
        match node.orelse:
            case None:
                no = Ways(on=rest)
            case _ if node.orelse in self.script.dead or not rest:
                pass
            case cst.If() as inner:
                no = self._statement(inner, rest)
            case cst.Else(body=body):
                no = self._suite(body, rest)
        return self._merged(yes, no)

    def _loop(self, node: cst.For | cst.While, worlds: frozenset[World[S]]) -> Ways[S]:
        seen: set[World[S]] = set()
        fresh: frozenset[World[S]] = worlds
        through: Ways[S] = Ways()
        while fresh:
            seen |= fresh
            ways = self._suite(node.body, self._round(node, fresh))
            through |= ways
            around = _simplified(ways.on | ways.again)
            if node in self.script.laps:
                around = frozenset(World(self.script.lap(w, node), w.facts) for w in around)
            fresh = frozenset(around - seen)
        after = _simplified(through.on | through.again)
        if isinstance(node, cst.While):
            after = self._assumed(node.test, after, truth=False)
        ended = self._suite(node.orelse.body, after) if node.orelse is not None else Ways(on=after)
        return self._merged(Ways(on=through.out, back=through.back), ended)

    def _round(self, node: cst.For | cst.While, worlds: frozenset[World[S]]) -> frozenset[World[S]]:
        if isinstance(node, cst.For):
            return self._forget_targets(node, worlds)
        return self._assumed(node.test, self._happen(node, worlds), truth=True)

    def _try(self, node: cst.Try | cst.TryStar, worlds: frozenset[World[S]]) -> Ways[S]:
        """A handler is entered as if nothing had happened yet: how far the body got is not known."""
        body = self._suite(node.body, worlds)
        rest = Ways(frozenset(), body.again, body.out, body.back)
        ended = self._suite(node.orelse.body, body.on) if node.orelse is not None else Ways(on=body.on)
        ways = self._merged(rest, ended, *(self._suite(h.body, self._forget(node.body, worlds)) for h in node.handlers))
        if node.finalbody is None:
            return ways
        last = [self._suite(node.finalbody.body, way) for way in (ways.on, ways.again, ways.out, ways.back)]
        return Ways(last[0].on, last[1].on, last[2].on, last[3].on)

    # ------------------------------------------------------------------ what happens in a statement

    def _happen(self, node: cst.CSTNode, worlds: frozenset[World[S]]) -> frozenset[World[S]]:
        for happening in self.script.happenings.get(node, ()):
            if isinstance(happening, cst.FunctionDef):
                worlds = self._call(happening, worlds)
            else:
                worlds = frozenset(World(self.script.advance(w, happening), w.facts) for w in worlds)
        return worlds

    def _call(self, callee: cst.FunctionDef, worlds: frozenset[World[S]]) -> frozenset[World[S]]:
        """Run ``callee`` here. Its names are its own, but attributes of the instance are the same for both."""
        after: set[World[S]] = set()
        for world in worlds:
            shared = frozenset(f for f in world.facts if f.text.startswith("self."))
            for end in self._ended(callee, World(world.state, shared)):
                learned = frozenset(f for f in end.facts if f.text.startswith("self."))
                after.add(World(end.state, (world.facts - shared) | learned))
        return _simplified(frozenset(after))

    def _ended(self, callee: cst.FunctionDef, world: World[S]) -> frozenset[World[S]]:
        key = (callee, world, tuple(self._entered))
        if key not in self._ends:
            self._ends[key] = self._function(callee, frozenset({world}))
        return self._ends[key]

    def _forget_targets(self, node: cst.For | cst.With, worlds: frozenset[World[S]]) -> frozenset[World[S]]:
        targets = [node.target] if isinstance(node, cst.For) else [i.asname.name for i in node.items if i.asname]
        return _without(worlds, frozenset(name for t in targets for name in _last_names(t)))

    def _forget(self, node: cst.CSTNode, worlds: frozenset[World[S]]) -> frozenset[World[S]]:
        """What was known of names that ``node`` binds anew is known no longer."""
        if not any(w.facts for w in worlds):
            return worlds
        if node not in self._changed:
            self._changed[node] = frozenset(_bound(node))
        return _without(worlds, self._changed[node])

    # ------------------------------------------------------------------ tests

    def _assumed(self, test: cst.BaseExpression, worlds: frozenset[World[S]], *, truth: bool) -> frozenset[World[S]]:
        return frozenset(World(w.state, f) for w in worlds for f in self._facts(test, truth, w.facts, 8))

    def _facts(self, test: cst.BaseExpression, truth: bool, facts: Facts, depth: int) -> Iterator[Facts]:
        """What is known once ``test`` has come out as ``truth``; nothing where it cannot."""
        if (decided := self.script.decide(test)) is not None:
            yield from (facts,) if decided is truth else ()
            return
        match test:
            case cst.UnaryOperation(operator=cst.Not(), expression=inner):
                yield from self._facts(inner, not truth, facts, depth)
            case cst.BooleanOperation(left=left, operator=operator, right=right):
                short = isinstance(operator, cst.Or)
                if truth is short:
                    yield from self._facts(left, truth, facts, depth)
                for known in self._facts(left, not short, facts, depth):
                    yield from self._facts(right, truth, known, depth)
            case cst.Comparison(left=left, comparisons=[cst.ComparisonTarget(operator, right)]) if _with_none(
                operator, right
            ):
                yield from self._facts(left, truth is isinstance(operator, cst.IsNot), facts, depth)
            case cst.Name() if depth and (value := self._meaning(test)) is not None:
                yield from self._facts(value, truth, facts, depth - 1)
            case cst.Name(value="True" | "False" as word):
                yield from (facts,) if (word == "True") is truth else ()
            case _:
                yield from self._leaf(test, truth, facts)

    def _leaf(self, test: cst.BaseExpression, truth: bool, facts: Facts) -> Iterator[Facts]:
        text, denied = self.tree.text(test), False
        match test:
            case cst.Comparison(
                left=left, comparisons=[cst.ComparisonTarget(operator=cst.NotEqual(), comparator=right)]
            ):
                text, denied = f"{self.tree.text(left)} == {self.tree.text(right)}", True
        fact = Fact(text, truth is not denied, frozenset(_words(test)))
        if fact.denied not in facts:
            yield facts | {fact}

    def _meaning(self, name: cst.Name) -> cst.BaseExpression | None:
        """The test that a name was given just before: ``last = (i + 1) % k == 0``."""
        match [b.value for b in self.tree.names.scope[name].lookup(name.value)]:
            case [cst.Comparison() | cst.BooleanOperation() | cst.UnaryOperation() as value]:
                return value
        return None


def _simplified(worlds: frozenset[World[S]]) -> frozenset[World[S]]:
    """The same worlds without facts that make no difference."""
    known: dict[S, set[Facts]] = {}
    for world in worlds:
        known.setdefault(world.state, set()).add(world.facts)
    for facts in known.values():
        while (pair := _mergeable(facts)) is not None:
            one, fact = pair
            facts -= {one, one - {fact} | {fact.denied}}
            facts.add(one - {fact})
    if sum(map(len, known.values())) > _CROWD:
        return frozenset(World(state) for state in known)
    return frozenset(
        World(state, one) for state, facts in known.items() for one in facts if not any(other < one for other in facts)
    )


def _mergeable(facts: set[Facts]) -> tuple[Facts, Fact] | None:
    return next(((one, f) for one in facts for f in one if one - {f} | {f.denied} in facts), None)


def _without(worlds: frozenset[World[S]], names: frozenset[str]) -> frozenset[World[S]]:
    if not names:
        return worlds
    return _simplified(frozenset(World(w.state, frozenset(f for f in w.facts if not f.names & names)) for w in worlds))


def _with_none(operator: cst.BaseCompOp, right: cst.BaseExpression) -> bool:
    return isinstance(operator, cst.Is | cst.IsNot) and is_none(right)


def _words(test: cst.CSTNode) -> Iterator[str]:
    return (n.value for n in walk(test) if isinstance(n, cst.Name))


def _bound(node: cst.CSTNode) -> Iterator[str]:
    for inner in walk_scope(node):
        match inner:
            case cst.AssignTarget(target=target) | cst.AnnAssign(target=target) | cst.AugAssign(target=target):
                yield from _last_names(target)
            case cst.For(target=target) | cst.NamedExpr(target=target) | cst.AsName(name=target):
                yield from _last_names(target)


def _last_names(target: cst.CSTNode) -> Iterator[str]:
    match target:
        case cst.Attribute(attr=cst.Name(value=name)):
            yield name
        case cst.Subscript(value=base):
            yield from _last_names(base)
        case cst.Tuple() | cst.List():
            for element in target.elements:
                yield from _last_names(element.value)
        case _:
            yield from (name.value for name in target_names(target))
