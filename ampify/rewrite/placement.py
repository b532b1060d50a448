"""Where `unscale_` and `update` belong, by the structure of the code around the steps of an optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import libcst as cst

from ampify.model.definitions import How, Place
from ampify.model.leftovers import added_to_spent
from ampify.model.origins import Origins, related
from ampify.model.step import Act, Backward, GradientUse, OptimizerStep, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.blocks import Block, Function
from ampify.syntax.tree import Tree
from ampify.syntax.walk import is_none, walk_scope


class Misplaced(Exception):
    """No right place exists: the step is refused with AMP017 at ``node``."""

    def __init__(self, node: cst.CSTNode, reason: str) -> None:
        super().__init__(reason)
        self.node, self.reason = node, reason


@dataclass(slots=True)
class Placement:
    """Nodes whose statements get an `update` after them, before them, or an `unscale_` before them."""

    updates: dict[cst.CSTNode, Function] = field(default_factory=dict)
    early_updates: dict[cst.CSTNode, Function] = field(default_factory=dict)
    unscales: dict[cst.CSTNode, list[OptimizerStep]] = field(default_factory=dict)


def place(step: TrainingStep) -> Placement:
    """The placement for all functions of a step; raises `Misplaced`."""
    placement, origins = Placement(), Origins(step.code)
    found = [_Function(step, function, placement, origins) for function in step.code.flow.functions]
    for function in (f for f in found if f.steps):
        function.place()
    for function in (f for f in found if f.passed):
        function.place_passed()
    _none_astray(step, [f for f in found if f.steps or f.passed])
    for backward in added_to_spent(step):
        reason = "its gradients are added to those that a step has left behind unscaled, and that nothing has cleared"
        raise Misplaced(backward.node, reason)
    return placement


def _none_astray(step: TrainingStep, placed: list[_Function]) -> None:
    """Every touch of gradients lies on a way to a step that was looked at."""
    seen = {id(act) for function in placed for act in function.touching()}
    own = {id(act) for act in step.acts}
    classes = {home.cls for home in step.reach.homes}
    flow, direct = step.code.flow, step.context.direct
    for function in flow.functions:
        cls = blocks.method_class(step.tree, function)
        near = cls is not None and flow.family(cls) in classes
        foreign = any(isinstance(a, Backward) and id(a) not in own for a in step.context.below(function))
        for act in direct[function]:
            if isinstance(act, GradientUse) and (near or id(act) in own) and id(act) not in seen and not foreign:
                raise Misplaced(act.node, "gradients are touched here, away from the code that steps their optimizer")


class _Function:
    """Placement within one function."""

    def __init__(self, step: TrainingStep, function: Function, placement: Placement, origins: Origins) -> None:
        self.step, self.function, self.placement, self.origins = step, function, placement, origins
        self.tree: Tree = step.tree
        self.acts = step.context
        self.steps = [a for a in step.every(OptimizerStep) if a.function is function]
        self.passed = [*self._passed()]
        self.backwards = [*self._events(Backward)]
        self.touches = [*self._events(GradientUse)]

    def _events(self, kind: type[Backward] | type[GradientUse]) -> Iterator[tuple[cst.CSTNode, list[Place]]]:
        """Acts of one kind in this function, or in what it calls: (node, modules whose gradients are touched)."""
        for act in self.acts.direct[self.function]:
            if isinstance(act, kind):
                yield act.node, [*act.owners] if isinstance(act, GradientUse) else []
        for call, callee in self.acts.calls(self.function):
            below = [*self.acts.below(callee)]
            complete = any(isinstance(a, OptimizerStep) for a in below)
            other = kind is GradientUse and any(isinstance(a, Backward) for a in below)
            if any(isinstance(a, kind) for a in below) and not complete and not other:
                yield call, []

    def touching(self) -> Iterator[Act]:
        """The acts behind the touches of this function."""
        yield from self.acts.direct[self.function]
        nodes = {node for node, _ in self.touches}
        for call, callee in self.acts.calls(self.function):
            if call in nodes:
                yield from self.acts.below(callee)

    def _passed(self) -> Iterator[tuple[OptimizerStep, cst.Call, cst.FunctionDef]]:
        """Steps that are taken by functions which this one calls after a backward: the step, the call, the function."""
        own = {id(act) for act in self.step.acts}
        for call, callee in self.acts.calls(self.function):
            below = [*self.acts.below(callee)]
            if not any(isinstance(a, Backward) for a in below):
                yield from ((a, call, callee) for a in below if isinstance(a, OptimizerStep) and id(a) in own)

    def at(self, node: cst.CSTNode) -> int:
        return self.tree.span(node).start

    # ------------------------------------------------------------------ update

    def place(self) -> None:
        groups: dict[cst.CSTNode | None, list[OptimizerStep]] = {}
        for act in sorted(self.steps, key=lambda a: self.at(a.node)):
            groups.setdefault(self._iteration(act.node), []).append(act)
        for loop, acts in groups.items():
            body = loop.body if isinstance(loop, cst.For | cst.While) else self._body()
            assert isinstance(body, Block)
            for act in acts:
                self._kept_apart(act, body, in_loop=loop is not None)
                self._unscale(act, body)
            self._updates(body, acts)

    def place_passed(self) -> None:
        """Only `unscale_`: the functions that step update for themselves."""
        for act, call, callee in self.passed:
            loop = self._iteration(call)
            body = loop.body if loop is not None else self._body()
            assert isinstance(body, Block)
            name = self._named(act.optimizer, call, callee)
            before = {*self.placement.unscales}
            here = replace(act, node=call, function=self.function, optimizer=name or act.optimizer)
            self._unscale(here, body)
            new = [n for n in self.placement.unscales if n not in before]
            if new and (name is None or act.function is not callee):
                reason = (
                    f"gradients are touched here, and `{callee.name.value}` steps an optimizer that is out of sight"
                )
                raise Misplaced(new[0], reason)
            if new and not self._steps_always(act, callee):
                raise Misplaced(new[0], f"gradients are touched here, but `{callee.name.value}` does not always step")

    def _steps_always(self, act: OptimizerStep, function: cst.FunctionDef) -> bool:
        around = [p for p in self.tree.parents(act.node) if self.tree.contains(function.body, p)]
        leaves = (n for n in self.step.code.flow.body[function] if isinstance(n, cst.Return | cst.Raise))
        early = any(self.at(n) < self.at(act.node) for n in leaves)
        return not early and not any(isinstance(p, cst.BaseCompoundStatement) for p in around)

    def _named(
        self, optimizer: cst.BaseExpression, call: cst.Call, callee: cst.FunctionDef
    ) -> cst.BaseExpression | None:
        """How this function writes what ``callee`` calls ``optimizer``; None where it has no name here."""
        flow = self.step.code.flow
        place = flow.place(optimizer)
        if place is None:
            return None
        if isinstance(place.root, cst.ClassDef):
            cls = blocks.method_class(self.tree, self.function)
            inside = cls is not None and flow.family(cls) is place.root
            return optimizer if inside or self.function in dict(self.step.reach.owners) else None
        if place.root is self.tree.names.inner.get(callee):
            given = flow.argument(call, callee, place.path[0]) if len(place.path) == 1 else None
            return given if given is not None and flow.place(given) is not None else None
        scope = self.tree.names.inner[self.function]
        return optimizer if scope.find(place.path[0]) is place.root else None

    def _body(self) -> Block:
        return _body(self.function)

    def _iteration(self, node: cst.CSTNode) -> cst.For | cst.While | None:
        """The innermost loop around a step that holds a backward; other loops just go over optimizers."""
        around = [*blocks.loops(self.tree, node)]
        return next((loop for loop in around if any(self.tree.contains(loop, n) for n, _ in self.backwards)), None)

    def _holder(self, block: Block, act: OptimizerStep) -> cst.CSTNode:
        found = blocks.stands_in(self.tree, act.node, block)
        assert found is not None
        return found

    def _updates(self, block: Block, acts: list[OptimizerStep]) -> None:
        """One update per group of steps of different optimizers; an optimizer that steps again opens a new group."""
        group: list[OptimizerStep] = []
        for act in acts:
            again = any(self._same(act, other) and not self._exclusive(act, other) for other in group)
            if again:
                self._update(block, group)
                group = []
            group.append(act)
        self._update(block, group)

    def _same(self, a: OptimizerStep, b: OptimizerStep) -> bool:
        return self.tree.text(a.optimizer) == self.tree.text(b.optimizer)

    def _exclusive(self, a: OptimizerStep, b: OptimizerStep) -> bool:
        """Whether two steps stand in different branches of one statement."""
        return self._apart(a.node, b.node)

    def _apart(self, a: cst.CSTNode, b: cst.CSTNode) -> bool:
        """Whether the innermost statement around both nodes is one that chooses between them."""
        around = {id(p) for p in self.tree.parents(a)}
        common = next((p for p in self.tree.parents(b) if id(p) in around), None)
        return isinstance(common, cst.If)

    def _update(self, block: Block, group: list[OptimizerStep]) -> None:
        holders: dict[cst.CSTNode, list[OptimizerStep]] = {}
        for act in group:
            holders.setdefault(self._holder(block, act), []).append(act)
        ours = {id(act) for act in group}
        unscaled = [n for n, acts in self.placement.unscales.items() if any(id(a) in ours for a in acts)]
        touched = [n for n in unscaled if blocks.stands_in(self.tree, n, block) is not None]
        early = [n for n in touched if blocks.stands_in(self.tree, n, block) not in holders]
        last = [*holders][-1]
        if len(holders) == 1 and not (early and self._conditional(last)):
            self._inside(last, holders[last])
            self._jumps(block, early, before=last)
        elif early or any(self._always(h, acts) for h, acts in holders.items()):
            self.placement.updates[last] = self.function
            unscaled = [n for n in touched if any(a in group for a in self.placement.unscales[n])]
            self._jumps(block, [*unscaled, *(a.node for a in group)], before=None)
        else:
            self._separate(block, holders)

    def _conditional(self, holder: cst.CSTNode) -> bool:
        return isinstance(holder, cst.If)

    def _separate(self, block: Block, holders: dict[cst.CSTNode, list[OptimizerStep]]) -> None:
        """Steps that are all conditional: each branch updates for itself, if its backward is in it too."""
        for holder, acts in holders.items():
            if not any(self.tree.contains(holder, n) for n, _ in self.backwards):
                raise Misplaced(acts[0].node, "its optimizers step under different conditions after one backward")
            self._inside(holder, acts)

    def _inside(self, holder: cst.CSTNode, acts: list[OptimizerStep]) -> None:
        """The update for steps that all stand in one statement."""
        match holder:
            case cst.If() | cst.With() | cst.Try() | cst.TryStar():
                for inner in blocks.blocks(holder):
                    if found := [a for a in acts if self.tree.contains(inner, a.node)]:
                        self._updates(inner, found)
            case cst.For() | cst.While():
                self.placement.updates[holder] = self.function
            case _:
                self.placement.updates[acts[-1].node] = self.function

    def _always(self, holder: cst.CSTNode, acts: list[OptimizerStep]) -> bool:
        """Whether a statement steps on every path through it."""
        if not isinstance(holder, cst.If):
            return True
        parts = [*blocks.blocks(holder)]
        complete = _has_else(holder)
        return complete and all(any(self.tree.contains(p, a.node) for a in acts) for p in parts)

    def _jumps(self, block: Block, begins: list[cst.CSTNode], before: cst.CSTNode | None) -> None:
        """After `unscale_` or a step, leaving the iteration without `update` would break the next one."""
        end = self.at(before) if before is not None else max(self.at(u) for u in self._holders(block, begins)) + 1
        for statement in blocks.statements(block):
            if self.at(statement) < end:
                for jump in blocks.jumps(statement):
                    self._leave(block, begins, jump)

    def _leave(self, block: Block, begins: list[cst.CSTNode], jump: cst.CSTNode) -> None:
        """An update before ``jump``, if a scaler may be at work there."""
        begun = [n for n in begins if self.at(n) < self.at(jump) and not self._apart(n, jump)]
        if not begun:
            return
        if not any(self._surely(n, jump, block) for n in begun):
            raise Misplaced(jump, "the iteration is left at a place where an optimizer may have stepped or not")
        unscaled = [a for n in begun for a in self.placement.unscales.get(n, ())]
        if not all(self._clears(act, jump) for act in unscaled):
            raise Misplaced(jump, "unscaled gradients would stay behind here, and scaled ones be added to them")
        self.placement.early_updates[jump] = self.function

    def _clears(self, act: OptimizerStep, jump: cst.CSTNode) -> bool:
        """Whether the gradients of ``act`` are cleared in each iteration before ``jump``, so also after it."""
        loop = self._iteration(jump)
        body = loop.body if loop is not None else self._body()
        assert isinstance(body, Block)
        others = {self.tree.text(a.optimizer) for a in self.steps} - {self.tree.text(act.optimizer)}
        for node in walk_scope(body):
            match node:
                case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="zero_grad"))) if (
                    self.at(node) < self.at(jump) and self.tree.text(owner) not in others
                ):
                    if self._surely(node, jump, body):
                        return True
        return False

    def _holders(self, block: Block, nodes: list[cst.CSTNode]) -> list[cst.CSTNode]:
        return [h for n in nodes if (h := blocks.stands_in(self.tree, n, block)) is not None]

    def _surely(self, node: cst.CSTNode, later: cst.CSTNode, block: Block) -> bool:
        """Whether ``node`` has run whenever ``later`` is reached: no condition around it that is not around both."""
        around = {id(p) for p in self.tree.parents(later)}
        way = [p for p in self.tree.parents(node) if self.tree.contains(block, p)]
        return all(id(p) in around or not isinstance(p, cst.If) for p in way)

    # ------------------------------------------------------------------ one scale at a time

    def _kept_apart(self, act: OptimizerStep, body: Block, in_loop: bool) -> None:
        """Gradients are cleared between two loss scales: after `update`, before the next backward adds to them."""
        clears = [self.at(n) for n in walk_scope(body) if self._is_clear(n, act)]
        inside = [self.at(b) for b, _ in self.backwards if self.tree.contains(body, b)]
        later = [b for b, _ in self.backwards if self.tree.contains(body, b) and not self._apart(act.node, b)]
        late = [self.at(b) for b in later if self.at(b) > self.at(act.node)]
        if in_loop and inside and not clears:
            raise Misplaced(
                act.node, "its gradients are not cleared in this loop, so they would add up over loss scales"
            )
        if clears and min(clears) > self.at(act.node) and max(late, default=-1) > max(clears):
            raise Misplaced(act.node, "a later backward adds to its gradients, and they are not cleared after it")

    def _is_clear(self, node: cst.CSTNode, act: OptimizerStep) -> bool:
        others = {self.tree.text(a.optimizer) for a in self.steps} - {self.tree.text(act.optimizer)}
        match node:
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="zero_grad"))):
                return self.tree.text(owner) not in others
            case cst.Call(
                func=cst.Attribute(value=cst.Attribute(attr=cst.Name(value="grad")), attr=cst.Name(value="zero_"))
            ):
                return True
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value="grad")))], value=value):
                return is_none(value) or node in self.acts.written
            case cst.Call():
                return any(call is node and self._holds_clear(f) for call, f in self._called)
        return False

    @cached_property
    def _called(self) -> list[tuple[cst.Call, cst.FunctionDef]]:
        """The calls of this function to functions of the file, closures given to a step included."""
        flow = self.step.code.flow
        calls = [n for n in flow.body[self.function] if isinstance(n, cst.Call)]
        plain = [(call, f) for call in calls if (f := flow.callee(call)) is not None]
        return [*plain, *self.acts.calls(self.function)]

    def _holds_clear(self, function: cst.FunctionDef) -> bool:
        flow = self.step.code.flow
        return any(
            isinstance(n, cst.Attribute) and n.attr.value == "zero_grad"
            for f in (function, *flow.reachable(function))
            for n in flow.body[f]
        )

    # ------------------------------------------------------------------ unscale_

    def _unscale(self, act: OptimizerStep, body: Block) -> None:
        """Before the first access to the gradients of ``act``'s optimizer on the way to its step."""
        earlier = [s for s in self.steps if s is not act and self._same(s, act) and not self._exclusive(s, act)]
        previous = max((self.at(s.node) for s in earlier if self.at(s.node) < self.at(act.node)), default=-1)
        first = min((self.at(n) for n, _ in self.backwards if self.tree.contains(body, n)), default=-1)
        way = [
            (node, owners)
            for node, owners in self.touches
            if max(previous, first) < self.at(node) < self.at(act.node)
            and self.tree.contains(body, node)
            and not self._elsewhere(node, act)
        ]
        own = [node for node, owners in way if self._owns(act, owners)]
        for node in own:
            if self._backward_follows(node, act):
                raise Misplaced(node, "gradients are touched before the last backward of the step")
        if own:
            self._insert(own, act, body)

    def _backward_follows(self, node: cst.CSTNode, act: OptimizerStep) -> bool:
        """Whether a backward lies between an access and the step, in this round or in the next of an inner loop."""
        inner = [loop for loop in blocks.loops(self.tree, node) if not self.tree.contains(loop, act.node)]
        return any(
            self.at(node) < self.at(b) < self.at(act.node) or any(self.tree.contains(loop, b) for loop in inner)
            for b, _ in self.backwards
        )

    def _elsewhere(self, node: cst.CSTNode, act: OptimizerStep) -> bool:
        """Whether an access stands in another branch than the step."""
        around = {id(p) for p in self.tree.parents(act.node)}
        child: cst.CSTNode = node
        for parent in self.tree.parents(node):
            if id(parent) in around:
                if not isinstance(parent, cst.If):
                    return False
                branches = [b for b in blocks.blocks(parent) if self.tree.contains(b, child)]
                return bool(branches) and not self.tree.contains(branches[0], act.node)
            child = parent
        return False

    def _owns(self, act: OptimizerStep, owners: list[Place]) -> bool:
        """Whether the optimizer may own the touched gradients: unknown counts as yes."""
        owned = self._owned(act)
        touched = frozenset(p for owner in owners for p in self.origins.of(owner))
        return not touched or not owned or related(owned, touched)

    def _owned(self, act: OptimizerStep) -> frozenset[Place]:
        """The modules whose parameters the optimizer was made with, wherever that was."""
        made = [d.value for place in self.origins.of(act.optimizer) for d in self.step.code.flow.assigned(place)]
        given = [a.value for value in made if isinstance(value, cst.Call) for a in value.args[:1]]
        return frozenset(p for value in given for m in self.acts.modules(value) for p in self.origins.of(m))

    def _insert(self, nodes: list[cst.CSTNode], act: OptimizerStep, body: Block) -> None:
        block = self._common(nodes[0], act, body)
        if any(
            isinstance(p, cst.For) and p not in [*blocks.loops(self.tree, body)] for p in self._loops_below(act, block)
        ):
            raise Misplaced(act.node, "its optimizers step in a loop after their gradients were touched")
        holder = blocks.stands_in(self.tree, act.node, block)
        assert holder is not None
        if isinstance(holder, cst.If) and not self._cleared(block, body):
            raise Misplaced(nodes[0], "gradients are touched in every iteration, but only some iterations step")
        if isinstance(holder, cst.If) and not self._surely_made(act):
            optimizer = self.tree.text(act.optimizer)
            raise Misplaced(nodes[0], f"`{optimizer}` may not be made where gradients are touched, only where it steps")
        self._descend(block, nodes, act)

    def _surely_made(self, act: OptimizerStep) -> bool:
        """Whether a variable holds an optimizer on all ways through the function that sets it."""
        flow, place = self.step.code.flow, self.step.code.flow.place(act.optimizer)
        found = [*flow.assigned(place)] if place is not None else []
        made = {d.node for d in found}
        bodies = {_body(d.function) for d in found}
        return not found or any(d.how is How.PARAM for d in found) or any(self._makes(b, made) for b in bodies)

    def _makes(self, block: Block, made: set[cst.CSTNode]) -> bool:
        return any(self._makes_in(statement, made) for statement in blocks.statements(block))

    def _makes_in(self, statement: cst.CSTNode, made: set[cst.CSTNode]) -> bool:
        match statement:
            case cst.If():
                return _has_else(statement) and all(self._makes(arm, made) for arm in blocks.blocks(statement))
            case cst.With() | cst.Try():
                return any(self._makes(arm, made) for arm in blocks.blocks(statement))
            case cst.SimpleStatementLine():
                return any(small in made for small in statement.body)
        return False

    def _loops_below(self, act: OptimizerStep, block: Block) -> Iterator[cst.CSTNode]:
        for parent in self.tree.parents(act.node):
            if parent is block:
                return
            yield parent

    def _common(self, node: cst.CSTNode, act: OptimizerStep, body: Block) -> Block:
        """The innermost block that holds both the access and the step."""
        return next(p for p in self.tree.parents(act.node) if isinstance(p, Block) and self.tree.contains(p, node))

    def _cleared(self, block: Block, body: Block) -> bool:
        """Whether ``zero_grad`` runs on each way through ``block``: then the condition of the step is only a guard."""

        def clears(statement: cst.CSTNode) -> bool:
            return any(
                isinstance(n, cst.Call) and isinstance(n.func, cst.Attribute) and n.func.attr.value == "zero_grad"
                for n in walk_scope(statement)
            )

        return any(clears(s) and not isinstance(s, cst.If) for b in (block, body) for s in blocks.statements(b))

    def _descend(self, block: Block, nodes: list[cst.CSTNode], act: OptimizerStep) -> None:
        """Before the only access, in its branch; before the first statement of several."""
        holders = list(dict.fromkeys(blocks.stands_in(self.tree, n, block) for n in nodes))
        first = holders[0]
        assert first is not None
        if (
            len(holders) == 1
            and isinstance(first, cst.If | cst.With | cst.Try)
            and first is not self._own_holder(block, act)
        ):
            for inner in blocks.blocks(first):
                if below := [n for n in nodes if self.tree.contains(inner, n)]:
                    self._descend(inner, below, act)
            return
        anchor = nodes[0] if not isinstance(first, cst.BaseCompoundStatement) else first
        self.placement.unscales.setdefault(anchor, []).append(act)

    def _own_holder(self, block: Block, act: OptimizerStep) -> cst.CSTNode | None:
        return blocks.stands_in(self.tree, act.node, block)


def _body(function: Function) -> Block:
    body = function.body if isinstance(function, cst.FunctionDef) else function
    assert isinstance(body, Block)
    return body


def _has_else(node: cst.If) -> bool:
    while isinstance(node.orelse, cst.If):
        node = node.orelse
    return node.orelse is not None
