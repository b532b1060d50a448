"""What happens to gradients in each statement of a step, and what it means for each of its optimizers."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from functools import cached_property

import libcst as cst

from ampify.model.definitions import Definition, How, Place
from ampify.model.events import Clear, Discarded, Event, Hidden, Leave, Optimizer
from ampify.model.grad_mode import gradless
from ampify.model.origins import Origins, related
from ampify.model.roles import Role
from ampify.model.step import Act, Backward, GradientUse, OptimizerStep, TrainingStep, Unscale, Update
from ampify.model.switches import Switches
from ampify.model.touch import Touch, touch
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import children, is_none, walk

_KEEPING = {"retain_graph", "create_graph", "inputs"}
"""Arguments of a backward that may leave something for another one."""

_SCALES = {"get_scale", "_scale"}


class Scaling:
    """The happenings of one step, and what they are to its optimizers."""

    def __init__(self, step: TrainingStep) -> None:
        self.step, self.acts, self.code = step, step.context, step.code
        self.tree, self.flow = step.tree, step.code.flow
        self.origins = Origins(step.code)
        self.switches = Switches(step.code)
        self.decide = self.switches.decide
        self._sent: dict[Backward, frozenset[Place]] = {}
        self._hides: dict[Backward, bool] = {}
        self._throws: dict[cst.Call, Discarded] = {}
        self._epochs: dict[cst.CSTNode, bool] = {}

    # ------------------------------------------------------------------ optimizers

    @cached_property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """Those that can be told apart; none where the scaler is switched off for good."""
        if self.switches.off:
            return ()
        return tuple(self._optimizer(*g) for g in self._groups if g[0] and not g[0] & self._blurred)

    @cached_property
    def _groups(self) -> list[tuple[frozenset[Place], list[OptimizerStep]]]:
        """The steps by the places of their optimizer."""
        groups: list[tuple[frozenset[Place], list[OptimizerStep]]] = []
        for act in self.step.every(OptimizerStep):
            places = self.origins.of(act.optimizer)
            same = [group for group in groups if related(group[0], places)]
            groups = [group for group in groups if group not in same]
            groups.append((places.union(*(g[0] for g in same)), [*(s for g in same for s in g[1]), act]))
        return groups

    @cached_property
    def together(self) -> tuple[Optimizer, ...]:
        """For each scaler that can be told apart, all that it steps."""
        if self.switches.off:
            return ()
        groups: list[tuple[frozenset[Place], list[OptimizerStep]]] = []
        for act in self.step.every(OptimizerStep):
            if act.scaler is not None and (places := self.origins.of(act.scaler)):
                same = [group for group in groups if related(group[0], places)]
                groups = [group for group in groups if group not in same]
                groups.append((places.union(*(g[0] for g in same)), [*(s for g in same for s in g[1]), act]))
        return tuple(Optimizer(frozenset(), tuple(steps), places, frozenset()) for places, steps in groups)

    @property
    def _blurred(self) -> frozenset[Place]:
        return frozenset(p for place in self.origins.blurred for p in self.origins.of(place))

    def _optimizer(self, places: frozenset[Place], steps: list[OptimizerStep]) -> Optimizer:
        scalers = frozenset(p for s in steps if s.scaler is not None for p in self.origins.of(s.scaler))
        given = [d.value.args[0].value for place in places for d in self.flow.assigned(place)
                 if isinstance(d.value, cst.Call) and d.value.args]  # fmt: skip
        owned = frozenset(p for value in given for m in self.acts.modules(value) for p in self.origins.of(m))
        inner = any(isinstance(p, cst.ListComp | cst.GeneratorExp) for s in steps for p in self.tree.parents(s.node))
        plural = inner or bool(places & self.origins.elements)
        return Optimizer(places, tuple(steps), scalers, owned, plural, any(map(self._given_back, steps)))

    def _given_back(self, act: OptimizerStep) -> bool:
        """``model, optimizer = library.initialize(model, optimizer)``."""
        place = self.flow.place(act.optimizer)
        for d in self.flow.assigned(place) if place is not None else ():
            match d.value:
                case cst.Call(args=args) as call if d.how is How.UNPACK:
                    if any(self.flow.place(arg.value) == place for arg in args) and not self._hands_back(call, place):
                        return True
        return False

    def _hands_back(self, call: cst.Call, place: Place | None) -> bool:
        """Whether a function of the file returns the very object that ``call`` gives it from ``place``."""
        if (callee := self.flow.callee(call)) is None:
            return False
        names = {
            n.value for r in self.flow.returns(callee) if r.value for n in walk(r.value) if isinstance(n, cst.Name)
        }
        given = (self.flow.argument(call, callee, name) for name in names)
        return any(value is not None and self.flow.place(value) == place for value in given)

    # ------------------------------------------------------------------ what an act is to an optimizer

    def event(self, act: Act, optimizer: Optimizer) -> Event | None:
        match act:
            case Backward() if act in self.step.acts:
                return self._backward(act, optimizer)
            case OptimizerStep(scaler=scaler) if act in optimizer.steps:
                return Event.BARE_STEP if scaler is None else Event.STEP
            case Unscale(optimizer=cst.CSTNode() as given) if self._mine(act, optimizer):
                return Event.UNSCALE if related(self.origins.of(given), optimizer.places) else None
            case Update() if self._mine(act, optimizer):
                return _update(act)
            case GradientUse(clips=True):
                return Event.CLIP if self._touches(act, optimizer) and not self._knows_scale(act.node) else None
            case GradientUse():
                return self._use(act, optimizer)
            case Clear(owner=owner):
                return Event.CLEAR if self._clears(owner, optimizer) else None
            case Hidden():
                return Event.HIDDEN
            case Leave():
                return Event.LEAVE
        return None

    def noted(self, act: Act, whole: Optimizer) -> Event | None:
        """What an act is to a scaler, whichever optimizer it concerns."""
        match act:
            case OptimizerStep(scaler=cst.CSTNode() as scaler) if self._by(scaler, whole):
                return Event.STEP
            case Unscale() if self._mine(act, whole):
                return Event.UNSCALE
            case Update() if self._mine(act, whole):
                return _update(act)
            case Hidden():
                return Event.HIDDEN
        return None

    def _by(self, scaler: cst.CSTNode, whole: Optimizer) -> bool:
        places = self.origins.of(scaler)
        return not places or related(places, whole.scalers)

    def _use(self, act: GradientUse, optimizer: Optimizer) -> Event:
        """What is done with gradients by hand: looked at, changed, or something that may unscale them."""
        known = act.owners and self._touches(act, optimizer)
        if not known or any(isinstance(n, cst.Attribute) and n.attr.value in _SCALES for n in self._around(act)):
            return Event.CHANGE
        return {Touch.READ: Event.READ, Touch.WRITE: Event.WRITE}.get(touch(self.tree, act.node), Event.CHANGE)

    def _around(self, act: Act) -> list[cst.CSTNode]:
        return self.flow.body[act.function]

    def is_scaled(self, act: Backward) -> bool:
        """Whether the loss is scaled, or may have been where that cannot be told."""
        if act not in self._hides:
            self._hides[act] = act.scaler is not None or self._scaled_before(act.loss, act.node, 4)
        return self._hides[act]

    def _scaled_before(self, expression: cst.CSTNode, at: cst.CSTNode, depth: int) -> bool:
        if self._knows_scale(expression):
            return True
        if depth == 0:
            return False
        statement = blocks.small_statement_of(self.tree, at)
        return any(
            d.how is How.OTHER or (d.value is not None and self._scaled_before(d.value, d.node, depth - 1))
            for _, place in self.flow.reads(expression)
            for d in self.flow.reaching(place, statement)
            if not isinstance(d.node, cst.Param)
        ) or any(self._returns_scaled(call, depth) for call in walk(expression) if isinstance(call, cst.Call))

    def _returns_scaled(self, call: cst.Call, depth: int) -> bool:
        callee = self.flow.callee(call)
        returned = self.flow.returns(callee) if callee is not None else ()
        return any(r.value is not None and self._scaled_before(r.value, r, depth - 1) for r in returned)

    def _knows_scale(self, node: cst.CSTNode) -> bool:
        return any(isinstance(n, cst.Name | cst.Attribute) and self.code.amp.is_scaler(n) for n in walk(node))

    def _backward(self, act: Backward, optimizer: Optimizer) -> Event:
        if act.by is not None:
            return Event.SOME_BACKWARD
        event = Event.SCALED_BACKWARD if self.is_scaled(act) else Event.PLAIN_BACKWARD
        if act.scaler is not None and optimizer.scalers and not related(self.origins.of(act.scaler), optimizer.scalers):
            sure = self._foreign(act.scaler, optimizer) and self.surely(act, optimizer)
            return Event.FOREIGN_BACKWARD if sure else Event.SOME_BACKWARD
        uniform = len({self.is_scaled(b) for b in self._live}) == 1
        sure = uniform and (len(self.optimizers) == 1 or bool(optimizer.scalers))
        return event if sure or self._reaches(act, optimizer) else Event.SOME_BACKWARD

    def _foreign(self, scaler: cst.BaseExpression, optimizer: Optimizer) -> bool:
        """Whether it is known where both scalers were made."""
        made = {*self._made}
        return self.origins.of(scaler) <= made and optimizer.scalers <= made

    def surely(self, act: Backward, optimizer: Optimizer) -> bool:
        """Whether there is no doubt that a backward is for this optimizer."""
        return len(self._groups) == 1 or self._reaches(act, optimizer)

    def same_graph(self, earlier: Backward, later: Backward) -> bool:
        """Whether two backwards go through one graph, of which the first leaves nothing."""
        if earlier is later or earlier.function is not later.function or earlier.by or later.by:
            return False
        before, after = (self._values(b) for b in (earlier, later))
        keeps = any(isinstance(n, cst.Arg) and n.keyword and n.keyword.value in _KEEPING for n in walk(earlier.node))
        return bool(before) and before == after and not keeps

    def _values(self, act: Backward) -> set[Definition]:
        """What a loss that has a name of its function may be."""
        if not isinstance(act.loss, cst.Name) or (place := self.flow.place(act.loss)) is None:
            return set()
        found = {*self.flow.reaching(place, blocks.small_statement_of(self.tree, act.node))}
        return found if all(d.function is act.function for d in found) else set()

    def discarded(self, act: Backward) -> Discarded | None:
        """``scaler.scale(loss)`` above a plain backward of that loss, in the same block."""
        block = blocks.block_of(self.tree, blocks.statement_of(self.tree, act.node))
        for statement in blocks.statements(block):
            if isinstance(statement, cst.SimpleStatementLine) and not self.tree.contains(statement, act.node):
                for small in statement.body:
                    if (call := self._thrown_away(small)) is not None and self._above(call, act):
                        return self._throws.setdefault(call, Discarded(call, act.function))
        return None

    def _thrown_away(self, statement: cst.CSTNode) -> cst.Call | None:
        match statement:
            case cst.Expr(value=cst.Call() as call):
                pass
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Name() as name)], value=cst.Call() as call):
                uses = (n for n in self.flow.body[self.flow.function(name)] if isinstance(n, cst.Name))
                if any(n.value == name.value and n is not name for n in uses):
                    return None
            case _:
                return None
        match call:
            case cst.Call(func=cst.Attribute(value=scaler, attr=cst.Name(value="scale")), args=[_]):
                return call if self.code.amp.is_scaler(scaler) else None
        return None

    def _above(self, call: cst.Call, act: Backward) -> bool:
        above = self.tree.span(call).end <= self.tree.span(act.node).start
        return above and self.tree.text(call.args[0].value) == self.tree.text(act.loss)

    def tied(self, a: Act | None, b: Act | None) -> bool:
        """Whether not each of two acts stands behind a test of its own that may come out as that of the other does.

        A test that is the same in all iterations does not follow one that is not.
        """
        if a is None or b is None:
            return True
        mine, yours = self._tests(a, b), self._tests(b, a)
        if not (mine and yours) or (a.function is b.function and mine.keys() & yours.keys()):
            return True
        return any(mine.values()) is not any(yours.values())

    def leaves_out(self, act: Act, steps: Iterable[Act]) -> bool:
        """Whether some iterations, not only some configurations, may go past all ``steps`` and come to ``act``."""
        return not all((tests := self._tests(s, act)) and not any(tests.values()) for s in steps)

    def _tests(self, act: Act, other: Act) -> dict[str, bool]:
        """The tests that ``act`` stands behind and ``other`` does not, and whether iterations differ in them."""
        found = {}
        for parent in self.tree.parents(act.node):
            match parent:
                case cst.FunctionDef():
                    break
                case cst.If(test=test) | cst.IfExp(test=test) if not self.tree.contains(parent, other.node):
                    if self.decide(test) is None:
                        found[self.tree.text(test)] = self._changes(test)
        return found

    def _changes(self, test: cst.BaseExpression) -> bool:
        if any(isinstance(n, cst.Call) for n in walk(test)):
            return True
        read = {place for _, place in self.flow.reads(test)}
        return any(place.touches(changed) for place in read for changed in self._changing)

    @cached_property
    def _changing(self) -> set[Place]:
        """What gets a value in the course of an iteration."""
        inside: list[cst.CSTNode] = [loop for loop in self.laps if not self.over_epochs(loop)] or [*self.roots]
        called = {*self.roots} if not self.laps else set()
        called |= {
            f
            for function in self.reached
            for call, callee in self.acts.calls(function)
            if any(self.tree.contains(i, call) for i in inside)
            for f in (callee, *self._below(callee))
        }
        return {
            d.place
            for found in self.flow.definitions.values()
            for d in found
            if d.function in called or (d.how is not How.PARAM and any(self.tree.contains(i, d.node) for i in inside))
        }

    def over_epochs(self, loop: cst.CSTNode) -> bool:
        """Whether each round of a loop is a loop over steps."""
        if loop not in self._epochs:
            self._epochs[loop] = self._laps_in(loop)
        return self._epochs[loop]

    def _laps_in(self, loop: cst.CSTNode) -> bool:
        """Whether another loop around a backward runs in this one."""
        calls = (c for f in self.reached for call, c in self.acts.calls(f) if self.tree.contains(loop, call))
        inner = [loop, *(f for callee in calls for f in (callee, *self._below(callee)))]
        return any(lap is not loop and self.tree.contains(i, lap) for i in inner for lap in self.laps)

    @cached_property
    def _live(self) -> list[Backward]:
        own = (b for b in self.step.every(Backward) if b.by is None)
        return [b for b in own if not any(p in self.dead for p in self.tree.parents(b.node))]

    def _reaches(self, act: Backward, optimizer: Optimizer) -> bool:
        """Whether there is evidence that a loss depends on parameters of this optimizer."""
        owned = optimizer.owned
        if len(self.optimizers) == 1:
            owned = owned.union(*(self.modules(b) for b in self._live if self.is_scaled(b) != self.is_scaled(act)))
        return related(self.modules(act), owned)

    def modules(self, act: Backward) -> frozenset[Place]:
        """The modules that a loss sends gradients to: what is detached on the way gets none."""
        if act not in self._sent:
            found: set[Place] = set()
            seen: set[cst.CSTNode] = set()
            stack: list[tuple[cst.CSTNode, cst.CSTNode]] = [(act.loss, act.node)]
            while stack:
                expression, at = stack.pop()
                if expression not in seen:
                    seen.add(expression)
                    for part in self._attached(expression):
                        stack += self._before(part, at)
                        if isinstance(part, cst.Call):
                            found |= self._module(part.func)
            self._sent[act] = frozenset(found)
        return self._sent[act]

    def _module(self, func: cst.BaseExpression) -> frozenset[Place]:
        """The module that a call runs, or one that it is a part of."""
        whole = func.value if isinstance(func, cst.Subscript) else func
        return self.origins.of(whole) if self.code.roles.of(whole) is Role.MODULE else frozenset()

    def _attached(self, expression: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The parts of an expression that its gradient may flow to."""
        stack = [expression]
        while stack:
            node = stack.pop()
            match node:
                case cst.Call(func=cst.Attribute(attr=cst.Name(value="detach" | "item"))) | cst.Lambda():
                    continue
            yield node
            stack.extend(children(node))

    def _before(self, part: cst.CSTNode, at: cst.CSTNode) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
        """What gave ``part`` its value, and where."""
        if isinstance(part, cst.Call) and (callee := self.flow.callee(part)) is not None:
            yield from ((r.value, r) for r in self.flow.returns(callee) if r.value is not None)
        place = self.flow.place(part)
        if place is None or self.code.roles.at(place) is not None:
            return
        for d in self.flow.reaching(place, blocks.small_statement_of(self.tree, at)):
            if d.how is How.PARAM:
                yield from ((value, value) for value in self.flow.passed(d))
            elif d.value is not None and not gradless(self.tree, d.node):
                yield d.value, d.node

    def _mine(self, act: Unscale | Update, optimizer: Optimizer) -> bool:
        """Whether an act is of the scaler that steps ``optimizer``."""
        match act.node:
            case cst.Call(func=cst.Attribute(value=scaler)):
                places = self.origins.of(scaler)
                return not places or not optimizer.scalers or related(places, optimizer.scalers)
        return True

    def _touches(self, act: GradientUse, optimizer: Optimizer) -> bool:
        """Whether clipped gradients are of this optimizer: of several, only where that is known."""
        owners = frozenset(p for owner in act.owners for p in self.origins.of(owner))
        return related(owners, optimizer.owned) if len(self.optimizers) > 1 else True

    def surely_clears(self, act: Act, optimizer: Optimizer) -> bool:
        """Whether there is no doubt that the gradients of this optimizer are gone."""
        match act:
            case Clear(owner=cst.BaseExpression() as owner):
                return related(self.origins.of(owner), optimizer.places | optimizer.owned)
        return False

    def _clears(self, owner: cst.BaseExpression | None, optimizer: Optimizer) -> bool:
        if owner is None or self.code.roles.of(owner) is not Role.OPTIMIZER:
            return True
        return related(self.origins.of(owner), optimizer.places)

    # ------------------------------------------------------------------ where it happens

    @cached_property
    def roots(self) -> tuple[Function, ...]:
        """The functions from which the whole step is reached and that no other such function calls."""
        own = {a.function for a in self.step.acts if isinstance(a, Backward | OptimizerStep)}
        leading = [f for f in self.flow.functions if f in own or own & {*self._below(f)}]
        called = {callee for f in leading for _, callee in self.acts.calls(f) if callee is not f}
        return tuple(f for f in leading if f not in called)

    def _below(self, function: Function) -> Iterator[Function]:
        """The functions that run with ``function`` and hold acts, closures given to a step among them."""
        seen: set[Function] = {function}
        stack = [function]
        while stack:
            for _, callee in self.acts.calls(stack.pop()):
                if callee not in seen:
                    seen.add(callee)
                    stack.append(callee)
                    yield callee

    @cached_property
    def reached(self) -> list[Function]:
        return [*dict.fromkeys(f for root in self.roots for f in (root, *self._below(root)))]

    @cached_property
    def happenings(self) -> dict[cst.CSTNode, list[object]]:
        """Acts and calls of functions with acts by statement, in the order in which they run."""
        found: list[tuple[cst.CSTNode, object]] = []
        for function in self.reached:
            acts = (*self.acts.direct[function], *self._clearing(function), *self._hiding(function))
            found += [(a.node, a) for a in (*acts, *self._leaving(function)) if not self._either(a)]
            found += [*self.acts.calls(function)]
        ordered: dict[cst.CSTNode, list[object]] = {}
        for node, happening in sorted(found, key=lambda f: self.tree.span(f[0]).end):
            ordered.setdefault(blocks.small_statement_of(self.tree, node), []).append(happening)
        return ordered

    def _either(self, act: Act) -> bool:
        """``scaler.step(optimizer) if scaler else optimizer.step()``: the half without a scaler."""
        bare = isinstance(act, Backward | OptimizerStep) and act.scaler is None
        return bare and any(isinstance(p, cst.IfExp) for p in self.tree.parents(act.node))

    def _clearing(self, function: Function) -> Iterator[Clear]:
        for node in self.flow.body[function]:
            match node:
                case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="zero_grad"))):
                    yield Clear(node, function, owner)
                case cst.Call(
                    func=cst.Attribute(value=cst.Attribute(attr=cst.Name(value="grad")), attr=cst.Name("zero_"))
                ):
                    yield Clear(node, function, None)
                case cst.Assign(targets=[cst.AssignTarget(target=cst.Attribute(attr=cst.Name(value="grad")))]):
                    if is_none(node.value):
                        yield Clear(node, function, None)

    def _leaving(self, function: Function) -> Iterator[Leave]:
        for node in self.flow.body[function]:
            match node:
                case cst.Continue():
                    inner = next(blocks.loops(self.tree, node), None) in self.laps
                case cst.Return():
                    inner = function in self.roots and not any(p in self.laps for p in self.tree.parents(node))
                case _:
                    continue
            if inner:
                yield Leave(node, function)

    def _hiding(self, function: Function) -> Iterator[Hidden]:
        for node in self.flow.body[function]:
            if isinstance(node, cst.Call) and not self._visible(node) and any(self._holds(a.value) for a in node.args):
                yield Hidden(node, function)

    def _visible(self, call: cst.Call) -> bool:
        """Whether it is known what a call does with a scaler: it is in this file, of torch, or a builtin."""
        if self.flow.callee(call) is not None or self.flow.names.imported(call.func) & {"torch.save"}:
            return True
        return (
            isinstance(call.func, cst.Name)
            and hasattr(builtins, call.func.value)
            and not self.tree.names.scope[call.func].lookup(call.func.value)
        )

    def _holds(self, value: cst.BaseExpression) -> bool:
        match value:
            case cst.Name(value="self"):
                return any(isinstance(place.root, cst.ClassDef) for place in self._scalers)
            case cst.Name() | cst.Attribute():
                return self.code.amp.is_scaler(value)
        return False

    @cached_property
    def _scalers(self) -> frozenset[Place]:
        return frozenset(p for o in self.optimizers for p in o.scalers)

    @cached_property
    def laps(self) -> set[cst.CSTNode]:
        """The loops around a backward."""
        nodes = [b.node for b in self.step.every(Backward)]
        for function in self.reached:
            for call, callee in self.acts.calls(function):
                if any(isinstance(a, Backward) for f in (callee, *self._below(callee)) for a in self.acts.direct[f]):
                    nodes.append(call)
        return {loop for node in nodes for loop in blocks.loops(self.tree, node)}

    def repeats(self, root: Function, optimizer: Optimizer) -> bool:
        """Whether ``root`` is an iteration whose loop is not seen, and nothing else calls `update`."""
        outside = (acts for f, acts in self.acts.direct.items() if f not in self.reached)
        updates = any(isinstance(a, Update) for acts in outside for a in acts)
        made = any(place.root is p.root and place.path == p.path for place in optimizer.scalers for p in self._made)
        return isinstance(root, cst.FunctionDef) and not self.laps and not updates and made

    @property
    def _made(self) -> Iterator[Place]:
        for assign in self.code.amp.scalers:
            targets = [t.target for t in assign.targets] if isinstance(assign, cst.Assign) else [assign.target]
            yield from (p for t in targets if (p := self.flow.place(t)) is not None)

    @cached_property
    def dead(self) -> set[cst.CSTNode]:
        """Branches for the case that there is no scaler: they do by themselves what the other branch lets it do."""
        found: set[cst.CSTNode] = set()
        for function in self.reached:
            for node in self.flow.body[function]:
                if isinstance(node, cst.If) and node.orelse is not None:
                    scaled, bare = zip(*(self._styles(part) for part in (node.body, node.orelse)), strict=True)
                    if scaled[0] and bare[1] and not scaled[1]:
                        found.add(node.orelse)
                    if scaled[1] and bare[0] and not scaled[0]:
                        found.add(node.body)
        return found

    def _styles(self, part: cst.CSTNode) -> tuple[bool, bool]:
        """Whether the code below ``part`` uses a scaler, and whether it goes backward or steps without."""
        acts = [a for f in self.reached for a in self.acts.direct[f] if self.tree.contains(part, a.node)]
        for function in self.reached:
            for call, callee in self.acts.calls(function):
                if self.tree.contains(part, call):
                    acts += [a for f in (callee, *self._below(callee)) for a in self.acts.direct[f]]
        return any(map(_with_scaler, acts)), any(map(_without_scaler, acts))


def _with_scaler(act: Act) -> bool:
    return isinstance(act, Unscale | Update) or (isinstance(act, Backward | OptimizerStep) and act.scaler is not None)


def _without_scaler(act: Act) -> bool:
    return isinstance(act, Backward | OptimizerStep) and act.scaler is None


def _update(act: Update) -> Event:
    return Event.SET_SCALE if isinstance(act.node, cst.Call) and act.node.args else Event.UPDATE
