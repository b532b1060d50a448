"""Runs of forward statements: the regions that go under autocast, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model import operators
from ampify.model.grad_mode import gradless, switches_off
from ampify.model.roles import Role
from ampify.model.step import Act, Backward, Hoist, InnerGradient, Region
from ampify.syntax import blocks
from ampify.syntax.blocks import Block, Function

if TYPE_CHECKING:
    from ampify.model.forward import Forward

_REDUCTIONS = {"mean", "sum", "item", "detach", "squeeze", "values", "float", "clone"}
_MOVES = {
    "reshape", "view", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "contiguous", "to", "expand", "size",
    "append", "extend", "insert", "add", "update", "detach", "detach_", "item", "float", "cpu", "clone", "tuple",
    "list", "requires_grad_", "dict", "zip", "enumerate", "values", "items", "len", "print", "isinstance", "int",
    "range", "backward",
}  # fmt: skip
_LISTED = operators.POLICIES["cuda"].half | operators.POLICIES["cuda"].float32
_PLAIN_CALLS = {"sum", "len", "float", "list", "tuple", "int", "print", "isinstance", "range", "zip", "enumerate"}


class Runs:
    """The regions of one forward."""

    def __init__(self, forward: Forward) -> None:
        self.forward, self.flow, self.roles, self.tree = forward, forward.flow, forward.roles, forward.tree
        self.islands = forward.islands

    def regions(self) -> Iterator[Region]:
        """The runs to wrap, function by function in source order."""
        touched = dict.fromkeys(self.forward.statements.values())
        for function in self.flow.functions:
            if function in touched:
                body = function.body if isinstance(function, cst.FunctionDef) else function
                if isinstance(body, Block):
                    yield from self._runs(body, function)

    def _runs(self, block: Block, function: Function) -> Iterator[Region]:
        run: list[cst.CSTNode] = []
        pending: list[cst.CSTNode] = []
        for previous, statement in pairwise((None, *blocks.statements(block))):
            assert statement is not None
            if previous is not None and self.tree.parted(previous, statement):
                yield from self._closed(run, function)
                run, pending = [], []
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
        """A run begins where something is computed: moving results about is not worth a region.

        One that records no gradients ends there, too: arithmetic on its results is the same under autocast.
        """
        computing = [i for i, s in enumerate(run) if self.any_module(s) or self._computes(s)]
        if computing and gradless(self.tree, run[0]):
            computing = [i for i in computing if self.any_module(run[i]) or self._computes(run[i], known=True)]
            run = run[: computing[-1] + 1] if computing else []
        if computing:
            yield Region(function, tuple(run[computing[0] :]))

    def models(self) -> list[cst.BaseExpression]:
        """What the regions call to run a module."""
        inside = [n for region in self.found for s in region.statements for n in self.flow.inside(s)]
        inside += [n for region in self.found for h in region.hoists for n in self.flow.inside(h.expression)]
        return [n.func for n in inside if isinstance(n, cst.Call) and self.forward.runs_module(n)]

    def any_module(self, node: cst.CSTNode) -> bool:
        return any(map(self.forward.runs_module, self.flow.calls_inside(node)))

    def _computes(self, node: cst.CSTNode, known: bool = False) -> bool:
        """Whether a statement does more on values in half precision than moving them about, adding, multiplying.

        With ``known``, whether autocast has a say in it: it has none in rounding, clamping, comparing.
        """
        return any(
            self._operates(n, node) and not (known and self._same(n)) and self.forward.reads_low(n, node)
            for n in self.flow.inside(node)
        )

    def _same(self, node: cst.CSTNode) -> bool:
        """Whether an operator of PyTorch does the same under autocast and without."""
        if not isinstance(node, cst.Call) or self.flow.callee(node) is not None:
            return False
        name = node.func.attr.value if isinstance(node.func, cst.Attribute) else ""
        known = operators.KEEPING | operators.MEETING | operators.WHOLE | operators.CREATING
        return name in known or name.endswith("_like")

    def _operates(self, node: cst.CSTNode, statement: cst.CSTNode) -> bool:
        match node:
            case cst.BinaryOperation(operator=cst.MatrixMultiply() | cst.Power()):
                return True
            case cst.Call(func=func):
                name = func.attr.value if isinstance(func, cst.Attribute) else getattr(func, "value", "")
                callee = self.flow.callee(node)
                moves = name in _MOVES or self._foreign(node, statement)
                return not moves if callee is None else self._works(callee)
        return False

    def _foreign(self, call: cst.Call, statement: cst.CSTNode) -> bool:
        """``envs.step(action)``: a method of something that is neither a tensor nor a loss function."""
        if not isinstance(call.func, cst.Attribute) or self.flow.names.imported(call.func):
            return False
        receiver = call.func.value
        return self.roles.of(receiver) is not Role.LOSS and not self.forward.reads_low(receiver, statement)

    def _works(self, function: cst.FunctionDef) -> bool:
        """Whether a function of the project calls more than what moves values about, and may do so on tensors."""
        if not any(map(self._on_tensors, (function, *self.flow.reachable(function)))):
            return False
        for call in self.flow.calls_in[function]:
            name = call.func.attr.value if isinstance(call.func, cst.Attribute) else getattr(call.func, "value", "")
            if name not in _MOVES and self.flow.callee(call) is not function:
                return True
        return any(isinstance(n, cst.BinaryOperation) for n in self.flow.body[function])

    def _on_tensors(self, function: cst.FunctionDef) -> bool:
        """Whether a function stands in a file that uses PyTorch, or calls a method that autocast has a say in."""
        if self.tree.module(function) in self._with_torch:
            return True
        methods = (call.func for call in self.flow.calls_in[function] if isinstance(call.func, cst.Attribute))
        return any(m.attr.value in _LISTED and not self.flow.names.imported(m) for m in methods)

    @cached_property
    def _with_torch(self) -> set[cst.Module]:
        """The files that use PyTorch."""
        names = (n for n in self.tree.all(cst.Name) if "torch" in {p[:5] for p in self.flow.names.imported(n)})
        return {self.tree.module(n) for n in names}

    def _simple(self, statement: cst.CSTNode) -> list[cst.CSTNode]:
        """The simple statements of a line, or of a block that is one line."""
        if isinstance(statement, cst.SimpleStatementLine):
            return [*statement.body]
        return [statement] if isinstance(statement, cst.BaseSmallStatement) else []

    def _wrapped(self, statement: cst.CSTNode) -> bool:
        """Whether a statement goes under autocast whole."""
        inside = [n for n in self.flow.inside(statement) if n in self.forward.half]
        if not inside or self.once(statement) or self._stops(statement) or self._hoists(statement):
            return False
        match statement:
            case cst.BaseCompoundStatement() if gradless(self.tree, statement) and not self._all_computes(statement):
                return False
            case cst.For() | cst.While():
                return self._only_forward(statement)
            case cst.FunctionDef() | cst.ClassDef():
                return False
        return not any(
            self._hoists(s) or self._stops(s)
            for s in self.flow.inside(statement)
            if isinstance(s, cst.BaseSmallStatement)
        )

    def uncovered(self) -> Iterator[cst.CSTNode]:
        """Statements that run a module, or compute on what one gave, and that no region could take in."""
        taken = {
            id(n)
            for r in self.found
            for s in (*r.statements, *(h.expression for h in r.hoists))
            for n in self.flow.inside(s)
        }
        for small in self.forward.half:
            if isinstance(small, cst.BaseCompoundStatement) or id(small) in taken or self.once(small):
                continue
            if any(self.forward.runs_module(n) and id(n) not in taken for n in self.flow.calls_inside(small)):
                yield small

    def once(self, statement: cst.CSTNode) -> bool:
        """Whether a statement runs before the loop of its function that leads to the backward: no part of a step."""
        leading = [node for backward in self.forward.backwards for node in self._leading(statement, backward)]
        for node in leading:
            loop = next(reversed([*blocks.loops(self.tree, node)]), None)
            if (
                loop is None
                or loop is statement
                or self.tree.contains(loop, statement)
                or self.tree.contains(statement, loop)
            ):
                return False
        return bool(leading)

    def _leading(self, statement: cst.CSTNode, backward: Backward) -> list[cst.CSTNode]:
        """The backward, or the calls that lead to it, in the function of a statement."""
        home = self.flow.function(statement)
        if backward.function is home:
            return [backward.node]
        calls = [(call, self.flow.callee(call)) for call in self.flow.calls_in[home]]
        return [c for c, f in calls if f is not None and backward.function in (f, *self.flow.reachable(f))]

    def _all_computes(self, statement: cst.BaseCompoundStatement) -> bool:
        small = (n for n in self.flow.inside(statement) if isinstance(n, cst.BaseSmallStatement))
        return all(self.any_module(n) or self._computes(n) for n in small)

    def _only_forward(self, loop: cst.For | cst.While) -> bool:
        """A loop goes whole under autocast if all it does is feed the loss; others are entered."""
        small = [n for n in self.flow.inside(loop.body) if isinstance(n, cst.BaseSmallStatement)]
        return all(
            n in self.forward.statements or isinstance(n, cst.Continue | cst.Break | cst.Pass) for n in small
        ) and not any(self._stops(n) or self._hoists(n) for n in small)

    def _hoists(self, statement: cst.CSTNode) -> list[Hoist]:
        """Expressions of a simple statement that must move into the region before it."""
        found: list[Hoist] = []
        for small in self._simple(statement):
            if self.islands.island(small):
                found += self.islands.inputs(small)[0]
            found += [
                Hoist(act.loss if isinstance(act, Backward) else act.outputs, "loss")
                for act in self._acts_of(small)
                if (isinstance(act, Backward) and act in self.forward.backwards and self.inline(act.loss))
                or (isinstance(act, InnerGradient) and small in self.forward.statements and self.inline(act.outputs))
            ]
        return found

    def _acts_of(self, small: cst.CSTNode) -> list[Act]:
        acts = self.forward.acts.direct[self.flow.function(small)]
        mine = (a for a in acts if blocks.small_statement_of(self.tree, a.node) is small)
        return [a for a in mine if isinstance(a, Backward | InnerGradient)]

    def inline(self, loss: cst.BaseExpression) -> bool:
        """Whether a loss expression does more than reduce or weigh values that have names already."""
        for node in self.flow.inside(loss):
            if isinstance(node, cst.Call):
                reduces = isinstance(node.func, cst.Attribute) and node.func.attr.value in _REDUCTIONS
                plain = isinstance(node.func, cst.Name) and node.func.value in _PLAIN_CALLS
                if self.forward.runs_module(node) or not (reduces or plain):
                    return self.forward.reads_low(loss, loss)
        return False

    def _stops(self, statement: cst.CSTNode) -> bool:
        """Whether a statement must not run under autocast, or must not be passed by a region."""
        if isinstance(statement, cst.FunctionDef | cst.ClassDef):
            return False
        return any(self._bars(node) for node in self.flow.inside(statement))

    def _bars(self, node: cst.CSTNode) -> bool:
        if node in self._act_nodes:
            return True
        match node:
            case cst.Yield() | cst.Await():
                return True
            case cst.With():
                switched_off = any(switches_off(self.flow.names, item.item) for item in node.items)
                return (switched_off and self.any_module(node)) or any(
                    self.forward.code.amp.is_autocast(i.item) for i in node.items
                )
            case cst.Attribute(attr=cst.Name(value="data")):
                return self._written(node)
            case cst.Call():
                callee = self.flow.callee(node)
                name = node.func.attr.value if isinstance(node.func, cst.Attribute) else ""
                return (
                    (callee is not None and (self.forward.barred(callee) or self._evaluates(callee)))
                    or self.islands.forbidden(node)
                    or name in ("load_state_dict", "numpy", "eval")
                )
        return False

    def _evaluates(self, function: cst.FunctionDef) -> bool:
        """A function that runs modules with gradients off, as evaluations do.

        Autocast keeps the cast of a weight for the rest of a region, and one made without gradients has none to give.
        """
        off = (n for n in self.flow.body[function] if isinstance(n, cst.With))
        off = (n for n in off if any(switches_off(self.flow.names, i.item) for i in n.items))
        return any(self._multiplies(node) for block in off for node in self.flow.inside(block))

    def _multiplies(self, node: cst.CSTNode) -> bool:
        """Whether autocast may cast a weight for a node: a module, a function of the project, a product."""
        match node:
            case cst.BinaryOperation(operator=cst.MatrixMultiply()):
                return True
            case cst.Call(func=func):
                name = func.attr.value if isinstance(func, cst.Attribute) else getattr(func, "value", "")
                half = name in operators.POLICIES["cuda"].half
                return half or self.forward.runs_module(node) or self.flow.callee(node) is not None
        return False

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
        return {act.node for found in self.forward.acts.direct.values() for act in found}

    @cached_property
    def found(self) -> tuple[Region, ...]:
        return tuple(self.regions())
