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
from ampify.model.flow import Definition, How, Place, operands, params
from ampify.model.probabilities import Probabilities, Source, Unseen
from ampify.model.roles import Role
from ampify.model.step import Act, Backward, Hoist, InnerGradient, Obstacle, Region
from ampify.syntax import blocks
from ampify.syntax.blocks import Block, Function
from ampify.syntax.walk import arguments, walk, walk_scope

_NOT_DATA = {Role.MODULE, Role.OPTIMIZER, Role.SCHEDULER, Role.LOSS, Role.LOADER, Role.DEVICE, Role.SCALER}
_NUMBERS = {"item", "tolist", "numpy", "shape", "size", "device", "dtype", "ndim", "numel", "dim", "requires_grad"}
"""Attributes and methods of a tensor that leave its graph, or say nothing of its values."""
_VIEWS = {"T", "mT", "H", "data"}
"""Attributes of a tensor that are the tensor itself, seen otherwise."""
_REDUCTIONS = {"mean", "sum", "item", "detach", "squeeze", "values", "float", "clone"}
_LEAVING = {
    "item", "tolist", "numpy", "argmax", "argmin", "long", "int", "bool", "float", "double", "size", "numel", "dim",
    "eq", "ne", "gt", "lt", "ge", "le", "nonzero", "len", "str", "print", "isinstance", "range",
}  # fmt: skip
_MOVES = {
    "reshape", "view", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "contiguous", "to", "expand", "size",
    "append", "extend", "insert", "add", "update", "detach", "detach_", "item", "float", "cpu", "clone", "tuple",
    "list", "requires_grad_", "dict", "zip", "enumerate", "values", "items", "len", "print", "isinstance", "int",
    "range", "backward",
}  # fmt: skip
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
        self._entered: set[Function] = set()
        for backward in self.backwards:
            self._demand(backward.loss, backward.node)
        self._enter_functions()
        self._low: set[cst.CSTNode] = set()
        self._asked: set[cst.FunctionDef] = set()
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
            for part in self._flowing(expr):
                if isinstance(part, cst.Call):
                    stack.extend(self._through(part))
                elif (place := self.flow.place(part)) is not None and self._carries(place):
                    for d in self.flow.reaching(place, statement):
                        stack.extend(self._enter(d))

    def _carries(self, place: Place) -> bool:
        """Whether what is read is data that a gradient may flow through: no module, no number, no shape."""
        return self.roles.at(place) not in _NOT_DATA and place.path[-1] not in _NUMBERS

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

    def _enter_functions(self) -> None:
        """Functions that parts of the loss come out of by other ways than their result hold regions of their own."""
        while not {*self._statements.values()} <= self._entered:
            self._entered |= {*self._statements.values()}
            for statement in [*self._statements]:
                for call in (n for n in walk_scope(statement) if isinstance(n, cst.Call)):
                    for value, at in [*self._through(call)]:
                        self._demand(value, at)

    def _through(self, call: cst.Call) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
        """A function of the file that cannot be wrapped as a whole: its forward is inside it."""
        callee = self.flow.callee(call)
        if callee is not None and self._open(callee):
            for returned in self.flow.returns(callee):
                assert returned.value is not None
                self._statements[returned] = callee
                yield returned.value, returned

    def _barred(self, function: cst.FunctionDef) -> bool:
        return function in self.acts.carrying or any(isinstance(n, cst.Yield) for n in self.flow.body[function])

    def _open(self, function: cst.FunctionDef) -> bool:
        return function in self._entered or self._barred(function)

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
        """Whether the value of ``node`` may be in half precision: a module gave it, or something that one gave."""
        return any(
            (isinstance(part, cst.Call) and (self.runs_module(part) or self._gives_low(part)))
            or ((place := self.flow.place(part)) is not None and self._is_low(place, statement))
            for part in self._flowing(node)
        )

    def _flowing(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The calls and names of an expression whose values can reach its result with their gradient and dtype."""
        stack: list[cst.CSTNode] = [node]
        while stack:
            current = stack.pop()
            if isinstance(current, cst.Call):
                if self._leaves_graph(current):
                    continue
                yield current
                stack += arguments(current)
                if isinstance(current.func, cst.Attribute) and not self.flow.names.imported(current.func):
                    stack += [] if self.roles.of(current.func) else [current.func.value]  # the receiver of a method
                elif isinstance(current.func, cst.Call):
                    stack.append(current.func)
            elif isinstance(current, cst.Attribute) and current.attr.value in _VIEWS:
                stack.append(current.value)
            elif isinstance(current, cst.Name | cst.Attribute | cst.Subscript):
                yield current
                if isinstance(current, cst.Attribute | cst.Subscript) and self.flow.place(current) is None:
                    stack.append(current.value)
            elif not isinstance(current, cst.Comparison):
                stack += operands(current)

    def _leaves_graph(self, call: cst.Call) -> bool:
        """``x.item()``, ``torch.argmax(x)``, ``len(x)``: numbers, indices and float32 values made from a tensor."""
        name = call.func.attr.value if isinstance(call.func, cst.Attribute) else getattr(call.func, "value", "")
        return name in _LEAVING and self.flow.callee(call) is None

    def spread(self) -> None:
        """Follow half-precision results to statements that feed no loss; modules called there run in float32."""
        changed = True
        while changed:
            changed = False
            for d in (d for found in self.flow.definitions.values() for d in found):
                if d.value is None or d.how is How.PARAM or d.node in self._low or self.island(d.node):
                    continue
                if self._carries_low(d.value, d.node):
                    self._low.add(d.node)
                    changed = True

    def _carries_low(self, node: cst.CSTNode, statement: cst.CSTNode) -> bool:
        """Whether the value of ``node`` comes from a region: modules called in it itself do not count."""
        return any(
            (isinstance(part, cst.Call) and self._gives_low(part))
            or ((place := self.flow.place(part)) is not None and self._is_low(place, statement))
            for part in self._flowing(node)
        )

    def _gives_low(self, call: cst.Call) -> bool:
        """Whether a function that holds regions of its own returns what they compute."""
        callee = self.flow.callee(call)
        if callee is None or not self._open(callee) or callee in self._asked:
            return False
        self._asked.add(callee)
        returns = [r for r in self.flow.returns(callee) if r.value is not None]
        found = any(r in self._low or self._carries_low(r.value, r) for r in returns if r.value is not None)
        self._asked.discard(callee)
        return found

    def _is_low(self, place: Place, statement: cst.CSTNode) -> bool:
        if not self._carries(place):
            return False
        small = blocks.small_statement_of(self.tree, statement)
        return any(self._low_definition(d, frozenset()) for d in self.flow.reaching(place, small))

    def _low_definition(self, d: Definition, seen: frozenset[Definition]) -> bool:
        if d.how is not How.PARAM:
            return d.node in self._low and not self._buffered(d)
        if d in seen:
            return False
        return any(self._low_value(value, seen | {d}) for value in self.flow.passed(d))

    def _buffered(self, d: Definition) -> bool:
        """``values[step] = value``: a tensor that was made before keeps its own dtype."""
        if d.how is not How.CHANGE or not d.place.path[-1].startswith("["):
            return False
        base = Place(d.place.root, d.place.path[:-1])
        made = [o.value for o in self.flow.assigned(base) if o.value is not None and o.how is How.ASSIGN]
        return bool(made) and all(
            self.made_by(v) and all(p.startswith("torch.") for p in self.made_by(v)) for v in made
        )

    def _low_value(self, value: cst.CSTNode, seen: frozenset[Definition]) -> bool:
        statement = blocks.small_statement_of(self.tree, value)
        for part in self._flowing(value):
            if isinstance(part, cst.Call) and self.runs_module(part):
                return True
            place = self.flow.place(part)
            reached = self.flow.reaching(place, statement) if place is not None and self._carries(place) else []
            if any(self._low_definition(d, seen) for d in reached):
                return True
        return False

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
        match func:
            case cst.Attribute(value=cst.Name() as receiver, attr=cst.Name(value="forward")) if (
                own := self.flow.self_class(receiver)
            ) is not None and self.flow.callee(call) is None:  # inherited
                return self.roles.of_class(own) is Role.MODULE
        if isinstance(func, cst.Attribute) and self.roles.of(func.value) is Role.MODULE:
            return func.attr.value not in words.HOUSEKEEPING and not func.attr.value.startswith(words.SETUP_PREFIXES)
        if isinstance(func, cst.Attribute) and self.roles.of(func.value) in _NOT_DATA:
            return False
        if (callee := self.flow.callee(call)) is not None:
            if self._open(callee) or isinstance(self.flow.named(func), cst.ClassDef):
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
        return self.is_bce(call) or self._makes_distribution(call)

    def _makes_distribution(self, call: cst.Call) -> bool:
        paths = self.flow.names.imported(call.func)
        return any(p.startswith(words.DISTRIBUTIONS) and p.rpartition(".")[2][0].isupper() for p in paths)

    def is_bce(self, call: cst.Call) -> bool:
        if self.stands_for(call.func) & words.BCE_FUNCTIONS:
            return True
        if self.made_by(call.func) & words.BCE_MODULES:
            return True
        callee = self.flow.callee(call)
        return callee is not None and not self._barred(callee) and self.holds_bce(callee) and not self.runs_module(call)

    def holds_bce(self, function: cst.FunctionDef) -> bool:
        inner = [n for f in (function, *self.flow.reachable(function)) for n in self.flow.body[f]]
        return any(
            self.stands_for(n.func) & words.BCE_FUNCTIONS or self.made_by(n.func) & words.BCE_MODULES
            for n in inner
            if isinstance(n, cst.Call)
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
                inline = any(isinstance(n, cst.Call) and self.runs_module(n) for n in walk_scope(arg.value))
                if not inline and not self.reads_low(arg.value, statement):
                    continue
                if not self._takes_tensor(call, arg):
                    reason = f"`{self.tree.text(arg.value)}` may be no tensor, and the loss needs it in float32"
                    self.obstacles.append(Obstacle("AMP021", self.tree.span(arg), reason))
                elif inline:
                    hoists.append(Hoist(arg.value, to_float=True))
                else:
                    floats.append(arg.value)
        covered = {id(n) for hoist in hoists for n in walk(hoist.expression)}
        stray = [c for c in calls if self.runs_module(c) and id(c) not in covered]
        if stray or any(self._conditional(hoist.expression, statement) for hoist in hoists):
            reason = "the inputs of a loss that autocast forbids cannot be computed before it"
            self.obstacles.append(Obstacle("AMP021", self.tree.span(statement), reason))
        return hoists, floats

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
        touched = dict.fromkeys(self._statements.values())
        for function in self.flow.functions:
            if function in touched:
                body = function.body if isinstance(function, cst.FunctionDef) else function
                if isinstance(body, Block):
                    yield from self._runs(body, function)

    @cached_property
    def probabilities(self) -> tuple[Source, ...]:
        """The sigmoids whose results go into a binary cross entropy."""
        found: dict[Source, None] = {}
        for function in dict.fromkeys(self._statements.values()):
            for call in (n for n in self.flow.body[function] if isinstance(n, cst.Call) and self.is_bce(n)):
                if any(self.reads_low(a, call) for a in arguments(call)):
                    found.update(dict.fromkeys(self._sigmoids(call)))
        return tuple(found)

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
                self.obstacles.append(Obstacle("AMP021", self.tree.span(call), reason, risk=True))
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
        inner = (
            n for f in (callee, *self.flow.reachable(callee)) for n in self.flow.body[f] if isinstance(n, cst.Call)
        )
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
        for function in dict.fromkeys(self._statements.values()):
            for node in self.flow.body[function]:
                if isinstance(node, cst.BaseSmallStatement) and self.island(node):
                    yield from self.inputs(node)[1]

    def _distributed(self) -> Iterator[cst.BaseExpression]:
        """What modules give to the distributions that they make: sampling and log-probabilities need float32."""
        calls = [
            n for r in self.found for s in (*r.statements, *(h.expression for h in r.hoists)) for n in walk_scope(s)
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
                if any(d.value is not None and self._runs_any(d.value) for d in reached) or self._runs_any(value):
                    yield value

    def _runs(self, block: Block, function: Function) -> Iterator[Region]:
        run: list[cst.CSTNode] = []
        pending: list[cst.CSTNode] = []
        for statement in blocks.statements(block):
            if self._wrapped(statement):
                run, pending = ([*run, *pending, statement] if run else [statement]), []
                continue
            hoists = self._hoists(statement)
            if hoists:
                kept = next(self._closed([*run, *pending] if run else [], function), Region(function, ()))
                yield Region(function, kept.statements, tuple(hoists))
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
        """A run begins where something is computed: moving results about is not worth a region."""
        first = next((i for i, s in enumerate(run) if self._runs_any(s) or self._computes(s)), None)
        if first is not None:
            yield Region(function, tuple(run[first:]))

    def _runs_any(self, node: cst.CSTNode) -> bool:
        return any(isinstance(n, cst.Call) and self.runs_module(n) for n in walk_scope(node))

    def _computes(self, node: cst.CSTNode) -> bool:
        """Whether a statement calls something on values in half precision that is more than moving them about."""
        for call in (n for n in walk_scope(node) if isinstance(n, cst.Call)):
            name = call.func.attr.value if isinstance(call.func, cst.Attribute) else getattr(call.func, "value", "")
            callee = self.flow.callee(call)
            moves = (name in _MOVES or self._foreign(call, node)) if callee is None else not self._works(callee)
            if not moves and self.reads_low(call, node):
                return True
        return False

    def _foreign(self, call: cst.Call, statement: cst.CSTNode) -> bool:
        """``envs.step(action)``: a method of something that is neither a tensor nor a loss function."""
        if not isinstance(call.func, cst.Attribute) or self.flow.names.imported(call.func):
            return False
        receiver = call.func.value
        return self.roles.of(receiver) is not Role.LOSS and not self.reads_low(receiver, statement)

    def _works(self, function: cst.FunctionDef) -> bool:
        """Whether a function of the file calls more than what moves values about."""
        for call in (n for n in self.flow.body[function] if isinstance(n, cst.Call)):
            name = call.func.attr.value if isinstance(call.func, cst.Attribute) else getattr(call.func, "value", "")
            if name not in _MOVES and self.flow.callee(call) is not function:
                return True
        return any(isinstance(n, cst.BinaryOperation) for n in self.flow.body[function])

    def _simple(self, statement: cst.CSTNode) -> list[cst.CSTNode]:
        """The simple statements of a line, or of a block that is one line."""
        if isinstance(statement, cst.SimpleStatementLine):
            return [*statement.body]
        return [statement] if isinstance(statement, cst.BaseSmallStatement) else []

    def _wrapped(self, statement: cst.CSTNode) -> bool:
        """Whether a statement goes under autocast whole."""
        inside = [n for n in walk_scope(statement) if n in self._low]
        if not inside or self._once(statement) or self._stops(statement) or self._hoists(statement):
            return False
        match statement:
            case cst.For() | cst.While():
                return self._only_forward(statement)
            case cst.FunctionDef() | cst.ClassDef():
                return False
        return not any(
            self._hoists(s) or self._stops(s) for s in walk_scope(statement) if isinstance(s, cst.BaseSmallStatement)
        )

    def uncovered(self) -> Iterator[cst.CSTNode]:
        """Statements that run a module, or compute on what one gave, and that no region could take in."""
        taken = {
            id(n) for r in self.found for s in (*r.statements, *(h.expression for h in r.hoists)) for n in walk_scope(s)
        }
        for small in self._low:
            if isinstance(small, cst.BaseCompoundStatement) or id(small) in taken or self._once(small):
                continue
            calls = [
                n for n in walk_scope(small) if isinstance(n, cst.Call) and self.runs_module(n) and id(n) not in taken
            ]
            if calls:
                yield small

    def _once(self, statement: cst.CSTNode) -> bool:
        """Whether a statement runs before the loop of its function that holds the backward: it is no part of a step."""
        for backward in self.backwards:
            if backward.function is self.flow.function(statement):
                loop = next(reversed([*blocks.loops(self.tree, backward.node)]), None)
                if (
                    loop is None
                    or loop is statement
                    or self.tree.contains(loop, statement)
                    or self.tree.contains(statement, loop)
                ):
                    return False
        return any(b.function is self.flow.function(statement) for b in self.backwards)

    def _only_forward(self, loop: cst.For | cst.While) -> bool:
        """A loop goes whole under autocast if all it does is feed the loss; others are entered."""
        small = [n for n in walk_scope(loop.body) if isinstance(n, cst.BaseSmallStatement)]
        return all(
            n in self._statements or isinstance(n, cst.Continue | cst.Break | cst.Pass) for n in small
        ) and not any(self._stops(n) or self._hoists(n) for n in small)

    def _hoists(self, statement: cst.CSTNode) -> list[Hoist]:
        """Expressions of a simple statement that must move into the region before it."""
        found: list[Hoist] = []
        for small in self._simple(statement):
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
                switched_off = any(self._no_grad(item.item) for item in node.items)
                return (switched_off and self._runs_any(node)) or any(
                    self.code.amp.is_autocast(i.item) for i in node.items
                )
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
        return any(
            isinstance(n, cst.With) and any(self._no_grad(i.item) for i in n.items) for n in self.flow.body[function]
        )

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
