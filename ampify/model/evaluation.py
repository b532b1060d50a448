"""Loops that evaluate in float32 a model that is trained under autocast. Generation and rollouts are none.

An evaluation takes a batch, runs the model on it, and sets the result against the batch: a loss, a count of hits.
What comes out of the model must not leave the loop as an array or in a list: its dtype is somebody's business there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.acts import Acts
from ampify.model.definitions import Place
from ampify.model.forward import Forward
from ampify.model.grad_mode import gradless
from ampify.model.origins import Origins
from ampify.model.regions import region_of
from ampify.model.roles import Role
from ampify.model.step import Backward, FileModel, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import arguments, target_names, walk_scope


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """An evaluation loop; ``statements`` are its forward, neighbours in one block."""

    loop: cst.For
    function: Function
    statements: tuple[cst.BaseStatement, ...]
    region: cst.With
    """Where its model is trained."""


def evaluations(model: FileModel) -> Iterator[Evaluation]:
    """The evaluation loops of a file, each with a region that its model is trained in."""
    found: set[cst.For] = set()
    for step in model.steps:
        for evaluation in _Evaluations(step).all() if step.code.amp.regions and step.framework is None else ():
            if evaluation.loop not in found:
                found.add(evaluation.loop)
                yield evaluation


class _Evaluations:
    """The evaluations of the models of one step."""

    def __init__(self, step: TrainingStep) -> None:
        self.code, self.tree, self.flow = step.code, step.tree, step.code.flow
        self.step, self.acts = step, step.context
        self.origins = Origins(step.code)

    def all(self) -> Iterator[Evaluation]:
        for loop, calls in self._loops.items():
            region = next((self.trained[p] for c in calls for p in self._module(c) if p in self.trained), None)
            if region is not None and not self._active(loop) and not self._cast(loop):
                judged = _Judged(self.acts, loop, calls)
                if judged.fits and (run := judged.forward()):
                    yield Evaluation(loop, self.flow.function(loop), run, region)

    @cached_property
    def trained(self) -> dict[Place, cst.With]:
        """The modules that run in an autocast region of the step."""
        found: dict[Place, cst.With] = {}
        for call in (c for f in self._functions for c in self.flow.body[f] if isinstance(c, cst.Call)):
            if (region := region_of(self.code, call)) is not None and not gradless(self.tree, call):
                found |= dict.fromkeys(self._module(call), region)
        return found

    @cached_property
    def _functions(self) -> set[Function]:
        own = {*self.step.functions}
        return own | {f for act in self.step.every(Backward) for f in self.flow.reachable(act.function)}

    @cached_property
    def _loops(self) -> dict[cst.For, list[cst.Call]]:
        """Loops without gradients, each with the calls of modules that it is the innermost loop of."""
        found: dict[cst.For, list[cst.Call]] = {}
        for call in self.flow.calls:
            loop = next(blocks.loops(self.tree, call), None)
            if isinstance(loop, cst.For) and self._module(call) and gradless(self.tree, call):
                found.setdefault(loop, []).append(call)
        return found

    def _module(self, call: cst.Call) -> frozenset[Place]:
        """The first places of the module that a call runs."""
        if self.code.roles.of(call.func) is Role.MODULE and self.flow.place(call.func) is not None:
            return self.origins.of(call.func)
        return frozenset()

    def _active(self, loop: cst.For) -> bool:
        """Whether a loop trains as well."""
        function = self.flow.function(loop)
        own = [a.node for a in self.acts.direct[function]]
        return any(self.tree.contains(loop, n) for n in (*own, *(call for call, _ in self.acts.calls(function))))

    def _cast(self, loop: cst.For) -> bool:
        """Whether autocast is entered around a loop, or in it, already."""
        function = self.flow.function(loop)
        sites = self.flow.sites.get(function, []) if isinstance(function, cst.FunctionDef) else []
        around = [p for node in (loop, *sites) for p in self.tree.parents(node)]
        regions = {*self.code.amp.regions}
        decorated = [r for r in regions if isinstance(r, cst.Decorator)]
        return bool(decorated) or any(node in regions for node in (*around, *walk_scope(loop)))


class _Judged:
    """What one loop makes of the results of its models."""

    def __init__(self, acts: Acts, loop: cst.For, calls: list[cst.Call]) -> None:
        self.flow, self.tree, self.roles = acts.flow, acts.tree, acts.roles
        self.loop, self.calls = loop, calls
        self.nodes = [*walk_scope(loop.body)]
        self.low = Forward(acts, [])
        self.low.half |= {blocks.small_statement_of(self.tree, call) for call in calls}
        self.low.spread()
        self.made, self.batch = self._spread()

    def _spread(self) -> tuple[dict[Place, list[cst.CSTNode]], set[Place]]:
        """What is made of results, with the statements that do so, and what comes from the batch alone."""
        made: dict[Place, list[cst.CSTNode]] = {}
        batch = {place for name in target_names(self.loop.target) if (place := self.flow.place(name))}
        for found in self.flow.definitions.values():
            for d in (d for d in found if self.tree.contains(self.loop.body, d.node) and d.value is not None):
                assert d.value is not None
                if self._runs(d.value) or self._touches(d.value, made):
                    made.setdefault(d.place, []).append(d.node)
                elif self._touches(d.value, batch):
                    batch.add(d.place)
        return made, batch

    def _touches(self, node: cst.CSTNode, places: Iterable[Place]) -> bool:
        return any(place.touches(p) for _, place in self.flow.reads(node) for p in places)

    def _runs(self, node: cst.CSTNode) -> bool:
        return any(n in self.calls for n in walk_scope(node))

    def _low(self, node: cst.CSTNode) -> bool:
        """Whether the value of an expression may be in half precision once the models are under autocast."""
        return self.low.reads_low(node, blocks.small_statement_of(self.tree, node))

    # ------------------------------------------------------------------ an evaluation, and nothing else

    @property
    def fits(self) -> bool:
        """Whether results are set against the batch, fed to no model again, and kept nowhere."""
        calls = [n for n in self.nodes if isinstance(n, cst.Call)]
        if any(self.low.islands.forbidden(c) for c in calls) or any(map(self._again, self.calls)):
            return False
        return not any(map(self._keeps, self.nodes)) and any(map(self._compares, self.nodes))

    def _again(self, call: cst.Call) -> bool:
        """Whether a model reads what an earlier round of the loop has given."""
        statement = blocks.small_statement_of(self.tree, call)
        at = self.tree.span(statement).start
        for _, place in (read for a in arguments(call) for read in self.flow.reads(a)):
            makers = [n for p, nodes in self.made.items() if p.touches(place) for n in nodes]
            late = (d.node for d in self.flow.reaching(place, statement) if self.tree.span(d.node).start >= at)
            if any(node in makers for node in late):
                return True
        return False

    def _keeps(self, node: cst.CSTNode) -> bool:
        """Whether a result goes where its dtype matters: into an array, a list or a file, or to the caller."""
        match node:
            case cst.Call(func=cst.Attribute(value=value, attr=cst.Name(value=name))) if name in words.TO_ARRAY:
                return self._low(value)
            case cst.Call() if self._takes(node):
                return any(map(self._low, arguments(node)))
            case cst.Return(value=cst.BaseExpression() as value) | cst.Yield(value=cst.BaseExpression() as value):
                return self._low(value)
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Subscript() | cst.Attribute())], value=value):
                return self._low(value)
        return False

    def _takes(self, call: cst.Call) -> bool:
        method = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
        paths = self.flow.names.imported(call.func)
        return method in words.KEEPING or any(p.startswith(words.ARRAY_LIBRARIES) for p in paths)

    def _compares(self, node: cst.CSTNode) -> bool:
        """A loss, a number of hits: a result and the batch in one call or comparison."""
        match node:
            case cst.Attribute(value=value, attr=cst.Name(value="loss")):
                return self._runs(value) or self._touches(value, self.made)
            case cst.Comparison():
                parts = [node.left, *(c.comparator for c in node.comparisons)]
            case cst.Call() if node not in self.calls and self._counts(node):
                receiver = [node.func.value] if isinstance(node.func, cst.Attribute) else []
                parts = [*arguments(node), *receiver]
            case _:
                return False
        results = [p for p in parts if self._runs(p) or self._touches(p, self.made)]
        return any(self._touches(p, self.batch) for r in results[:1] for p in parts if p is not r)

    def _counts(self, call: cst.Call) -> bool:
        """Whether something becomes of what a call gives: a picture that is drawn is no number."""
        method = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
        return method == "update" or not isinstance(self.flow.names.parent[call], cst.Expr)

    # ------------------------------------------------------------------ its forward

    def forward(self) -> tuple[cst.BaseStatement, ...]:
        """The statements from the first model to the last loss; empty where they are not neighbours in one block."""
        block = blocks.block_of(self.tree, blocks.statement_of(self.tree, self.calls[0]))
        working = [n for n in self.nodes if isinstance(n, cst.Call) and (n in self.calls or self._computes(n))]
        held = [blocks.stands_in(self.tree, call, block) for call in working]
        if not isinstance(block, cst.IndentedBlock) or None in held:
            return ()
        places = [i for i, statement in enumerate(block.body) if statement in held]
        run = tuple(block.body[places[0] : places[-1] + 1])
        leaves = any(isinstance(n, _WAYS_OUT) for s in run for n in walk_scope(s))
        crowded = any(isinstance(s, cst.SimpleStatementLine) and len(s.body) > 1 for s in run)
        return () if leaves or crowded else run

    def _computes(self, call: cst.Call) -> bool:
        """Whether a call is a loss or a function of networks on results in half precision."""
        functional = any(p.startswith("torch.nn.functional.") for p in self.flow.names.imported(call.func))
        return (functional or self.roles.of(call.func) is Role.LOSS) and any(map(self._low, arguments(call)))


_WAYS_OUT = (cst.Return, cst.Break, cst.Continue, cst.Yield, cst.Await)
