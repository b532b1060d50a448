"""The forward of a training step by data dependence: what computes the losses that are differentiated.

A backward slice from each loss finds the statements that feed it, through branches, loops, calls, attributes and
parameters. Those that run a module, or read what such a statement gave, belong under autocast (they are *low*: their
results may be in half precision). Islands stay outside: what autocast forbids gets its inputs back in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.acts import Acts
from ampify.model.flow import Definition, How, Place
from ampify.model.roles import Role
from ampify.model.step import Act, Backward, Hoist, InnerGradient, Obstacle, OptimizerStep, Region
from ampify.syntax import blocks
from ampify.syntax.blocks import Block, Function
from ampify.syntax.walk import walk, walk_scope

_NOT_DATA = {Role.MODULE, Role.OPTIMIZER, Role.SCHEDULER, Role.LOSS, Role.LOADER, Role.DEVICE, Role.SCALER}
_REDUCTIONS = {"mean", "sum", "item", "detach", "squeeze", "values", "float", "clone"}
_PLAIN_CALLS = {"sum", "len", "float", "list", "tuple", "int", "print", "isinstance", "range", "zip", "enumerate"}


class Forward:
    """The forward of the losses of ``backwards``."""

    def __init__(self, acts: Acts, backwards: Iterable[Backward]) -> None:
        self.acts, self.code = acts, acts.code
        self.tree, self.flow, self.roles = self.code.tree, self.code.flow, self.code.roles
        self.backwards = [*backwards]
        self._slice: set[Definition] = set()
        self._statements: dict[cst.CSTNode, Function] = {}
        self.obstacles: list[Obstacle] = []
        self._demanded: set[tuple[int, int]] = set()
        for backward in self.backwards:
            self._demand(backward.loss, backward.node)
        self._low: set[cst.CSTNode] = set()
        self._solve()

    # ------------------------------------------------------------------ the slice

    def _demand(self, expression: cst.CSTNode, use: cst.CSTNode) -> None:
        """Put into the slice what gives ``expression`` its value where statement ``use`` runs."""
        stack: list[tuple[cst.CSTNode, cst.CSTNode]] = [(expression, use)]
        while stack:
            expr, at = stack.pop()
            if (id(expr), id(at)) in self._demanded:
                continue
            self._demanded.add((id(expr), id(at)))
            statement = at if isinstance(at, cst.Param) else blocks.small_statement_of(self.tree, at)
            for call in (n for n in walk_scope(expr) if isinstance(n, cst.Call)):
                stack.extend(self._through(call))
            for _, place in self.flow.reads(expr):
                if self.roles.at(place) not in _NOT_DATA:
                    for d in self.flow.reaching(place, statement):
                        stack.extend(self._enter(d))

    def _enter(self, d: Definition) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
        if d in self._slice:
            return
        self._slice.add(d)
        if d.how is How.PARAM:
            yield from ((value, value) for value in self.flow.passed(d))
            return
        self._statements[d.node] = d.function
        if d.value is not None:
            yield d.value, d.node

    def _through(self, call: cst.Call) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
        """A function of the file that holds acts cannot be wrapped as a whole: its forward is inside it."""
        callee = self.flow.callee(call)
        if callee is not None and self._barred(callee):
            for returned in self.flow.returns(callee):
                assert returned.value is not None
                self._statements[returned] = callee
                yield returned.value, returned

    def _barred(self, function: cst.FunctionDef) -> bool:
        return function in self.acts.carrying or any(isinstance(n, cst.Yield) for n in self.flow.body[function])

    # ------------------------------------------------------------------ what runs in half precision

    def _solve(self) -> None:
        changed = True
        while changed:
            changed = False
            for statement in self._statements:
                if statement not in self._low and self._lowers(statement):
                    self._low.add(statement)
                    changed = True
        for backward in self.backwards:
            if self._inline(backward.loss):
                self._statements.setdefault(blocks.small_statement_of(self.tree, backward.node), backward.function)

    def _lowers(self, statement: cst.CSTNode) -> bool:
        """Whether the statement's result may be in half precision once its modules run under autocast."""
        if isinstance(statement, cst.For | cst.With):
            return isinstance(statement, cst.For) and self.reads_low(statement.iter, statement)
        if self.island(statement):
            return False
        return self.reads_low(statement, statement)

    def reads_low(self, node: cst.CSTNode, statement: cst.CSTNode) -> bool:
        """Whether ``node`` runs a module, or reads a value that may be in half precision."""
        if any(isinstance(n, cst.Call) and self.runs_module(n) for n in walk_scope(node)):
            return True
        return any(self._is_low(place, statement) for _, place in self.flow.reads(node))

    def _is_low(self, place: Place, statement: cst.CSTNode) -> bool:
        if self.roles.at(place) in _NOT_DATA:
            return False
        small = blocks.small_statement_of(self.tree, statement)
        return any(self._low_definition(d, frozenset()) for d in self.flow.reaching(place, small))

    def _low_definition(self, d: Definition, seen: frozenset[Definition]) -> bool:
        if d.how is not How.PARAM:
            return d.node in self._low
        if d in seen:
            return False
        return any(self._low_value(value, seen | {d}) for value in self.flow.passed(d))

    def _low_value(self, value: cst.CSTNode, seen: frozenset[Definition]) -> bool:
        statement = blocks.small_statement_of(self.tree, value)
        if any(isinstance(n, cst.Call) and self.runs_module(n) for n in walk_scope(value)):
            return True
        reached = (d for _, p in self.flow.reads(value) if self.roles.at(p) not in _NOT_DATA
                   for d in self.flow.reaching(p, statement))  # fmt: skip
        return any(self._low_definition(d, seen) for d in reached)

    def runs_module(self, call: cst.Call) -> bool:
        """Whether a call runs the forward of a module, itself or in a helper that is given or sees one."""
        if call not in self._running:
            self._running[call] = False  # recursion ends here
            self._running[call] = self._runs_module(call)
        return self._running[call]

    @cached_property
    def _running(self) -> dict[cst.Call, bool]:
        return {}

    def _runs_module(self, call: cst.Call) -> bool:
        func = call.func
        if self.roles.of(func) is Role.MODULE:
            return not isinstance(self.flow.named(func), cst.ClassDef)
        if isinstance(func, cst.Attribute) and self.roles.of(func.value) is Role.MODULE:
            return func.attr.value not in words.HOUSEKEEPING and not func.attr.value.startswith(words.SETUP_PREFIXES)
        if isinstance(func, cst.Attribute) and self.roles.of(func.value) in _NOT_DATA:
            return False
        if (callee := self.flow.callee(call)) is not None:
            if self._barred(callee) or isinstance(self.flow.named(func), cst.ClassDef):
                return False
            inner = (n for f in (callee, *self.flow.reachable(callee)) for n in self.flow.body[f])
            return any(isinstance(n, cst.Call) and n is not call and self.runs_module(n) for n in inner)
        if self.flow.names.imported(func) and any(p.startswith("torch.") for p in self.flow.names.imported(func)):
            return False
        known = isinstance(func, cst.Name) and func.value in _PLAIN_CALLS
        return not known and any(self.roles.of(a.value) is Role.MODULE for a in call.args)

    # ------------------------------------------------------------------ islands

    def forbidden(self, call: cst.Call) -> bool:
        """Whether a call must not run under autocast, itself or in a helper: BCE on probabilities; distributions."""
        paths = self.flow.names.imported(call.func)
        return self.is_bce(call) or any(p.startswith(words.DISTRIBUTIONS) for p in paths)

    def is_bce(self, call: cst.Call) -> bool:
        if self.flow.names.imported(call.func) & words.BCE_FUNCTIONS:
            return True
        if self.made_by(call.func) & words.BCE_MODULES:
            return True
        callee = self.flow.callee(call)
        return callee is not None and not self._barred(callee) and self.holds_bce(callee) and not self.runs_module(call)

    def holds_bce(self, function: cst.FunctionDef) -> bool:
        inner = [n for f in (function, *self.flow.reachable(function)) for n in self.flow.body[f]]
        return any(
            self.flow.names.imported(n.func) & words.BCE_FUNCTIONS or self.made_by(n.func) & words.BCE_MODULES
            for n in inner
            if isinstance(n, cst.Call)
        )

    def made_by(self, node: cst.CSTNode, seen: frozenset[Place] = frozenset()) -> frozenset[str]:
        """The library constructors whose result ``node`` may be."""
        match node:
            case cst.Name() | cst.Attribute() | cst.Subscript() if (place := self.flow.place(node)) and place not in seen:
                values = [
                    v
                    for d in self.flow.assigned(place)
                    for v in (self.flow.passed(d) if d.how is How.PARAM else [d.value] if d.value else [])
                ]
                return frozenset().union(*(self.made_by(v, seen | {place}) for v in values))
            case cst.Call(func=func) if paths := self.flow.names.imported(func):
                return paths
            case cst.Call(func=cst.Attribute(value=inner)):
                return self.made_by(inner, seen)
            case cst.IfExp():
                return self.made_by(node.body, seen) | self.made_by(node.orelse, seen)
        return frozenset()

    def island(self, statement: cst.CSTNode) -> bool:
        """Whether a simple statement must run outside autocast, with float32 inputs."""
        if isinstance(statement, cst.BaseCompoundStatement):
            return False
        return any(isinstance(n, cst.Call) and self.forbidden(n) for n in walk_scope(statement))

    def _is_loss_call(self, call: cst.Call) -> bool:
        paths = self.flow.names.imported(call.func)
        functional = any(p.startswith("torch.nn.functional.") for p in paths)
        return self.forbidden(call) or functional or self.roles.of(call.func) is Role.LOSS

    def inputs(self, statement: cst.CSTNode) -> tuple[list[Hoist], list[cst.BaseExpression]]:
        """What an island needs: expressions to compute under autocast before it, values to take in float32."""
        hoists: list[Hoist] = []
        floats: list[cst.BaseExpression] = []
        calls = [n for n in walk_scope(statement) if isinstance(n, cst.Call)]
        for call in (c for c in calls if self._is_loss_call(c)):
            for arg in call.args:
                if any(isinstance(n, cst.Call) and self.runs_module(n) for n in walk_scope(arg.value)):
                    hoists.append(Hoist(arg.value, to_float=True))
                elif self.reads_low(arg.value, statement):
                    floats.append(arg.value)
        covered = {id(n) for hoist in hoists for n in walk(hoist.expression)}
        stray = [c for c in calls if self.runs_module(c) and id(c) not in covered]
        if stray or any(self._conditional(hoist.expression, statement) for hoist in hoists):
            reason = "the inputs of a loss that autocast forbids cannot be computed before it"
            self.obstacles.append(Obstacle("AMP021", self.tree.span(statement), reason))
        return hoists, floats

    def _conditional(self, expression: cst.CSTNode, statement: cst.CSTNode) -> bool:
        """Whether an expression of a statement may run more or less than once: it cannot be moved before it."""
        for parent in self.tree.parents(expression):
            if parent is statement:
                return False
            if isinstance(parent, cst.IfExp | cst.BooleanOperation | cst.BaseComp | cst.Lambda):
                return True
        return False

    # ------------------------------------------------------------------ regions

    @property
    def sliced(self) -> set[cst.CSTNode]:
        """The statements that feed a loss."""
        return {*self._statements}

    @property
    def low(self) -> bool:
        """Whether any module was found that computes a loss."""
        return bool(self._low) or any(region.hoists for region in self.found)

    @cached_property
    def found(self) -> tuple[Region, ...]:
        return tuple(self.regions())

    def regions(self) -> Iterator[Region]:
        """The runs to wrap, function by function in source order."""
        touched = {f: None for f in self._statements.values()}
        for function in self.flow.functions:
            if function in touched:
                body = function.body if isinstance(function, cst.FunctionDef) else function
                if isinstance(body, Block):
                    yield from self._runs(body, function)

    def floats(self) -> Iterator[cst.BaseExpression]:
        """Values that islands take in float32."""
        for function in {f: None for f in self._statements.values()}:
            for node in self.flow.body[function]:
                if isinstance(node, cst.BaseSmallStatement) and self.island(node):
                    yield from self.inputs(node)[1]

    def _runs(self, block: Block, function: Function) -> Iterator[Region]:
        run: list[cst.CSTNode] = []
        pending: list[cst.CSTNode] = []
        for statement in blocks.statements(block):
            if self._wrapped(statement):
                run, pending = ([*run, *pending, statement] if run else [statement]), []
                continue
            hoists = self._hoists(statement)
            if hoists:
                yield Region(function, tuple([*run, *pending] if run else ()), tuple(hoists))
                run, pending = [], []
            elif self._stops(statement):
                yield from self._closed(run, function)
                run, pending = [], []
            else:
                pending.append(statement)
            if not hoists or isinstance(statement, cst.BaseCompoundStatement):
                for inner in blocks.blocks(statement):
                    yield from self._runs(inner, function)
        yield from self._closed(run, function)

    def _closed(self, run: list[cst.CSTNode], function: Function) -> Iterator[Region]:
        """A run is worth a region if it calls anything: plain arithmetic on finished losses is not."""
        if any(isinstance(n, cst.Call) for s in run for n in walk_scope(s)):
            yield Region(function, tuple(run))

    def _simple(self, statement: cst.CSTNode) -> list[cst.CSTNode]:
        """The simple statements of a line, or of a block that is one line."""
        if isinstance(statement, cst.SimpleStatementLine):
            return [*statement.body]
        return [statement] if isinstance(statement, cst.BaseSmallStatement) else []

    def _wrapped(self, statement: cst.CSTNode) -> bool:
        """Whether a statement goes under autocast whole."""
        inside = [n for n in walk_scope(statement) if n in self._low]
        if not inside or self._stops(statement) or self._hoists(statement):
            return False
        match statement:
            case cst.For() | cst.While():
                return self._only_forward(statement)
            case cst.FunctionDef() | cst.ClassDef():
                return False
        return not any(self._hoists(s) or self._stops(s) for s in walk_scope(statement) if isinstance(s, cst.BaseSmallStatement))

    def _only_forward(self, loop: cst.For | cst.While) -> bool:
        """A loop goes whole under autocast if all it does is feed the loss; others are entered."""
        small = [n for n in walk_scope(loop.body) if isinstance(n, cst.BaseSmallStatement)]
        return all(n in self._statements or isinstance(n, cst.Continue | cst.Break | cst.Pass) for n in small) and not any(
            self._stops(n) or self._hoists(n) for n in small
        )

    def _hoists(self, statement: cst.CSTNode) -> list[Hoist]:
        """Expressions of a simple statement that must move into the region before it."""
        found: list[Hoist] = []
        for small in self._simple(statement):
            if small in self._statements or self.island(small):
                if self.island(small):
                    found += self.inputs(small)[0]
            found += [
                Hoist(act.loss if isinstance(act, Backward) else act.outputs, to_float=False)
                for act in self._acts_of(small)
                if (isinstance(act, Backward) and act in self.backwards and self._inline(act.loss))
                or (isinstance(act, InnerGradient) and small in self._statements and self._inline(act.outputs))
            ]
        return found

    def _acts_of(self, small: cst.CSTNode) -> list[Act]:
        return [a for a in self.acts.direct[self.flow.function(small)] if isinstance(a, Backward | InnerGradient)
                and blocks.small_statement_of(self.tree, a.node) is small]  # fmt: skip

    def _inline(self, loss: cst.BaseExpression) -> bool:
        """Whether a loss expression does more than reduce or weigh values that have names already."""
        for node in walk_scope(loss):
            if isinstance(node, cst.Call):
                reduces = isinstance(node.func, cst.Attribute) and node.func.attr.value in _REDUCTIONS
                plain = isinstance(node.func, cst.Name) and node.func.value in _PLAIN_CALLS
                if self.runs_module(node) or not (reduces or plain):
                    return self.reads_low(loss, loss)
        return False

    def _stops(self, statement: cst.CSTNode) -> bool:
        """Whether a statement must not run under autocast, or must not be passed by a region."""
        if isinstance(statement, cst.FunctionDef | cst.ClassDef):
            return False
        return any(self._bars(node) for node in walk_scope(statement))

    def _bars(self, node: cst.CSTNode) -> bool:
        if node in self._act_nodes:
            return True
        match node:
            case cst.Yield() | cst.Await():
                return True
            case cst.With():
                return any(self._no_grad(item.item) or self.code.amp.is_autocast(item.item) for item in node.items)
            case cst.Attribute(attr=cst.Name(value="data")):
                return self._written(node)
            case cst.Call():
                callee = self.flow.callee(node)
                name = node.func.attr.value if isinstance(node.func, cst.Attribute) else ""
                return (
                    (callee is not None and (self._barred(callee) or self._evaluates(callee)))
                    or self.forbidden(node)
                    or name in ("load_state_dict", "numpy", "eval")
                )
        return False

    def _evaluates(self, function: cst.FunctionDef) -> bool:
        """A function that switches gradients off and runs modules: its casts must not enter a training region."""
        return any(isinstance(n, cst.With) and any(self._no_grad(i.item) for i in n.items) for n in self.flow.body[function])

    def _no_grad(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.Call) and bool(self.flow.names.imported(node.func) & words.NO_GRAD)

    def _written(self, node: cst.Attribute) -> bool:
        """``p.data`` as the target of an assignment or the receiver of a method that ends in an underscore."""
        match self.flow.names.parent[node]:
            case cst.AssignTarget() | cst.AugAssign():
                return True
            case cst.Attribute(attr=cst.Name(value=name)):
                return name.endswith("_")
        return False

    @cached_property
    def _act_nodes(self) -> set[cst.CSTNode]:
        return {act.node for found in self.acts.direct.values() for act in found}
