"""The forward of a training step by data dependence: what computes the losses that are differentiated.

A backward slice from each loss finds the statements that feed it, through branches, loops, calls, attributes and
parameters. Those that run a module, or read what such a statement gave, belong under autocast (they are *low*: their
results may be in half precision). Islands stay outside: what autocast forbids gets its inputs back in float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

import libcst as cst

from ampify.model import records
from ampify.model import vocabulary as words
from ampify.model.acts import Acts
from ampify.model.definitions import Definition, How, Place
from ampify.model.flow import operands
from ampify.model.islands import Islands
from ampify.model.roles import Role
from ampify.model.running import Running
from ampify.model.runs import Runs
from ampify.model.step import Backward, Obstacle
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import arguments

_NOT_DATA = {Role.MODULE, Role.OPTIMIZER, Role.SCHEDULER, Role.LOSS, Role.LOADER, Role.DEVICE, Role.SCALER}
_NUMBERS = {"item", "tolist", "numpy", "shape", "size", "device", "dtype", "ndim", "numel", "dim", "requires_grad"}
"""Attributes and methods of a tensor that leave its graph, or say nothing of its values."""
_VIEWS = {"T", "mT", "H", "data"}
"""Attributes of a tensor that are the tensor itself, seen otherwise."""
_LEAVING = {
    "item", "tolist", "numpy", "argmax", "argmin", "long", "int", "bool", "float", "double", "size", "numel", "dim",
    "eq", "ne", "gt", "lt", "ge", "le", "nonzero", "len", "str", "print", "isinstance", "range",
}  # fmt: skip
_WIDENING = {"float", "double"}
"""Those of them that keep the graph: a module in front of one runs under autocast all the same."""
_NEW_TENSORS = {"torch.tensor", "torch.from_numpy"} | {
    f"torch.{where}{kind}Tensor"
    for where in ("", "cuda.")
    for kind in ("", "Float", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
}
"""What makes a tensor with a graph and a dtype of its own."""
PLAIN_CALLS = {"sum", "len", "float", "list", "tuple", "int", "print", "isinstance", "range", "zip", "enumerate"}


_Source = cst.Call | Definition
"""What a value may come from: what a call gives, or what a definition gives its place."""


class Forward:
    """The forward of the losses of ``backwards``."""

    def __init__(self, acts: Acts, backwards: Iterable[Backward]) -> None:
        self.acts, self.code = acts, acts.code
        self.tree, self.flow, self.roles = self.code.tree, self.code.flow, self.code.roles
        self.backwards = [*backwards]
        self.islands = Islands(self)
        self.runs = Runs(self)
        self._slice: set[Definition] = set()
        self.statements: dict[cst.CSTNode, Function] = {}
        self.obstacles: list[Obstacle] = []
        self._demanded: set[tuple[int, int]] = set()
        self._fed: dict[tuple[cst.CSTNode, cst.CSTNode], tuple[_Source, ...]] = {}
        self._given: dict[Definition, tuple[_Source, ...]] = {}
        self._entered: set[Function] = set()
        for backward in self.backwards:
            self._demand(backward.loss, backward.node)
        self._enter_functions()
        self.half: set[cst.CSTNode] = set()
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
                        if self._carries(d.place):  # what makes a module computes none of its weights
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
        self.statements[d.node] = d.function
        if d.value is not None:
            yield d.value, d.node

    def _enter_functions(self) -> None:
        """Functions that parts of the loss come out of by other ways than their result hold regions of their own."""
        while not {*self.statements.values()} <= self._entered:
            self._entered |= {*self.statements.values()}
            for statement in [*self.statements]:
                for call in self.flow.calls_inside(statement):
                    for value, at in [*self._through(call)]:
                        self._demand(value, at)

    def _through(self, call: cst.Call) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
        """A function of the file that cannot be wrapped as a whole: its forward is inside it."""
        callee = self.flow.callee(call)
        if callee is not None and self._open(callee):
            for returned in self.flow.returns(callee):
                assert returned.value is not None
                self.statements[returned] = callee
                yield returned.value, returned

    def barred(self, function: cst.FunctionDef) -> bool:
        return function in self.acts.carrying or function in self.flow.generators

    def _open(self, function: cst.FunctionDef) -> bool:
        return function in self._entered or self.barred(function)

    # ------------------------------------------------------------------ what runs in half precision

    def _solve(self) -> None:
        changed = True
        while changed:
            changed = False
            for statement in self.statements:
                if statement not in self.half and self._lowers(statement):
                    self.half.add(statement)
                    changed = True
        for backward in self.backwards:
            if self.runs.inline(backward.loss):
                self.statements.setdefault(blocks.small_statement_of(self.tree, backward.node), backward.function)

    def _lowers(self, statement: cst.CSTNode) -> bool:
        """Whether the statement's result may be in half precision once its modules run under autocast."""
        if isinstance(statement, cst.For | cst.With):
            return isinstance(statement, cst.For) and self.reads_low(statement.iter, statement)
        if self.islands.island(statement):
            return False
        return self.reads_low(statement, statement)

    def reads_low(self, node: cst.CSTNode, statement: cst.CSTNode) -> bool:
        """Whether the value of ``node`` may be in half precision: a module gave it, or something that one gave."""
        return any(
            self.runs_module(source) or self._gives_low(source)
            if isinstance(source, cst.Call)
            else self._low_definition(source)
            for source in self._feeding(node, statement)
        )

    def _feeding(self, node: cst.CSTNode, at: cst.CSTNode) -> tuple[_Source, ...]:
        """The calls in an expression, and the definitions it reads at a statement, that its value may come from."""
        if (node, at) not in self._fed:
            self._fed[node, at] = tuple(dict.fromkeys(self._sources(node, blocks.small_statement_of(self.tree, at))))
        return self._fed[node, at]

    def _sources(self, node: cst.CSTNode, statement: blocks.Statement) -> Iterator[_Source]:
        for part in self._flowing(node):
            if isinstance(part, cst.Call):
                yield part
            elif (place := self.flow.place(part)) is not None and self._carries(place):
                yield from self.flow.reaching(place, statement)

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
        if any(p in _NEW_TENSORS or p.startswith("numpy.") for p in self.flow.names.imported(call.func)):
            return True
        if name in _WIDENING and isinstance(call.func, cst.Attribute) and self.runs.any_module(call.func.value):
            return False
        return name in _LEAVING and self.flow.callee(call) is None

    def spread(self) -> None:
        """Follow half-precision results to statements that feed no loss; modules called there run in float32."""
        changed = True
        while changed:
            changed = False
            for d in (d for found in self.flow.definitions.values() for d in found):
                if d.value is None or d.how is How.PARAM or d.node in self.half:
                    continue
                if self._carries_low(d.value, d.node) and not self.islands.island(d.node):
                    self.half.add(d.node)
                    changed = True

    def _carries_low(self, node: cst.CSTNode, statement: cst.CSTNode) -> bool:
        """Whether the value of ``node`` comes from a region: modules called in it itself do not count."""
        return any(
            self._gives_low(source) if isinstance(source, cst.Call) else self._low_definition(source)
            for source in self._feeding(node, statement)
        )

    def _gives_low(self, call: cst.Call) -> bool:
        """Whether a function that holds regions of its own returns what they compute."""
        callee = self.flow.callee(call)
        if callee is None or not self._open(callee) or callee in self._asked:
            return False
        self._asked.add(callee)
        returns = [r for r in self.flow.returns(callee) if r.value is not None]
        found = any(r in self.half or self._carries_low(r.value, r) for r in returns if r.value is not None)
        self._asked.discard(callee)
        return found

    def _low_definition(self, d: Definition) -> bool:
        if d.how is not How.PARAM:
            return d.node in self.half and not self._buffered(d)
        return any(
            self.runs_module(source) if isinstance(source, cst.Call) else self._low_definition(source)
            for source in self._passed(d)
        )

    def _passed(self, parameter: Definition) -> tuple[_Source, ...]:
        """What a parameter may be given, other parameters followed to what they are given."""
        if parameter not in self._given:
            seen, waiting = {parameter: None}, [parameter]
            found: dict[_Source, None] = {}
            while waiting:
                for value in self.flow.passed(waiting.pop()):
                    for source in self._feeding(value, value):
                        if isinstance(source, cst.Call) or source.how is not How.PARAM:
                            found[source] = None
                        elif source not in seen:
                            seen[source] = None
                            waiting.append(source)
            self._given[parameter] = tuple(found)
        return self._given[parameter]

    def _buffered(self, d: Definition) -> bool:
        return d.how is How.CHANGE and self.keeps(d)

    def keeps(self, d: Definition) -> bool:
        """``values[step] = value``: a tensor, or an array, that was made before keeps its own dtype."""
        if not d.place.path[-1].startswith("["):
            return False
        base = Place(d.place.root, d.place.path[:-1])
        made = [o.value for o in self.flow.assigned(base) if o.value is not None and o.how is How.ASSIGN]
        return bool(made) and all(
            self.islands.made_by(v) and all(p.startswith(("torch.", "numpy.")) for p in self.islands.made_by(v))
            for v in made
        )

    def runs_module(self, call: cst.Call) -> bool:
        """Whether a call runs the forward of a module, itself or in a helper that is given or sees one."""
        if call not in self._modules_run:
            self._modules_run[call] = False  # recursion ends here
            self._modules_run[call] = self._runs_module(call)
        return self._modules_run[call]

    @cached_property
    def _modules_run(self) -> dict[cst.Call, bool]:
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
            if (callee := self.flow.callee(call)) is not None and self._open(callee):
                return False  # its regions are inside
            return func.attr.value not in words.HOUSEKEEPING and not func.attr.value.startswith(words.SETUP_PREFIXES)
        if isinstance(func, cst.Attribute) and self.roles.of(func.value) in _NOT_DATA:
            return False
        if (callee := self.flow.callee(call)) is not None:
            if self._open(callee) or isinstance(self.flow.named(func), cst.ClassDef):
                return False
            inner = (n for f in (callee, *self.flow.reachable(callee)) for n in self.flow.calls_in[f])
            return any(n is not call and self.runs_module(n) for n in inner)
        if self.flow.names.imported(func) and any(p.startswith("torch.") for p in self.flow.names.imported(func)):
            return False
        if isinstance(self.flow.named(func), cst.ClassDef) or records.given(self.flow, call):
            return False
        known = isinstance(func, cst.Name) and func.value in PLAIN_CALLS
        known |= bool(self.flow.names.imported(func) & words.MODULE_WRAPPERS)
        return not known and any(self.roles.of(a.value) is Role.MODULE for a in call.args)

    # ------------------------------------------------------------------ regions

    @property
    def sliced(self) -> Collection[cst.CSTNode]:
        """The statements that feed a loss."""
        return self.statements.keys()

    @cached_property
    def running(self) -> Running:
        """What runs under autocast, once the regions are known."""
        return Running(self)

    @property
    def low(self) -> bool:
        """Whether any module was found that computes a loss."""
        return bool(self.half) or any(region.hoists for region in self.runs.found)
