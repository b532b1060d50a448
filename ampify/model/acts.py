"""The acts of each function: calls and statements that matter to AMP, in source order, direct or through calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import How, Place
from ampify.model.frameworks import Framework, given_loss
from ampify.model.gradients import Gradients
from ampify.model.roles import Role
from ampify.model.step import (
    Act,
    Backward,
    Code,
    GradientUse,
    InnerGradient,
    OptimizerStep,
    Unscale,
    Update,
)
from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import children, dotted, is_none, keyword, walk


class Acts:
    """The acts of one file by function."""

    def __init__(self, code: Code, managed: Mapping[Span, Framework] | None = None) -> None:
        self._managed = managed or {}
        self.code, self.tree, self.flow, self.roles, self.amp = code, code.tree, code.flow, code.roles, code.amp
        self.gradients = Gradients(self.flow)
        self._own_steps = {*self._optimizers()}
        self.direct: dict[Function, list[Act]] = {
            f: [] if f in self._own_steps or self.tree.module(f) in self._foreign else [*self._acts(f)]
            for f in self.flow.functions
        }
        self._carriers = {f for f, acts in self.direct.items() if any(_binding(a) for a in acts)}

    @cached_property
    def _foreign(self) -> set[cst.Module]:
        """The files that import another framework with a `backward`, and not PyTorch."""
        roots: dict[cst.Module, set[str]] = {}
        imports: list[cst.Import | cst.ImportFrom] = [*self.tree.all(cst.Import), *self.tree.all(cst.ImportFrom)]
        for node in imports:
            roots.setdefault(self.tree.module(node), set()).update(_roots(node))
        return {m for m, found in roots.items() if found & words.OTHER_FRAMEWORKS and "torch" not in found}

    def calls(self, function: Function) -> Iterator[tuple[cst.Call, cst.FunctionDef]]:
        """Calls in ``function`` to functions of the file that hold acts, themselves or further down."""
        for call in self.flow.calls_in[function]:
            for callee in self._called(call):
                if callee in self.carrying:
                    yield call, callee

    def _called(self, call: cst.Call) -> Iterator[cst.FunctionDef]:
        """The function that a call runs, and a closure given to ``optimizer.step``."""
        if (callee := self.flow.callee(call)) is not None:
            yield callee
        if isinstance(call.func, cst.Attribute) and call.func.attr.value == "step":
            for arg in call.args:
                if isinstance(closure := self.flow.named(arg.value), cst.FunctionDef):
                    yield closure

    @cached_property
    def carrying(self) -> set[cst.FunctionDef]:
        """Functions with backward, step or gradient acts in them or in what they call."""
        return {
            f
            for f in self.flow.functions
            if isinstance(f, cst.FunctionDef)
            and (f in self._carriers or any(g in self._carriers for g in self.flow.reachable(f)))
        }

    def below(self, function: Function) -> Iterator[Act]:
        """The acts of ``function`` and of what it calls."""
        for f in (function, *self.flow.reachable(function)):
            yield from self.direct[f]

    # ------------------------------------------------------------------ recognition

    def _acts(self, function: Function) -> Iterator[Act]:
        seen: set[cst.CSTNode] = set()
        for node in self.flow.body[function]:
            if isinstance(node, cst.Call):
                yield from self._call(node, function)
            inner = walk(node.body) if isinstance(node, cst.Lambda) else (node,)
            for part in inner:
                if (touched := self._gradient(part)) is not None and touched not in seen:
                    seen.add(touched)
                    if part in self.gradients.averaging:  # which comes before they are unscaled
                        continue
                    yield GradientUse(touched, function, owners=self._loop_owner(touched))

    def _call(self, call: cst.Call, function: Function) -> Iterator[Act]:
        paths = self.flow.names.imported(call.func)
        if paths & words.AUTOGRAD_BACKWARD and (losses := _argument(call, 0, "tensors")) is not None:
            yield Backward(call, function, *self._unscaled(losses))
        elif paths & words.DISTRIBUTED_BACKWARD and (losses := _argument(call, 1, "roots")) is not None:
            yield Backward(call, function, losses)
        elif paths & words.AUTOGRAD_GRAD and (outputs := _argument(call, 0, "outputs")) is not None:
            if self.gradients.writes(call):  # as `backward` does
                yield Backward(call, function, *self._unscaled(outputs))
            else:
                yield InnerGradient(call, function, outputs)
        elif paths & words.CLIPS or self._clips(call):
            owners = tuple(p for a in call.args[:1] for p in self.modules(a.value))
            yield GradientUse(call, function, owners, clips=True)
        elif not paths and isinstance(call.func, cst.Attribute):
            yield from self._method(call, call.func, function)
        if isinstance(call.func, cst.Name | cst.Attribute) and not paths:
            yield from self._scaled_whole(call, function)

    def _scaled_whole(self, call: cst.Call, function: Function) -> Iterator[Act]:
        """``loss_scaler(loss, optimizer, …)``, of a library: it scales, goes backward, clips, steps and updates."""
        loss, optimizer = _argument(call, 0, "loss"), _argument(call, 1, "optimizer")
        if loss is None or optimizer is None:
            return
        made = self.roles.instances.makers(call.func)
        if any(self.flow.names.imported(maker.func) & words.LOSS_SCALERS for maker in made):
            yield Backward(call, function, loss, call.func)
            yield OptimizerStep(call, function, optimizer, call.func)
            yield Update(call, function)

    def _method(self, call: cst.Call, func: cst.Attribute, function: Function) -> Iterator[Act]:
        receiver, name = func.value, func.attr.value
        if (framework := self._managed.get(self.tree.span(call))) is not None:
            yield Backward(call, function, call.args[0].value, by=receiver, framework=framework)
        elif name == "backward" and self._goes_backward(call, receiver):
            yield Backward(call, function, call.args[0].value, by=receiver)
        elif name == "backward" and self._is_loss(call, receiver):
            yield Backward(call, function, *self._unscaled(receiver))
        elif name == "step" and self.amp.is_scaler(receiver) and call.args:
            yield OptimizerStep(call, function, call.args[0].value, receiver)
        elif name == "step" and self.roles.of(receiver) is Role.OPTIMIZER and self._is_step(call):
            given = (a.value for a in call.args if self._callable(a.value))
            yield OptimizerStep(call, function, receiver, closure=next(given, None))
        elif name == "unscale_" and self.amp.is_scaler(receiver):
            yield Unscale(call, function, call.args[0].value if call.args else None)
        elif name == "update" and self.amp.is_scaler(receiver):
            yield Update(call, function)

    def _is_step(self, call: cst.Call) -> bool:
        """Whether what runs is the step of an optimizer, not a method that leads to one."""
        callee = self.flow.callee(call)
        return callee is None or callee in self._own_steps

    def _optimizers(self) -> Iterator[cst.FunctionDef]:
        """What the step of an optimizer of these files runs, and nothing else does: it works on unscaled gradients."""
        for cls in self.flow.classes:
            step = next((n for n in cls.body.body if isinstance(n, cst.FunctionDef) and n.name.value == "step"), None)
            if step is None or self.roles.of_class(cls) is not Role.OPTIMIZER:
                continue
            inside = [step, *self.flow.reachable(step)]
            if not any(self._steps_another(n) for f in inside for n in self.flow.body[f]):
                yield from (f for f in inside if f is step or self._only_from(f, inside))

    def _steps_another(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name("step" | "backward"))):
                return not (isinstance(owner, cst.Call) and isinstance(owner.func, cst.Name))  # `super()`
        return False

    def _only_from(self, function: cst.FunctionDef, inside: list[cst.FunctionDef]) -> bool:
        return all(self.flow.function(call) in inside for call in self.flow.sites.get(function, ()))

    def _callable(self, node: cst.BaseExpression) -> bool:
        if isinstance(node, cst.Lambda) or isinstance(self.flow.named(node), cst.FunctionDef):
            return True
        return isinstance(node, cst.Name) and node.value.endswith("closure")

    def _goes_backward(self, call: cst.Call, receiver: cst.BaseExpression) -> bool:
        """``optimizer.backward(loss)``: whether it is given the loss by an object whose class cannot be seen."""
        if not given_loss(call) or self.flow.callee(call) is not None:
            return False
        if (role := self.roles.of(receiver)) is not None:
            return role in (Role.OPTIMIZER, Role.MODULE)
        return self._computed(call.args[0].value, call) and not self._computed(receiver, call)

    def _computed(self, expression: cst.CSTNode, at: cst.CSTNode, depth: int = 4) -> bool:
        """Whether a value comes out of a module or a loss; a gradient that a tensor is given seldom does."""
        calls = (n for n in walk(expression) if isinstance(n, cst.Call))
        if any(self.roles.of(c.func) in (Role.MODULE, Role.LOSS) or self._functional(c) for c in calls):
            return True
        statement = blocks.small_statement_of(self.tree, at)
        return depth > 0 and any(
            d.value is not None and d.how is not How.PARAM and self._computed(d.value, d.node, depth - 1)
            for _, place in self.flow.reads(expression)
            for d in self.flow.reaching(place, statement)
        )

    def _functional(self, call: cst.Call) -> bool:
        return any(path.startswith("torch.nn.functional.") for path in self.flow.names.imported(call.func))

    def _is_loss(self, call: cst.Call, receiver: cst.BaseExpression) -> bool:
        """Whether ``receiver.backward(…)`` is a tensor's: not ``super()``, an engine, or a method of this file."""
        if isinstance(receiver, cst.Call) and isinstance(receiver.func, cst.Name) and receiver.func.value == "super":
            return False
        if self.flow.callee(call) is not None or self.roles.of(receiver) in (Role.MODULE, Role.OPTIMIZER, Role.LOSS):
            return False
        return not (isinstance(receiver, cst.Name) and receiver.value in ("self", "cls"))

    def _unscaled(self, loss: cst.BaseExpression) -> tuple[cst.BaseExpression, cst.BaseExpression | None]:
        """``scaler.scale(loss)`` → loss and scaler; a name bound to that just before counts as well."""
        value: cst.CSTNode = loss
        if isinstance(loss, cst.Name) and (place := self.flow.place(loss)) is not None:
            found = [d.value for d in self.flow.reaching(place, blocks.small_statement_of(self.tree, loss))]
            if len(found) == 1 and found[0] is not None:
                value = found[0]
        match value:
            case cst.Call(func=cst.Attribute(value=scaler, attr=cst.Name(value="scale")), args=[arg]) if (
                self.amp.is_scaler(scaler)
            ):
                return arg.value, scaler
        return loss, None

    def _clips(self, call: cst.Call) -> bool:
        """Helpers that are not PyTorch's but clip all the same, by their name and what they are given."""
        func = call.func
        if isinstance(func, cst.Attribute) and func.attr.value in words.CLIP_METHODS:
            return True
        name = func.attr.value if isinstance(func, cst.Attribute) else func.value if isinstance(func, cst.Name) else ""
        if isinstance(self.flow.names.parent[call], cst.Expr) and self._hands_over(call):
            return True
        if "clip" not in name or "grad" not in name or self.flow.callee(call) is not None:
            return False
        return any(
            self.roles.of(a.value) in (Role.MODULE, Role.OPTIMIZER) or [*self.modules(a.value)] for a in call.args
        )

    def _hands_over(self, call: cst.Call) -> bool:
        """A statement that hands ``X.parameters()`` to unknown code, which may be after their gradients."""
        known = {p for p in self.flow.names.imported(call.func) if p.startswith("torch.")}
        return not known and self.flow.callee(call) is None and any(_holds_parameters(a.value) for a in call.args)

    def modules(self, node: cst.CSTNode) -> Iterator[Place]:
        """The modules whose ``.parameters()`` an expression holds, names of parameter lists looked through."""
        for n in walk(node):
            match n:
                case cst.Call(func=cst.Attribute(value=module, attr=cst.Name(value="parameters" | "named_parameters"))):
                    if (place := self.flow.place(module)) is not None:
                        yield place
                case cst.Name() | cst.Attribute() if (place := self.flow.place(n)) is not None:
                    for d in self.flow.assigned(place):
                        if d.how is How.ASSIGN and d.value is not None and d.value is not node and _lists(d.value):
                            yield from self.modules(d.value)

    # ------------------------------------------------------------------ gradients touched by hand

    @cached_property
    def written(self) -> set[cst.Assign]:
        """Statements that put what ``torch.autograd.grad`` gives into ``.grad``: part of a backward."""
        calls = (c for c in self.flow.calls if self.flow.names.imported(c.func) & words.AUTOGRAD_GRAD)
        return {written for call in calls for written in self.gradients.writes(call)}

    def _gradient(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The statement that reads or changes ``.grad``; None where it is only set to None, zeroed or tested."""
        if not (isinstance(node, cst.Attribute) and node.attr.value == "grad"):
            return None
        if self.flow.names.imported(node):
            return None
        parent = self.flow.names.parent[node]
        statement = blocks.small_statement_of(self.tree, node)
        match statement:
            case cst.Assign(value=value) if is_none(value) or statement in self.written:
                return None
            case cst.If() | cst.While() if isinstance(parent, cst.Comparison | cst.UnaryOperation | cst.If):
                return None
        match parent:
            case cst.Attribute(attr=cst.Name(value="zero_" | "detach_" | "requires_grad_")):
                return None
            case cst.Attribute(attr=cst.Name(value="data")) if self._zeroed(parent):
                return None
            case cst.Comparison() | cst.ComparisonTarget() if isinstance(statement, cst.If):
                return None
        return statement

    def _zeroed(self, node: cst.CSTNode) -> bool:
        match self.flow.names.parent[node]:
            case cst.Attribute(attr=cst.Name(value="zero_")):
                return True
        return False

    def _loop_owner(self, statement: cst.CSTNode) -> tuple[Place, ...]:
        """``for p in net.parameters(): p.grad…`` touches the gradients of ``net``."""
        for loop in blocks.loops(self.tree, statement):
            if isinstance(loop, cst.For) and (owners := tuple(self.modules(loop.iter))):
                return owners
        return tuple(self.modules(statement)) if not isinstance(statement, cst.BaseCompoundStatement) else ()


def _binding(act: Act) -> bool:
    return isinstance(act, Backward | OptimizerStep | GradientUse | InnerGradient | Unscale | Update)


def _argument(call: cst.Call, index: int, name: str) -> cst.BaseExpression | None:
    """What is given for a parameter, by its name or at its position."""
    if (value := keyword(call, name)) is not None:
        return value
    plain = call.args[: index + 1]
    return plain[index].value if len(plain) > index and not any(a.keyword or a.star for a in plain) else None


def _lists(node: cst.BaseExpression) -> bool:
    """Whether an expression is a list of parameters, not a number made from them."""
    match node:
        case cst.Call(func=cst.Attribute(attr=cst.Name(value="parameters" | "named_parameters" | "chain"))):
            return True
        case cst.Call(func=cst.Name(value="list" | "tuple" | "filter" | "chain" | "iter" | "sorted" | "set")):
            return _holds_parameters(node)
        case cst.List() | cst.Tuple() | cst.ListComp() | cst.GeneratorExp() | cst.BinaryOperation():
            return _holds_parameters(node)
    return False


def _holds_parameters(node: cst.CSTNode) -> bool:
    """Whether parameters are in an expression; ``next(model.parameters()).device`` has none."""
    stack = [node]
    while stack:
        match stack.pop():
            case cst.Call(func=cst.Name(value="next")):
                continue
            case cst.Attribute(attr=cst.Name(value="parameters" | "named_parameters")):
                return True
            case current:
                stack += children(current)
    return False


def _roots(node: cst.Import | cst.ImportFrom) -> Iterator[str]:
    """The packages that an import imports from."""
    match node:
        case cst.Import(names=names):
            yield from (alias.evaluated_name.partition(".")[0] for alias in names)
        case cst.ImportFrom(module=cst.CSTNode() as module, relative=[]):
            yield (dotted(module) or ("",))[0]
