"""Why a training step is better left in float32: each obstacle names the place and says the reason in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

import libcst as cst

from ampify.model import gone, unlowered
from ampify.model import vocabulary as words
from ampify.model.acts import Acts
from ampify.model.definitions import Place
from ampify.model.devices import accelerated, stays_on_cpu
from ampify.model.engines import engine_obstacles
from ampify.model.forward import Forward
from ampify.model.grad_mode import gradless
from ampify.model.hazards import Hazards
from ampify.model.hooks import hooks
from ampify.model.roles import Role
from ampify.model.step import Act, Backward, GradientUse, InnerGradient, Obstacle, OptimizerStep
from ampify.model.tested import is_test
from ampify.model.whereabouts import never_on_cuda
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import arguments, dotted, walk, walk_scope

_SCALING = {"AMP010", "AMP011", "AMP013", "AMP014", "AMP019", "AMP020"}


class Obstacles:
    """The obstacles of one step, given its acts and its forward."""

    def __init__(self, acts: Acts, step: list[Act], forward: Forward) -> None:
        self.acts, self.step, self.forward = acts, step, forward
        self.code, self.tree, self.flow, self.roles = acts.code, acts.tree, acts.flow, acts.roles
        self.functions: list[Function] = list(dict.fromkeys(a.function for a in step))
        self.nodes = [n for f in self.functions for n in self.flow.body[f]]
        self.backwards = [a for a in step if isinstance(a, Backward)]
        self.steps = [a for a in step if isinstance(a, OptimizerStep)]

    def all(self) -> Iterator[Obstacle]:
        checks = (
            self._closures, self._manual_updates, self._functional, self._distributed, self._written, self._two_phase,
            self._hooks, self._masters, self._foreign, self._no_step, self._other_dtypes, self._unknown_forward,
            self._no_accelerator, self._shared, self._reduced, self._kept, self._hazards, self._sharded, self._wrapped,
            self._unrecorded, self._homemade, self._gone, self._useless, self._tested,
            self._declared,
        )  # fmt: skip
        for check in checks:
            yield from check()
        yield from engine_obstacles(self.acts, self.step, self.forward.islands)
        yield from self.forward.obstacles

    def _at(self, code: str, node: cst.CSTNode, reason: str) -> Obstacle:
        return Obstacle(code, self.tree.span(node), reason, scaling=code in _SCALING, risk=code == "AMP021")

    # ------------------------------------------------------------------ AMP010 to AMP013

    def _closures(self) -> Iterator[Obstacle]:
        for act in self.steps:
            made = self.forward.islands.made_by(act.optimizer)
            if act.closure is not None:
                reason = f"`{self.tree.text(act.optimizer)}` is given a closure that evaluates the model"
                once = bool(made) and made <= words.FIRST_ORDER and self._bare(act.closure)
                yield Obstacle("AMP010", self.tree.span(act.node), reason, scaling=True, risk=once)
            elif made & words.CLOSURE_OPTIMIZERS:
                yield self._at("AMP010", act.node, "LBFGS evaluates the model several times per step through a closure")

    def _bare(self, closure: cst.BaseExpression) -> bool:
        """Whether a closure is a function of this file that computes gradients and leaves them alone."""
        function = self.flow.named(closure)
        return isinstance(function, cst.FunctionDef) and not any(
            isinstance(act, GradientUse) for act in self.acts.below(function)
        )

    def _manual_updates(self) -> Iterator[Obstacle]:
        """``p.data.add_(p.grad, alpha=-lr)`` or ``p -= lr * p.grad`` in the reach of a backward."""
        for node in self.nodes:
            target: cst.CSTNode | None = None
            value: list[cst.CSTNode] = []
            match node:
                case cst.AugAssign():
                    target, value = node.target, [node.value]
                case cst.Call(func=cst.Attribute(value=receiver, attr=cst.Name(value=name))) if name.endswith(
                    "_"
                ) and not name.endswith("__"):
                    target, value = receiver, [*arguments(node)]
                case cst.Assign(targets=[one]):
                    target, value = one.target, [node.value]
            if target is not None and not _mentions(target, "grad") and self._updates(target, value):
                yield self._at(
                    "AMP011",
                    node,
                    "parameters are updated by hand from `.grad`, so nothing would unscale the gradients",
                )
                return

    def _updates(self, target: cst.CSTNode, value: list[cst.CSTNode]) -> bool:
        """Whether ``value`` reads the ``.grad`` of what ``target`` writes to."""
        base = dotted(target)
        while base and base[-1] == "data":
            base = base[:-1]
        owners = {
            dotted(n.value) for v in value for n in walk(v) if isinstance(n, cst.Attribute) and n.attr.value == "grad"
        }
        return bool(base) and base in owners

    def _functional(self) -> Iterator[Obstacle]:
        for node in self.nodes:
            if isinstance(node, cst.Call):
                for path in self.flow.names.imported(node.func):
                    if path.startswith(words.FUNCTIONAL_TRAINING):
                        yield self._at(
                            "AMP012",
                            node,
                            f"`{path}` computes gradients functionally, outside the reach of a GradScaler",
                        )
                        return
        for act in self.step:
            if (
                isinstance(act, InnerGradient)
                and blocks.small_statement_of(self.tree, act.node) not in self.forward.sliced
            ):
                yield self._at(
                    "AMP012",
                    act.node,
                    "the result of `torch.autograd.grad` is used for more than a penalty on the loss",
                )
                return

    def _distributed(self) -> Iterator[Obstacle]:
        for act in self.backwards:
            if isinstance(act.node, cst.Call) and self.flow.names.imported(act.node.func) & words.DISTRIBUTED_BACKWARD:
                reason = "distributed autograd keeps its gradients in a context that no GradScaler sees"
                yield self._at("AMP012", act.node, reason)
                return

    def _written(self) -> Iterator[Obstacle]:
        """``p.grad = g`` from `torch.autograd.grad` is a backward, unless more happens to ``g`` while it is scaled."""
        by_hand = [a.node for a in self.backwards if self._differentiates(a.node)]
        plain = len(by_hand) == 1 == len(self.backwards)
        for call in by_hand:
            if not plain or not self.acts.gradients.only_writes(call):
                reason = "what `torch.autograd.grad` gives is put into `.grad` by hand, and used for more than that"
                yield self._at("AMP012", call, reason)
                return

    def _differentiates(self, node: cst.CSTNode) -> TypeGuard[cst.Call]:
        return isinstance(node, cst.Call) and bool(self.flow.names.imported(node.func) & words.AUTOGRAD_GRAD)

    def _two_phase(self) -> Iterator[Obstacle]:
        for node in self.nodes:
            if (
                isinstance(node, cst.Call)
                and isinstance(node.func, cst.Attribute)
                and node.func.attr.value in words.TWO_PHASE_STEPS
                and not self._schedules(node)
            ):
                yield self._at(
                    "AMP013",
                    node,
                    "the optimizer steps twice per iteration (SAM style), which a GradScaler cannot unscale",
                )
                return

    def _schedules(self, call: cst.Call) -> bool:
        """Whether what ``call`` runs is in sight and neither reads gradients nor steps an optimizer."""
        callee = self.flow.callee(call)
        return callee is not None and not any(
            isinstance(act, GradientUse | OptimizerStep) for act in self.acts.below(callee)
        )

    # ------------------------------------------------------------------ AMP014 to AMP016

    def _hooks(self) -> Iterator[Obstacle]:
        if (hook := next(hooks(self.acts, self.forward), None)) is not None:
            yield self._at("AMP014", hook, "a gradient hook sees gradients while they are multiplied by the loss scale")

    def _masters(self) -> Iterator[Obstacle]:
        """``master.grad = p.grad.float() / scale``: mixed precision by hand."""
        for act in self.step:
            match act:
                case GradientUse(node=cst.Assign(targets=[one], value=value)) if self._from_others(one.target, value):
                    reason = (
                        "gradients are copied into those of other parameters: master weights, which keep a precision "
                        "and a scale of their own"
                    )
                    yield Obstacle("AMP020", self.tree.span(act.node), reason)
                    return

    def _from_others(self, target: cst.CSTNode, value: cst.CSTNode) -> bool:
        """Whether ``X.grad`` is made of the gradients of anything but ``X``."""
        match target:
            case cst.Attribute(value=owner, attr=cst.Name(value="grad")):
                read = [dotted(n.value) for n in self._gradients(value, 3)]
                return bool(read) and dotted(owner) not in read
        return False

    def _gradients(self, node: cst.CSTNode, depth: int) -> Iterator[cst.Attribute]:
        """The gradients that an expression reads, and those that the functions it calls return."""
        for n in self.flow.inside(node):
            if isinstance(n, cst.Attribute) and n.attr.value == "grad" and not self.flow.names.imported(n):
                yield n
            function = self.flow.callee(n) if isinstance(n, cst.Call) and depth else None
            for returned in self.flow.returns(function) if function is not None else ():
                yield from self._gradients(returned, depth - 1)

    def _foreign(self) -> Iterator[Obstacle]:
        """``optimizer.backward(loss)``: no optimizer of PyTorch has that, and no module."""
        for act in self.backwards:
            if act.by is not None:
                reason = (
                    f"`{self.tree.text(act.by)}.backward` is no backward of PyTorch, and what it does to the gradients "
                    "besides cannot be seen here"
                )
                yield self._at("AMP017", act.node, reason)
                return

    def _no_step(self) -> Iterator[Obstacle]:
        if self.steps:
            if all(self._owns_inputs(act) for act in self.steps):
                yield self._at(
                    "AMP015", self.steps[0].node, "its optimizer changes an input, not the parameters of a module"
                )
            return
        if any(act.by is not None for act in self.backwards):
            return  # what this object does next need not be in sight
        first = self.backwards[0]
        file = self.tree.module(first.node)
        acts = (a for f, found in self.acts.direct.items() if self.tree.module(f) is file for a in found)
        open_steps = any(isinstance(a, OptimizerStep) for a in acts)
        if open_steps or not self._inputs_only():
            yield self._at("AMP017", first.node, "no `optimizer.step()` could be connected to this backward")
        else:
            reason = "no optimizer steps after this backward: only its gradients are wanted"
            yield self._at("AMP015", first.node, reason)

    def _inputs_only(self) -> bool:
        """Whether gradients of inputs are what the backward is for."""
        return not any(
            isinstance(n, cst.Call) and isinstance(n.func, cst.Attribute) and n.func.attr.value == "step"
            for n in self.nodes
        ) or any(isinstance(n, cst.Attribute) and n.attr.value == "grad" for n in self.nodes)

    def _owns_inputs(self, act: OptimizerStep) -> bool:
        """``Adam([image.requires_grad_()])``: a list of tensors that are no module's parameters."""
        place = self.flow.place(act.optimizer)
        for d in self.flow.assigned(place) if place else ():
            if (
                isinstance(d.value, cst.Call)
                and d.value.args
                and isinstance(d.value.args[0].value, cst.Tuple | cst.List)
            ):
                elements = [e.value for e in d.value.args[0].value.elements if isinstance(e, cst.Element)]
                if elements and all(self._input(e) for e in elements):
                    return True
        return False

    def _input(self, node: cst.BaseExpression) -> bool:
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
            return node.func.attr.value in ("requires_grad_", "requires_grad") and self._input(node.func.value)
        if not isinstance(node, cst.Name) or (place := self.flow.place(node)) is None:
            return False
        made = [d.value for d in self.flow.assigned(place) if d.value is not None]
        return bool(made) and all(_is_input(v) for v in made)

    def _other_dtypes(self) -> Iterator[Obstacle]:
        for call in self.flow.calls:
            if isinstance(call.func, cst.Attribute) and self.roles.of(call.func.value) is Role.MODULE:
                dtypes = {p for a in arguments(call) for p in self.flow.names.imported(a)}
                if call.func.attr.value == "double" or dtypes & {"torch.float64", "torch.double", "torch.cfloat"}:
                    yield self._at("AMP016", call, "the model is not float32, and autocast does not touch other dtypes")
                    return
            paths = self.flow.names.imported(call.func)
            given = {p for a in arguments(call) for p in self.flow.names.imported(a)}
            if paths & {"torch.nn.Parameter", "torch.nn.parameter.Parameter"} and self._complex(call):
                yield self._at("AMP016", call, "it has complex parameters, which a `GradScaler` cannot unscale")
                return
            if "torch.set_default_dtype" in paths and given & {"torch.float64", "torch.double"}:
                yield self._at("AMP016", call, "the default dtype is float64, and autocast does not touch it")
                return

    def _complex(self, parameter: cst.Call) -> bool:
        named = {p for n in walk(parameter) for p in self.flow.names.imported(n)}
        return bool(named & {"torch.cfloat", "torch.cdouble", "torch.complex64", "torch.complex128"})

    # ------------------------------------------------------------------ AMP017 to AMP021

    def _sharded(self) -> Iterator[Obstacle]:
        """Parameters spread over processes: overflow has to be agreed on by all of them (AMP704)."""
        for call in self.flow.calls:
            for path in self.flow.names.imported(call.func):
                if self.steps and path.startswith(words.FULLY_SHARDED):
                    reason = (
                        f"`{path}` shards the parameters over processes, which needs a scaler that agrees across them"
                    )
                    yield self._at("AMP017", call, reason)
                    return

    def _wrapped(self) -> Iterator[Obstacle]:
        """``NoamOpt(Adam(…))``, where the class is not in sight: `scaler.step` would do without what its step does."""
        for act in self.steps:
            for call in self.roles.instances.makers(act.optimizer):
                paths = self.flow.names.imported(call.func)
                known = any(p.startswith((*words.OPTIMIZER_MODULES, "torch.")) for p in paths)
                inner = next((a for a in arguments(call) if self.roles.of(a) is Role.OPTIMIZER), None)
                if paths and not known and inner is not None:
                    name = f"`{self.tree.text(call.func)}` (line {self.tree.line(call)})"
                    reason = f"{name} wraps an optimizer, and what its `step` does besides cannot be seen here"
                    yield self._at("AMP017", act.node, reason)
                    return

    def _homemade(self) -> Iterator[Obstacle]:
        """A class of the file that steps and has no ``param_groups``, by which `scaler.step` finds the gradients."""
        for act in self.steps:
            for cls in self._classes(act.optimizer):
                if _steps_alone(cls) and not any(
                    p.startswith(words.OPTIMIZER_MODULES) for base in cls.bases for p in self._paths(base.value)
                ):
                    reason = f"`{cls.name.value}` (line {self.tree.line(cls)}) is an optimizer without `param_groups`"
                    yield self._at("AMP017", act.node, f"{reason}, which a scaler needs")
                    return

    def _classes(self, optimizer: cst.BaseExpression) -> Iterator[cst.ClassDef]:
        """The classes of the file that an optimizer may be of; the method of an unknown object is any of that name."""
        for call in self.roles.instances.makers(optimizer):
            returned = (r.value for f in self._called(call) for r in self.flow.returns(f))
            for made in (call, *(value for value in returned if isinstance(value, cst.Call))):
                if isinstance(cls := self.flow.named(made.func), cst.ClassDef):
                    yield cls

    def _called(self, call: cst.Call) -> list[cst.FunctionDef]:
        if (callee := self.flow.callee(call)) is not None:
            return [callee]
        if not isinstance(call.func, cst.Attribute) or self._paths(call.func):
            return []
        name, functions = call.func.attr.value, self.flow.functions
        return [f for f in functions if isinstance(f, cst.FunctionDef) and f.name.value == name]

    def _paths(self, node: cst.CSTNode) -> frozenset[str]:
        return self.flow.names.imported(node)

    def _unrecorded(self) -> Iterator[Obstacle]:
        for act in self.backwards:
            if self.steps and gradless(self.tree, act.node):
                reason = (
                    "gradients are switched off around this backward, so multiplying the loss by the scale would not be"
                    " recorded: move it out"
                )
                yield self._at("AMP017", act.node, reason)

    def _gone(self) -> Iterator[Obstacle]:
        """What does not run any more has to be mended before it can be converted."""
        if not gone.suspected(self.tree.source.text):
            return
        found = [*gone.indexed(self.flow, self.roles, self._around)]
        for use in (*found, *gone.imported(self.flow)):
            yield self._at("AMP017", use.node, use.reason)
            return

    @cached_property
    def _around(self) -> list[Function]:
        """The functions of the step, and those that lead to them."""
        calling = (f for f in self.flow.functions if {*self.functions} & {*self.flow.reachable(f)})
        return [*dict.fromkeys([*self.functions, *calling])]

    def _tested(self) -> Iterator[Obstacle]:
        """Where pytest finds tests, what is asserted of a step's results was measured in float32."""
        first = self.backwards[0].node
        if self.steps and is_test(Path(self.tree.path(first) or ""), self.tree.module(first)):
            reason = "it is part of a test, whose assertions and comparisons are about float32"
            yield replace(self._at("AMP017", first, reason), risk=True)

    def _declared(self) -> Iterator[Obstacle]:
        """``benchmark_fp32.py`` is what others are compared with, and says so."""
        first = self.backwards[0].node
        said = Path(self.tree.path(first) or "").stem.lower().replace("-", "_").split("_")
        if self.steps and {"fp32", "float32"} & {*said}:
            reason = "its file says by its name that it trains in float32"
            yield replace(self._at("AMP017", first, reason), risk=True)

    def _useless(self) -> Iterator[Obstacle]:
        if self.steps and self.forward.low and unlowered.nothing(self.forward):
            reason = "autocast would run nothing of it in half precision: there are no layers or products of matrices"
            yield self._at("AMP017", self.backwards[0].node, reason)

    def _unknown_forward(self) -> Iterator[Obstacle]:
        if self.steps and not self.forward.low:
            yield self._at("AMP017", self.backwards[0].node, "the statements that compute this loss were not found")
        for statement in self.forward.runs.uncovered():
            reason = (
                "it runs a module where no autocast region can stand: it shares its line, or changes weights in place"
            )
            yield self._at("AMP017", statement, reason)

    def _no_accelerator(self) -> Iterator[Obstacle]:
        if not accelerated(self.code, self._around):
            yield self._at("AMP018", self.backwards[0].node, "no use of CUDA or another accelerator was found here")
        elif self.steps and stays_on_cpu(self.forward.code, self.functions, self.forward.runs.models()):
            yield self._at("AMP018", self.backwards[0].node, "its model is made here, and never leaves the CPU")
        elif self.steps and (there := never_on_cuda(self.code)):
            kinds = " or ".join(f"`{kind}`" for kind in sorted(there))
            reason = f"its model is on {kinds}, and what a conversion adds is for CUDA"
            yield self._at("AMP018", self.backwards[0].node, reason)

    def _shared(self) -> Iterator[Obstacle]:
        """Two optimizers over the same parameters, stepped without a backward in between."""
        owners: dict[Place, Place] = {}
        ordered = sorted(
            (a for a in self.step if isinstance(a, OptimizerStep | Backward)),
            key=lambda a: self.tree.span(a.node).start,
        )
        for act in ordered:
            if isinstance(act, Backward):
                owners.clear()
                continue
            optimizer = self.flow.place(act.optimizer)
            for module in self.owned(act):
                if optimizer is None:
                    break
                if owners.setdefault(module, optimizer) != optimizer:
                    names = " and ".join(f"`{p.path[-1]}`" for p in (owners[module], optimizer))
                    yield self._at(
                        "AMP019", act.node, f"{names} own the same parameters, which would be unscaled twice"
                    )
                    return

    def owned(self, act: OptimizerStep) -> Iterator[Place]:
        """The modules whose parameters an optimizer was given."""
        place = self.flow.place(act.optimizer)
        for d in self.flow.assigned(place) if place else ():
            if isinstance(d.value, cst.Call) and d.function is act.function:
                yield from (p for a in d.value.args[:1] for p in self.acts.modules(a.value))

    def _hazards(self) -> Iterator[Obstacle]:
        yield from Hazards(self.forward).all()

    def _reduced(self) -> Iterator[Obstacle]:
        """``dist.all_reduce(p.grad)``: after `unscale_` an overflow would be known to one process alone."""
        leading = {c: found for b in self.backwards for c in self.flow.calls_in[b.function] if (found := self._sums(c))}
        early = {n for call, found in leading.items() if not self._touched_before(call) for n in found}
        reducing = (n for n in self.nodes if isinstance(n, cst.Call) and self.acts.gradients.reduces(n))
        for call in (*reducing, *(n for found in leading.values() for n in found)):
            if call not in early:
                reason = (
                    f"`{self.tree.text(call.func)}` hands gradients to other processes, and all of them have to skip "
                    "the same steps: do that while they are scaled, then `unscale_`"
                )
                yield self._at("AMP020", call, reason)
                return

    def _sums(self, call: cst.Call) -> list[cst.Call]:
        """The calls that average gradients over processes, and do no more with them, among those that a call runs."""
        callee = self.flow.callee(call)
        below = (n for f in (callee, *self.flow.reachable(callee)) for n in self.flow.calls_in[f]) if callee else ()
        averaging = self.acts.gradients.averaging
        return [n for n in (call, *below) if n in averaging and self.acts.gradients.reduces(n)]

    def _touched_before(self, call: cst.Call) -> bool:
        """Whether gradients are looked at, so unscaled, before they are averaged."""
        at, function = self.tree.span(call).start, self.flow.function(call)
        uses = (a for a in self.step if isinstance(a, GradientUse))
        return any(a.function is not function or self.tree.span(a.node).start < at for a in uses)

    def _kept(self) -> Iterator[Obstacle]:
        """``bank[name] += p.grad``, ``grads.append(p.grad.clone())``: gradients stored while scaled."""
        for act in self.step:
            if isinstance(act, GradientUse) and not act.clips and self._stores(act.node):
                yield self._at(
                    "AMP020",
                    act.node,
                    "gradients are kept outside the optimizer, where their scale would be unknown later",
                )
                return

    def _stores(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.AugAssign | cst.Assign):
            targets = [node.target] if isinstance(node, cst.AugAssign) else [t.target for t in node.targets]
            stored = isinstance(node, cst.AugAssign) or any(
                isinstance(t, cst.Subscript) or (isinstance(t, cst.Attribute) and not _mentions(t, "grad"))
                for t in targets
            )
            return stored and _whole_gradient(node.value)
        for n in walk_scope(node):
            if (
                isinstance(n, cst.Call)
                and isinstance(n.func, cst.Attribute)
                and n.func.attr.value in ("append", "add", "put")
            ):
                return any(_whole_gradient(a) for a in arguments(n))
        return False


def _steps_alone(cls: cst.ClassDef) -> bool:
    """Whether a class has a `step` of its own, and nothing called ``param_groups``."""
    steps = any(isinstance(s, cst.FunctionDef) and s.name.value == "step" for s in cls.body.body)
    return steps and not any(isinstance(n, cst.Name) and n.value == "param_groups" for n in walk(cls))


def _mentions(node: cst.CSTNode, attribute: str) -> bool:
    return any(isinstance(n, cst.Attribute) and n.attr.value == attribute for n in walk(node))


def _whole_gradient(node: cst.CSTNode) -> bool:
    """``p.grad`` itself or a copy of it, not a number made from it."""
    match node:
        case cst.Attribute(attr=cst.Name(value="grad")):
            return True
        case cst.Attribute(value=inner, attr=cst.Name(value="data")):
            return _whole_gradient(inner)
        case cst.Call(
            func=cst.Attribute(value=inner, attr=cst.Name(value="clone" | "detach" | "cpu" | "view" | "flatten"))
        ):
            return _whole_gradient(inner)
        case cst.ListComp(elt=elt) | cst.GeneratorExp(elt=elt):
            return _whole_gradient(elt)
        case cst.DictComp(value=value):
            return _whole_gradient(value)
    return False


def _is_input(value: cst.BaseExpression) -> bool:
    """A tensor made from data or noise: cloned, loaded, random, or marked to require a gradient."""
    match value:
        case cst.Call(func=func):
            name = (
                func.attr.value if isinstance(func, cst.Attribute) else func.value if isinstance(func, cst.Name) else ""
            )
            return name in (
                "clone",
                "randn",
                "rand",
                "requires_grad_",
                "randn_like",
                "Variable",
                "to",
                "zeros",
                "from_numpy",
            )
    return False
