"""A training step as a graph: functions that call each other, what they do, and the values that take part in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model.step import Backward, GradientUse, InnerGradient, OptimizerStep, Region, Unscale, Update
from ampify.syntax import blocks
from ampify.syntax.blocks import Function

if TYPE_CHECKING:
    from ampify.model.step import Act, TrainingStep


@dataclass(frozen=True, slots=True)
class Node:
    """A function, a value or something that is done; ``start`` is where it stands in the text."""

    key: str
    role: str
    label: str
    start: int


@dataclass(frozen=True, slots=True)
class Edge:
    """``tail`` calls, does, or takes part in ``head``, as ``label`` says."""

    tail: str
    head: str
    label: str


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()


def graph_of(step: TrainingStep) -> Graph:
    """The graph of one step: its acts and regions, the functions they stand in and those that lead there."""
    return _Drawing(step).drawn()


_ROLES = {
    Backward: "backward", OptimizerStep: "step", Unscale: "unscale", Update: "update", GradientUse: "gradients",
    InnerGradient: "inner gradient",
}  # fmt: skip


class _Drawing:
    """One graph while it grows; nodes that say the same are one."""

    def __init__(self, step: TrainingStep) -> None:
        self.step, self.tree = step, step.tree
        self.nodes: dict[tuple[str, str, int], Node] = {}
        self.edges: dict[Edge, None] = {}

    def drawn(self) -> Graph:
        self._calls()
        for region in self.step.regions:
            self._forward(region)
        for act in self.step.acts:
            self._act(act)
        return Graph(tuple(self.nodes.values()), tuple(self.edges))

    def _node(self, role: str, label: str, start: int, unique: int = -1) -> str:
        identity = (role, label, unique)
        return self.nodes.setdefault(identity, Node(f"n{len(self.nodes)}", role, label, start)).key

    def _edge(self, tail: str, head: str, label: str) -> None:
        self.edges[Edge(tail, head, label)] = None

    def _function(self, function: Function) -> str:
        if not isinstance(function, cst.FunctionDef):
            return self._node("function", "module", 0)
        cls, start = blocks.method_class(self.tree, function), self.tree.span(function.name).start
        name = f"{cls.name.value}.{function.name.value}()" if cls else f"{function.name.value}()"
        return self._node("function", name, start, start)

    def _value(self, role: str, expression: cst.CSTNode, head: str, label: str) -> None:
        tail = self._node(role, self.tree.text(expression), self.tree.span(expression).start)
        self._edge(tail, head, label)

    def _calls(self) -> None:
        """The functions of the step, and the calls that lead to them."""
        for function in self.step.functions:
            self._function(function)
        wanted = [*self.step.functions]
        for called in wanted:
            for caller in self.step.code.flow.functions:
                for call in (call for call, callee in self.step.context.calls(caller) if callee is called):
                    self._call(call, caller, called)
                    wanted += [] if caller in wanted else [caller]

    def _call(self, call: cst.Call, caller: Function, called: Function) -> None:
        start = self.tree.span(call).start
        node = self._node("call", self._line(start), start, start)
        self._edge(self._function(caller), node, "does")
        self._edge(node, self._function(called), "calls")

    def _line(self, start: int) -> str:
        return " ".join(self.tree.source.text_of_line(self.tree.source.line(start)).split())

    def _forward(self, region: Region) -> None:
        span = self.tree.span(region.first)
        node = self._node("forward", "forward", span.start, span.start)
        self._edge(self._function(region.function), node, "does")
        for call in self._models(region):
            self._value("model", call.func, node, "runs in")

    def _models(self, region: Region) -> Iterator[cst.Call]:
        from ampify.model.roles import Role

        inside = (*region.statements, *(hoist.expression for hoist in region.hoists))
        calls = (n for s in inside for n in self.step.code.flow.inside(s) if isinstance(n, cst.Call))
        return (call for call in calls if self.step.code.roles.of(call.func) is Role.MODULE)

    def _act(self, act: Act) -> None:
        start = self.tree.span(act.node).start
        node = self._node(_ROLES[type(act)], self._line(start), start, start)
        self._edge(self._function(act.function), node, "does")
        match act:
            case Backward(loss=loss, scaler=scaler):
                self._value("loss", loss, node, "is differentiated by")
                if scaler is not None:
                    self._value("scaler", scaler, node, "scales")
            case OptimizerStep(optimizer=optimizer, scaler=scaler):
                self._value("optimizer", optimizer, node, "steps in")
                if scaler is not None:
                    self._value("scaler", scaler, node, "unscales")
            case Unscale(optimizer=cst.BaseExpression() as optimizer):
                self._value("optimizer", optimizer, node, "is unscaled by")
