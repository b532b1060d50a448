"""Finds the training steps of a file: acts that belong to one iteration, wherever in the file they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import libcst as cst

from ampify.model.acts import Acts
from ampify.model.amp import AmpFacts
from ampify.model.definitions import Place
from ampify.model.flow import Flow, params
from ampify.model.forward import Forward
from ampify.model.frameworks import Frameworks, find_frameworks
from ampify.model.half_losses import arrays, averaged, copied, differentiated, pooled
from ampify.model.lowered import Lowered
from ampify.model.obstacles import Obstacles
from ampify.model.protocol import checked
from ampify.model.reach import Reaching
from ampify.model.roles import Role, Roles
from ampify.model.step import (
    Act,
    Backward,
    Checkpoint,
    Code,
    FileModel,
    GradientUse,
    InnerGradient,
    Obstacle,
    OptimizerStep,
    TrainingStep,
    Unscale,
    Update,
)
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.tree import Tree
from ampify.syntax.walk import arguments, walk


def read(
    tree: Tree, target: tuple[int, int] | None = None, line_length: int = 88, owned: int | None = None
) -> FileModel:
    """The model of one file, or of several that belong together; of steps those that the first ``owned`` act in."""
    acts, frameworks = _acts(tree)
    wanted = tree.modules[:owned]
    groups = (group for group in _groups(acts) if any(tree.module(act.node) in wanted for act in group))
    steps = tuple(checked(_describe(acts, group)) for group in groups)
    return FileModel(acts.code, target, steps, frameworks, line_length, Lowered(acts))


def differentiates(tree: Tree) -> bool:
    """Whether a training step begins anywhere that no framework has charge of."""
    acts, _ = _acts(tree)
    return any(isinstance(a, Backward) and a.framework is None for found in acts.direct.values() for a in found)


def _acts(tree: Tree) -> tuple[Acts, Frameworks]:
    flow = Flow(tree)
    code = Code(tree, flow, Roles(flow), AmpFacts(tree))
    frameworks = find_frameworks(tree, code.roles.instances)
    return Acts(code, frameworks.differentiating), frameworks


# ---------------------------------------------------------------------- which acts belong together


class _Union:
    """Sets of acts that grow together."""

    def __init__(self) -> None:
        self._parent: dict[Act, Act] = {}

    def find(self, act: Act) -> Act:
        root = self._parent.setdefault(act, act)
        while self._parent[root] is not root:
            root = self._parent[root]
        return root

    def join(self, acts: Iterable[Act]) -> None:
        first, *rest = acts
        for act in rest:
            self._parent[self.find(act)] = self.find(first)

    def groups(self) -> list[list[Act]]:
        found: dict[Act, list[Act]] = {}
        for act in self._parent:
            found.setdefault(self.find(act), []).append(act)
        return [*found.values()]


class _Open:
    """The acts of a function that still look for their counterpart, each with the node it is reached through."""

    def __init__(self) -> None:
        self.backwards: list[tuple[cst.CSTNode, Backward]] = []
        self.steps: list[tuple[cst.CSTNode, OptimizerStep]] = []


def _groups(acts: Acts) -> Iterator[list[Act]]:
    union = _Union()
    opened: dict[Function, _Open] = {}
    for function in acts.flow.functions:
        _close(acts, function, union, opened, frozenset())
    called = {callee for f in acts.flow.functions for _, callee in acts.calls(f)}
    left = [f for f in acts.flow.functions if f not in called]
    _close_classes(acts, left, union, opened)
    _join_by_optimizer(acts, union)
    _join_stepless(acts, union)
    _join_by_scope(acts, union)
    for group in sorted(union.groups(), key=lambda g: min(acts.tree.span(a.node).start for a in g)):
        if any(isinstance(a, Backward) for a in group):
            yield sorted(group, key=lambda a: (not isinstance(a, Backward), acts.tree.span(a.node).start))


def _close(
    acts: Acts, function: Function, union: _Union, opened: dict[Function, _Open], above: frozenset[Function]
) -> _Open:
    """Connect the backwards and steps of one iteration in ``function``; what stays open is left to its callers."""
    if function in opened or function in above:
        return opened.get(function, _Open())
    own = _Open()
    for act in acts.direct[function]:
        if isinstance(act, Backward):
            own.backwards.append((act.node, act))
            union.find(act)
        elif isinstance(act, OptimizerStep):
            own.steps.append((act.node, act))
    for call, callee in acts.calls(function):
        inner = _close(acts, callee, union, opened, above | {function})
        own.backwards += [(call, act) for _, act in inner.backwards]
        own.steps += [(call, act) for _, act in inner.steps]
    opened[function] = _connect(acts.tree, own, union)
    opened[function].backwards = [b for b in opened[function].backwards if not _reads_back(acts, function, b[0])]
    return opened[function]


def _reads_back(acts: Acts, function: Function, backward: cst.CSTNode) -> bool:
    """Whether a function reads the gradients that it has just computed, as a saliency map or a Fisher matrix does."""
    at = acts.tree.span(backward).start
    uses = [a for a in acts.direct[function] if isinstance(a, GradientUse) and not a.clips]
    return isinstance(function, cst.FunctionDef) and any(acts.tree.span(a.node).start > at for a in uses)


def _connect(tree: Tree, own: _Open, union: _Union) -> _Open:
    left = _Open()
    backs: set[Act] = set()
    steps: set[Act] = set()
    for node, act in own.steps:
        if partners := _same_iteration(tree, node, own.backwards):
            union.join([act, *partners])
            steps.add(act)
            backs.update(partners)
    for node, backward in own.backwards:
        if partners := _same_iteration(tree, node, own.steps):
            union.join([backward, *partners])
            backs.add(backward)
            steps.update(partners)
    left.backwards = [(n, a) for n, a in own.backwards if a not in backs]
    left.steps = [(n, a) for n, a in own.steps if a not in steps]
    return left


def _same_iteration(tree: Tree, node: cst.CSTNode, others: Sequence[tuple[cst.CSTNode, Act]]) -> list[Act]:
    """The others in the innermost loop around ``node`` that holds any, else all of the function's."""
    for loop in blocks.loops(tree, node):
        if found := [act for n, act in others if tree.contains(loop, n)]:
            return found
    return [act for _, act in others]


def _close_classes(acts: Acts, left: list[Function], union: _Union, opened: dict[Function, _Open]) -> None:
    """Methods of one class that nobody here calls: its backward and its step belong together."""
    by_class: dict[cst.ClassDef, _Open] = {}
    for function in left:
        if (cls := blocks.method_class(acts.tree, function)) is not None:
            family = by_class.setdefault(acts.flow.family(cls), _Open())
            family.backwards += opened[function].backwards
            family.steps += opened[function].steps
    for family in by_class.values():
        if family.backwards and family.steps:
            union.join([act for _, act in (*family.backwards, *family.steps)])


def _join_by_optimizer(acts: Acts, union: _Union) -> None:
    """All steps of one optimizer are converted together or not at all."""
    homes: dict[Place, list[Act]] = {}
    for found in acts.direct.values():
        for act in found:
            if isinstance(act, OptimizerStep):
                for place in _origins(acts, act.optimizer, frozenset()):
                    homes.setdefault(place, []).append(act)
    for steps in homes.values():
        if any(len(group) > 1 for group in union.groups() if set(group) & set(steps)):
            union.join(steps)


def _join_stepless(acts: Acts, union: _Union) -> None:
    """Backwards of one function that no step was found for are one finding."""
    for found in acts.direct.values():
        alone = [a for a in found if isinstance(a, Backward)]
        alone = [
            a
            for group in union.groups()
            for a in group
            if a in alone and not any(isinstance(o, OptimizerStep) for o in group)
        ]
        if len(alone) > 1:
            union.join(alone)


def _join_by_scope(acts: Acts, union: _Union) -> None:
    """Optimizers of one scope or class share one scaler; those with closures and a framework's take no part in it."""
    scopes: dict[object, list[Act]] = {}
    for group in union.groups():
        if any(isinstance(a, Backward) and a.framework is not None for a in group):
            continue
        steps = [a for a in group if isinstance(a, OptimizerStep)]
        closed = any(isinstance(a.node, cst.Call) and a.scaler is None and a.node.args for a in steps)
        for root in {p.root for a in steps for p in _origins(acts, a.optimizer, frozenset()) if not closed}:
            scopes.setdefault(root, []).append(steps[0])
    for found in scopes.values():
        union.join(found)


def _origins(acts: Acts, expression: cst.CSTNode, seen: frozenset[Place]) -> Iterator[Place]:
    """The places where an optimizer is first kept, parameters followed to what is passed for them."""
    place = acts.roles.instances.place(expression)
    if place is None or place in seen:
        return
    if isinstance(expression, cst.Attribute) and acts.roles.instances.in_record(expression):
        yield from _origins(acts, expression.value, seen | {place})
        return
    parameters = [d for d in acts.flow.assigned(place) if isinstance(d.node, cst.Param)]
    for d in parameters:
        for value in acts.flow.passed(d):
            yield from _origins(acts, value, seen | {place})
    if not parameters:
        yield place


# ---------------------------------------------------------------------- what a step consists of


def _describe(acts: Acts, group: list[Act]) -> TrainingStep:
    code = acts.code
    backwards = [a for a in group if isinstance(a, Backward)]
    steps = [a for a in group if isinstance(a, OptimizerStep)]
    functions = dict.fromkeys(a.function for a in group)
    others = [a for f in _between(acts, functions) for a in acts.direct[f]
              if isinstance(a, GradientUse | InnerGradient | Unscale | Update)]  # fmt: skip
    forward, repeated = Forward(acts, backwards), _repeated(acts, group)
    others = [a for a in others if not _apart(a, forward, repeated)]
    every = (*backwards, *sorted(dict.fromkeys((*steps, *others)), key=lambda a: code.tree.span(a.node).start))
    if (step := TrainingStep(code, acts, every)).framework is not None:
        return replace(step, regions=forward.runs.found)
    probable = forward.islands.probabilities  # before the obstacles are read: it may find some
    obstacles: list[Obstacle] = [*Obstacles(acts, [*every], forward).all()]
    checkpoints = tuple(_checkpoints(code, steps))
    states = [node for c in checkpoints if (node := c.load or c.display or c.named) is not None]
    reaching = Reaching(code).used_at([*_used(every, forward, acts, states), *states])
    needing = dict.fromkeys([*functions, *(r.function for r in forward.runs.found)])
    inner = [a.function for a in others if isinstance(a, InnerGradient | GradientUse)]
    reach = reaching.solve(
        [(a.optimizer, a.function) for a in steps], [*needing, *inner], [c.function for c in checkpoints]
    )
    exact = [*copied(forward)]
    half = [
        *averaged(forward), *differentiated(forward, others), *exact, *arrays(forward, exact), *pooled(forward)
    ]  # fmt: skip
    floats = dict.fromkeys([*forward.islands.floats(), *half, *forward.running.stores.cast()])
    filled = dict.fromkeys(n for n in forward.running.filled() if n not in floats)
    return TrainingStep(
        code, acts, every, forward.runs.found, tuple(floats), tuple(filled),
        tuple(s.sequential for s in probable if s.sequential is not None), forward.running.subregions, reach,
        checkpoints,
        (*obstacles, *reaching.obstacles), _mixed(code, every, forward),
    )  # fmt: skip


def _between(acts: Acts, functions: Iterable[Function]) -> list[Function]:
    """The functions of a step and the helpers that they call, penalties in the forward included."""
    found = dict.fromkeys(functions)
    for function in [*found]:
        found.update(dict.fromkeys(f for f in acts.flow.reachable(function) if f in acts.carrying))
    return [*found]


def _repeated(acts: Acts, group: list[Act]) -> set[Function]:
    """The functions of a step and those that run as often as it does: what is called in its outermost loop."""
    found: set[Function] = set()
    for function in dict.fromkeys(a.function for a in group):
        around = [[*blocks.loops(acts.code.tree, a.node)] for a in group if a.function is function]
        shared = [loop for loop in around[0] if all(loop in each for each in around)]
        calls = (n for n in acts.flow.body[function] if isinstance(n, cst.Call))
        inside = (n for n in calls if not shared or shared[-1] in acts.code.tree.parents(n))
        called = {callee for n in inside if (callee := acts.flow.callee(n)) is not None}
        found.update((function, *called), *(acts.flow.reachable(f) for f in called))
    return found


def _apart(act: Act, forward: Forward, repeated: set[Function]) -> bool:
    """Whether gradients are computed before the training or after it, and no loss is made of them."""
    if not isinstance(act, InnerGradient) or act.function in repeated:
        return False
    return blocks.small_statement_of(forward.tree, act.node) not in forward.sliced


def _used(every: Iterable[Act], forward: Forward, acts: Acts, states: Iterable[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    """Where the scaler will be named, and the calls that lead there or to where its state is saved or restored."""
    functions = {a.function for a in every} | {r.function for r in forward.runs.found}
    functions |= {acts.flow.function(state) for state in states}
    yield from (act.node for act in every)
    yield from (region.first for region in forward.runs.found)
    for function in acts.flow.functions:
        for call in acts.flow.sites.get(function, ()) if isinstance(function, cst.FunctionDef) else ():
            if function in functions or functions & {*acts.flow.reachable(function)}:
                yield call


def _mixed(code: Code, every: Iterable[Act], forward: Forward) -> bool:
    """Whether the step is in mixed precision already: scaled, under autocast, or cast by hand."""
    if any(isinstance(a, Backward | OptimizerStep) and a.scaler is not None for a in every):
        return True
    for region in forward.runs.found:
        for statement in (*region.statements, *(h.expression for h in region.hoists)):
            if any(
                isinstance(p, cst.With) and any(code.amp.is_autocast(i.item) for i in p.items)
                for p in code.tree.parents(statement)
            ):
                return True
    files = {code.tree.module(act.node) for act in every}
    halved = (call for call in code.flow.calls if code.tree.module(call) in files and _half(code, call))
    return bool(code.amp.used & files) or any(halved)


def _half(code: Code, call: cst.Call) -> bool:
    """``model.half()``, ``model.to(torch.float16)``: mixed precision by hand."""
    if not isinstance(call.func, cst.Attribute) or code.roles.of(call.func.value) is not Role.MODULE:
        return False
    dtypes = {p for a in arguments(call) for p in code.flow.names.imported(a)}
    return call.func.attr.value in ("half", "bfloat16") or bool(
        dtypes & {"torch.float16", "torch.half", "torch.bfloat16"}
    )


def _checkpoints(code: Code, steps: list[OptimizerStep]) -> Iterator[Checkpoint]:
    """Where the states of the optimizers of a step are saved and restored."""
    flow, place = code.flow, code.roles.instances.place
    optimizers = {p for a in steps for p in _family(code, a.optimizer)}
    for call in flow.calls:
        for arg in call.args:
            if arg.keyword is not None and place(arg.value) in optimizers and _restores_named(code, call, arg):
                yield Checkpoint(flow.function(call), arg.value, named=call)
        match call.func:
            case cst.Attribute(value=optimizer, attr=cst.Name(value="state_dict")) if place(optimizer) in optimizers:
                element = flow.names.parent[call]
                display = flow.names.parent[element] if isinstance(element, cst.DictElement) else None
                if isinstance(display, cst.Dict):
                    yield Checkpoint(flow.function(call), optimizer, display=display)
            case cst.Attribute(value=optimizer, attr=cst.Name(value="load_state_dict")) if (
                place(optimizer) in optimizers
            ):
                source = _loaded(call)
                if source is not None:
                    yield Checkpoint(flow.function(call), optimizer, load=call, source=source)


def _restores_named(code: Code, call: cst.Call, arg: cst.Arg) -> bool:
    """Whether ``arg`` is one of ``**kwargs`` that are all restored by name, as far as a checkpoint has the entry:
    ``for name, value in kwargs.items(): if name in checkpoint: value.load_state_dict(checkpoint[name])``."""
    function = code.flow.callee(call)
    if function is None or not isinstance(function.params.star_kwarg, cst.Param) or arg.keyword is None:
        return False
    if arg.keyword.value in {p.name.value for p in params(function)}:
        return False
    rest = function.params.star_kwarg.name.value
    for loop in (n for n in code.flow.body[function] if isinstance(n, cst.For)):
        match loop:
            case cst.For(
                target=cst.Tuple(elements=[cst.Element(cst.Name(name)), cst.Element(cst.Name(value))]),
                iter=cst.Call(func=cst.Attribute(value=cst.Name(source), attr=cst.Name("items"))),
            ) if source == rest:
                return _loads_if_there(loop, name, value)
    return False


def _loads_if_there(loop: cst.For, name: str, value: str) -> bool:
    """Whether the state of each ``value`` is loaded, and only where there is an entry of that ``name``."""
    tests = [n.test for n in walk(loop) if isinstance(n, cst.If)]
    guarded = any(
        isinstance(n, cst.Comparison)
        and isinstance(n.left, cst.Name)
        and n.left.value == name
        and isinstance(n.comparisons[0].operator, cst.In)
        for test in tests
        for n in walk(test)
    )
    return guarded and any(
        isinstance(n, cst.Attribute)
        and n.attr.value == "load_state_dict"
        and isinstance(n.value, cst.Name)
        and n.value.value == value
        for n in walk(loop)
    )


def _family(code: Code, expression: cst.CSTNode) -> set[Place]:
    """All places that hold the same optimizer: parameters up and down the calls of the file."""
    flow = code.flow
    found: set[Place] = set()
    first = code.roles.instances.place(expression)
    stack = [first] if first else []
    while stack:
        place = stack.pop()
        if place in found:
            continue
        found.add(place)
        for d in flow.assigned(place):
            values = [*flow.passed(d)] if isinstance(d.node, cst.Param) else [d.value]
            stack += [
                p for v in values if v is not None and (p := flow.place(v)) and code.roles.at(p) is Role.OPTIMIZER
            ]
        for call, function in ((c, f) for f, calls in flow.sites.items() for c in calls):
            for name in (p.name for p in (*function.params.params, *function.params.kwonly_params)):
                value = flow.argument(call, function, name.value)
                if value is not None and flow.place(value) == place and (p := flow.place(name)):
                    stack.append(p)
    return found


def _loaded(call: cst.Call) -> cst.BaseExpression | None:
    """The checkpoint in ``optimizer.load_state_dict(checkpoint["optimizer"])``, where it is a name; no list."""
    match call.args:
        case [cst.Arg(value=cst.Subscript(value=cst.Name() as source, slice=[cst.SubscriptElement(slice=index)]))]:
            return None if isinstance(index, cst.Index) and isinstance(index.value, cst.Integer) else source
    return None
