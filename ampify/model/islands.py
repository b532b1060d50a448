"""Islands in a forward: what autocast forbids runs outside of it, on inputs in float32.

A binary cross entropy on probabilities raises under CUDA autocast, and the sigmoid before it saturates in float16; what
a distribution computes from half-precision parameters is noise in its log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import How, Place
from ampify.model.flow import params
from ampify.model.probabilities import Probabilities, Source, Unseen, logged
from ampify.model.roles import Role
from ampify.model.step import Hoist, Obstacle
from ampify.syntax import blocks
from ampify.syntax.walk import arguments, walk

if TYPE_CHECKING:
    from ampify.model.forward import Forward


class Islands:
    """The islands of one forward."""

    def __init__(self, forward: Forward) -> None:
        self.forward, self.flow, self.roles, self.tree = forward, forward.flow, forward.roles, forward.tree
        self._holding: dict[cst.FunctionDef, bool] = {}
        self._forbidden: dict[cst.Call, bool] = {}

    def forbidden(self, call: cst.Call) -> bool:
        """Whether a call must not run under autocast, itself or in a helper: BCE on probabilities; distributions."""
        if call not in self._forbidden:
            self._forbidden[call] = self.is_bce(call) or self._makes_distribution(call)
        return self._forbidden[call]

    def _makes_distribution(self, call: cst.Call) -> bool:
        paths = self.flow.names.imported(call.func)
        return any(p.startswith(words.DISTRIBUTIONS) and p.rpartition(".")[2][0].isupper() for p in paths)

    def is_bce(self, call: cst.Call) -> bool:
        if self.stands_for(call.func) & words.BCE_FUNCTIONS:
            return True
        if self.made_by(call.func) & words.BCE_MODULES:
            return True
        callee = self.flow.callee(call)
        return (
            callee is not None
            and not self.forward.barred(callee)
            and self.holds_bce(callee)
            and not self.forward.runs_module(call)
        )

    def holds_bce(self, function: cst.FunctionDef) -> bool:
        if function not in self._holding:
            self._holding[function] = self._holds_bce(function)
        return self._holding[function]

    def _holds_bce(self, function: cst.FunctionDef) -> bool:
        return any(
            self.stands_for(n.func) & words.BCE_FUNCTIONS or self.made_by(n.func) & words.BCE_MODULES
            for f in (function, *self.flow.reachable(function))
            for n in self.flow.calls_in[f]
        )

    def stands_for(self, node: cst.CSTNode) -> frozenset[str]:
        """The library functions that a callable may be, also one that was passed as an argument."""
        if found := self.flow.names.imported(node):
            return found
        place = self.flow.place(node)
        given = [v for d in self.flow.assigned(place) for v in self.flow.passed(d)] if place is not None else []
        return frozenset().union(*(self.flow.names.imported(value) for value in given))

    def made_by(self, node: cst.CSTNode, seen: frozenset[Place] = frozenset()) -> frozenset[str]:
        """The library constructors whose result ``node`` may be."""
        match node:
            case cst.Name() | cst.Attribute() | cst.Subscript() if (
                place := self.flow.place(node)
            ) and place not in seen:
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
        return any(map(self.forbidden, self.flow.calls_inside(statement)))

    def _is_loss_call(self, call: cst.Call) -> bool:
        paths = self.flow.names.imported(call.func)
        functional = any(p.startswith("torch.nn.functional.") for p in paths)
        return self.forbidden(call) or functional or self.roles.of(call.func) is Role.LOSS

    def inputs(self, statement: cst.CSTNode) -> tuple[list[Hoist], list[cst.BaseExpression]]:
        """What an island needs: expressions to compute under autocast before it, values to take in float32."""
        hoists: list[Hoist] = []
        floats: list[cst.BaseExpression] = []
        calls = self.flow.calls_inside(statement)
        for call in (c for c in calls if self._is_loss_call(c)):
            for arg in call.args:
                inline = any(map(self.forward.runs_module, self.flow.calls_inside(arg.value)))
                if not inline and not self.forward.reads_low(arg.value, statement):
                    continue
                exact = self._exact(call, arg)
                if not self._takes_tensor(call, arg):
                    reason = f"`{self.tree.text(arg.value)}` may be no tensor, and the loss needs it in float32"
                    self.forward.obstacles.append(Obstacle("AMP021", self.tree.span(arg), reason))
                elif inline:
                    hoists.append(Hoist(arg.value, "output", to_float=not exact))
                elif not exact:
                    floats.append(arg.value)
        covered = {id(n) for hoist in hoists for n in walk(hoist.expression)}
        stray = [c for c in calls if self.forward.runs_module(c) and id(c) not in covered]
        if stray or any(self._conditional(hoist.expression, statement) for hoist in hoists):
            reason = "the inputs of a loss that autocast forbids cannot be computed before it"
            self.forward.obstacles.append(Obstacle("AMP021", self.tree.span(statement), reason))
        return hoists, floats

    def _exact(self, call: cst.Call, arg: cst.Arg) -> bool:
        """Whether an argument is a probability out of a sigmoid that is in sight, and so runs in float32."""
        direct = self.flow.names.imported(call.func) | self.made_by(call.func)
        if arg is not call.args[0] or not direct & (words.BCE_FUNCTIONS | words.BCE_MODULES):
            return False
        try:
            return bool([*Probabilities(self).of(arg.value)])
        except Unseen:
            return False

    def _takes_tensor(self, call: cst.Call, arg: cst.Arg) -> bool:
        """Whether an argument can only be a tensor: PyTorch's losses take nothing else, a helper shows it."""
        callee = self.flow.callee(call)
        if callee is None:
            return True
        if arg.star:
            return False
        names = [p.name for p in params(callee)]
        name = next((n for n in names if self.flow.argument(call, callee, n.value) is arg.value), None)
        place = self.flow.place(name) if name is not None else None
        return place is not None and all(
            self._as_tensor(node)
            for node in self.flow.body[callee]
            if node is not name and self.flow.place(node) == place
        )

    def _as_tensor(self, node: cst.CSTNode) -> bool:
        """Whether a name is used as only tensors are: in arithmetic, by a function of torch, by a method of tensors."""
        match self.flow.names.parent[node]:
            case cst.BinaryOperation() | cst.UnaryOperation():
                return True
            case cst.Attribute(attr=cst.Name(value=name)) if name in words.TENSOR_METHODS:
                return True
            case cst.Arg() as arg:
                call = self.flow.names.parent[arg]
                if not isinstance(call, cst.Call):
                    return False
                known = any(p.startswith("torch.") for p in self.flow.names.imported(call.func))
                return known or self.roles.of(call.func) is Role.LOSS
        return False

    def _conditional(self, expression: cst.CSTNode, statement: cst.CSTNode) -> bool:
        """Whether an expression of a statement may run more or less than once: it cannot be moved before it."""
        for parent in self.tree.parents(expression):
            if parent is statement:
                return False
            if isinstance(parent, cst.IfExp | cst.BooleanOperation | cst.BaseComp | cst.Lambda):
                return True
        return False

    @cached_property
    def probabilities(self) -> tuple[Source, ...]:
        """The sigmoids whose results go into a binary cross entropy, or whose logarithm is taken."""
        found: dict[Source, None] = {}
        for function in dict.fromkeys(self.forward.statements.values()):
            for call in filter(self.is_bce, self.flow.calls_in[function]):
                if any(self.forward.reads_low(a, call) for a in arguments(call)):
                    found.update(dict.fromkeys(self._sigmoids(call)))
        return tuple(found | dict.fromkeys(self._of_logarithms()))

    def _of_logarithms(self) -> Iterator[Source]:
        """``torch.log(1 - torch.sigmoid(x) + eps)``: in float16 a sigmoid is 1 early on, and has no gradient there."""
        direct = dict.fromkeys(self.forward.statements.values())
        below = dict.fromkeys(f for function in direct for f in self.flow.reachable(function) if f not in direct)
        for function in (*direct, *below):
            for call in (n for n in self.flow.body[function] if isinstance(n, cst.Call)):
                for value in logged(call, self.flow):
                    if function in below or self.forward.reads_low(value, call):
                        yield from Probabilities(self).sigmoids(value)

    def _sigmoids(self, call: cst.Call) -> Iterator[Source]:
        """The sources of the probabilities that a loss takes; the loss is an obstacle where they cannot be seen."""
        for value in self._probable(call):
            try:
                yield from [*Probabilities(self).of(value)]
            except Unseen:
                reason = (
                    f"the sigmoid behind `{self.tree.text(value)}` cannot be seen, and in float16 it saturates until "
                    "the gradient of the binary cross entropy overflows (AMP401); take logits with `BCEWithLogitsLoss`"
                )
                self.forward.obstacles.append(Obstacle("AMP021", self.tree.span(call), reason, risk=True))
                return

    def _probable(self, call: cst.Call) -> Iterator[cst.BaseExpression]:
        """What the first argument of a binary cross entropy is, in a helper seen from the call of the helper."""
        callee = self.flow.callee(call)
        direct = (
            self.flow.names.imported(call.func) & words.BCE_FUNCTIONS or self.made_by(call.func) & words.BCE_MODULES
        )
        if direct or callee is None:
            yield from [*arguments(call)][:1]
            return
        inner = (n for f in (callee, *self.flow.reachable(callee)) for n in self.flow.calls_in[f])
        for node in inner:
            if self.flow.names.imported(node.func) & words.BCE_FUNCTIONS or self.made_by(node.func) & words.BCE_MODULES:
                given = node.args[0].value if node.args else None
                name = given.value if isinstance(given, cst.Name) else None
                passed = self.flow.argument(call, callee, name) if name is not None else None
                yield passed if passed is not None else call

    def floats(self) -> Iterator[cst.BaseExpression]:
        """Values that islands take in float32, sigmoids before them, and distributions in the modules of this file."""
        yield from dict.fromkeys(self._distributed())
        yield from (source.argument for source in self.probabilities if source.argument is not None)
        for function in dict.fromkeys(self.forward.statements.values()):
            for node in self.flow.body[function]:
                if isinstance(node, cst.BaseSmallStatement) and self.island(node):
                    yield from self.inputs(node)[1]

    def _distributed(self) -> Iterator[cst.BaseExpression]:
        """What modules give to the distributions that they make: sampling and log-probabilities need float32."""
        calls = [
            n
            for r in self.forward.runs.found
            for s in (*r.statements, *(h.expression for h in r.hoists))
            for n in self.flow.inside(s)
        ]
        for call in (n for n in calls if isinstance(n, cst.Call)):
            callee = self.flow.callee(call)
            for function in (callee, *self.flow.reachable(callee)) if callee is not None else ():
                yield from (a for node in self.flow.body[function] for a in self._parameters(node))

    def _parameters(self, node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
        """The arguments of a distribution that come straight from a module."""
        if not isinstance(node, cst.Call):
            return
        if self._makes_distribution(node):
            statement = blocks.small_statement_of(self.tree, node)
            for value in arguments(node):
                place = self.flow.place(value)
                reached = self.flow.reaching(place, statement) if place is not None else []
                if any(
                    d.value is not None and self.forward.runs.any_module(d.value) for d in reached
                ) or self.forward.runs.any_module(value):
                    yield value
