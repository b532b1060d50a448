"""What a training step is. Built once per file by `find`; read by every rule, the planner and `ampify steps`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import libcst as cst

from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.blocks import Block, Function
from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk

if TYPE_CHECKING:
    from ampify.model.acts import Acts
    from ampify.model.amp import AmpFacts
    from ampify.model.definitions import Place
    from ampify.model.flags import Flag
    from ampify.model.flow import Flow
    from ampify.model.frameworks import Framework, Frameworks
    from ampify.model.graph import Graph
    from ampify.model.lowered import Lowered
    from ampify.model.roles import Roles
    from ampify.model.uses import ApiUse
    from ampify.model.violation import Violation


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """One file as the model sees it: syntax, values on their way, roles, and the AMP that is there already."""

    tree: Tree
    flow: Flow
    roles: Roles
    amp: AmpFacts


@dataclass(frozen=True, slots=True, eq=False)
class Act:
    """One call or statement that matters to AMP."""

    node: cst.CSTNode
    function: Function


A = TypeVar("A", bound=Act)


@dataclass(frozen=True, slots=True, eq=False)
class Backward(Act):
    """``loss.backward(…)``, or ``torch.autograd.backward(losses, …)``; ``loss`` is the expression without scaling."""

    loss: cst.BaseExpression
    scaler: cst.BaseExpression | None = None
    by: cst.BaseExpression | None = None
    """The object, not a tensor, that is given the loss and goes backward in a way of its own."""
    framework: Framework | None = None
    """Whose object it is, if that is known."""


@dataclass(frozen=True, slots=True, eq=False)
class OptimizerStep(Act):
    """``optimizer.step(…)``, or ``scaler.step(optimizer, …)`` where ``scaler`` is set."""

    optimizer: cst.BaseExpression
    scaler: cst.BaseExpression | None = None
    closure: cst.BaseExpression | None = None
    """What the step is given to evaluate the model with."""


@dataclass(frozen=True, slots=True, eq=False)
class Unscale(Act):
    """``scaler.unscale_(optimizer)``."""

    optimizer: cst.BaseExpression | None


@dataclass(frozen=True, slots=True, eq=False)
class Update(Act):
    """``scaler.update()``."""


@dataclass(frozen=True, slots=True, eq=False)
class GradientUse(Act):
    """Gradients are read or changed: a clipping call, or a statement that touches ``.grad``.

    ``owners`` are the modules whose gradients they are, empty where that is not known.
    """

    owners: tuple[Place, ...] = ()
    clips: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class InnerGradient(Act):
    """``torch.autograd.grad(outputs, …)`` whose result becomes part of a loss."""

    outputs: cst.BaseExpression


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A reason to leave a step in float32: the code of the rule that says so, and the reason in words."""

    code: str
    span: Span
    reason: str
    scaling: bool = False
    """Only in the way of a GradScaler: bfloat16, which needs none, goes past it."""
    risk: bool = False
    """Can be converted, but would go wrong or raise: only `--unsafe-fixes` goes past it."""
    cpu: bool = False
    """Only in the way of autocast on the CPU, whose lists of operators are others."""
    uncalled: str = ""
    """The function, or ``Class.method``, that no call was seen of which gives it its optimizer."""


@dataclass(frozen=True, slots=True, eq=False)
class Hoist:
    """An expression that must be computed inside an autocast region, though its statement stays outside."""

    expression: cst.BaseExpression
    name: str
    """What it is called then."""
    to_float: bool = False
    """The statement needs the value in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A run of neighbouring statements of one block that go under autocast, then expressions hoisted into it."""

    function: Function
    statements: tuple[cst.CSTNode, ...]
    hoists: tuple[Hoist, ...] = ()

    @property
    def first(self) -> cst.CSTNode:
        return self.statements[0] if self.statements else self.hoists[0].expression


@dataclass(frozen=True, slots=True)
class Split:
    """A call that runs ``module``, an `nn.Sequential` whose last module, a sigmoid, has to run in float32."""

    call: cst.Call
    module: cst.BaseExpression
    """What is called, or given to `torch.nn.parallel.data_parallel`."""


@dataclass(frozen=True, slots=True, eq=False)
class Subregion:
    """A statement for which autocast is switched off again, with ``floats`` of its values in float32."""

    statement: cst.BaseSmallStatement
    floats: tuple[cst.BaseExpression, ...]
    device: cst.Name
    """A tensor on the device of the region."""


@dataclass(frozen=True, slots=True, eq=False)
class Home:
    """Where the scaler is made: after statement ``after``, as a name of ``function`` or an attribute of ``cls``."""

    function: Function
    after: cst.CSTNode
    cls: cst.ClassDef | None


@dataclass(frozen=True, slots=True)
class Device:
    """How code names the device it trains on: an expression there, or nothing but ``.cuda()``."""

    expression: cst.BaseExpression | None
    is_object: bool = False
    """Known to be a `torch.device`; otherwise it may be a string."""
    is_name: bool = False
    """Known to be a string."""
    may_be_none: bool = False
    """None where the machine has no accelerator."""
    flag: Flag | None = None
    """What its ``.cuda()`` calls stand behind, where there is no such expression."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """An optimizer's state on its way into a checkpoint (``entry`` of a dict) or out of one (``load`` statement)."""

    function: Function
    optimizer: cst.BaseExpression
    display: cst.Dict | None = None
    load: cst.Call | None = None
    source: cst.BaseExpression | None = None
    """The checkpoint that the state is loaded from."""
    named: cst.Call | None = None
    """A call that is given the optimizer under the name of its entry, and restores all that it is given."""


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """How the scaler reaches the functions of a step."""

    homes: tuple[Home, ...] = ()
    parameters: tuple[cst.FunctionDef, ...] = ()
    """Functions that get it as a new parameter, so that each of their calls passes it."""
    calls: tuple[tuple[cst.Call, cst.FunctionDef, Function], ...] = ()
    """Those calls, with the function called and the function that calls."""
    owners: tuple[tuple[Function, cst.BaseExpression], ...] = ()
    """Functions outside of the class that makes it, each with the object that it has it from."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingStep:
    """forward → loss → backward → (gradients) → optimizer step, wherever in the file its parts stand."""

    code: Code
    context: Acts
    """The acts of the whole file."""
    acts: tuple[Act, ...]
    regions: tuple[Region, ...] = ()
    floats: tuple[cst.BaseExpression, ...] = ()
    """Values from an autocast region that an island (a loss that autocast forbids) needs in float32."""
    filled: tuple[cst.BaseExpression, ...] = ()
    """Values of which a copy gets a number that float16, but not bfloat16, is too small for."""
    splits: tuple[Split, ...] = ()
    subregions: tuple[Subregion, ...] = ()
    reach: Reach = field(default_factory=Reach)
    checkpoints: tuple[Checkpoint, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    mixed: bool = False
    """Already under autocast or scaled, by torch.amp, Apex or by hand."""
    violations: tuple[Violation, ...] = ()
    """What it does against the protocol of its scaler."""

    def every(self, kind: type[A]) -> tuple[A, ...]:
        return tuple(act for act in self.acts if isinstance(act, kind))

    @property
    def framework(self) -> Framework | None:
        """The framework that goes backward here, where no scaler takes part: then the step is the framework's."""
        named = (act.framework for act in self.every(Backward) if act.framework is not None)
        return None if self.scaled else next(named, None)

    @property
    def tree(self) -> Tree:
        return self.code.tree

    @property
    def functions(self) -> tuple[Function, ...]:
        """The functions that hold a part of the step, in source order."""
        found = dict.fromkeys([*(a.function for a in self.acts), *(r.function for r in self.regions)])
        return tuple(sorted(found, key=lambda f: self.tree.span(f).start if isinstance(f, cst.FunctionDef) else -1))

    @property
    def span(self) -> Span:
        """The head of the loop around the first backward, else that backward itself."""
        first = self.acts[0]
        loop = next(blocks.loops(self.tree, first.node), None)
        if loop is None:
            return self.tree.span(first.node)
        return self.tree.head(loop)

    @property
    def changed_names(self) -> frozenset[str]:
        """What a conversion asks more of than before, so that code elsewhere may not use it: see `needing`."""
        return frozenset(name for names in self.changed_in.values() for name in names)

    @property
    def changed_in(self) -> dict[str | None, set[str]]:
        """The `changed_names` by the path of their file."""
        found: dict[str | None, set[str]] = {}
        for function in self.needing:
            owner = blocks.method_class(self.tree, function) or function
            found.setdefault(self.tree.path(function), set()).add(owner.name.value)
        return found

    @property
    def needing(self) -> tuple[cst.FunctionDef, ...]:
        """Functions that get a parameter, are given an object that must have a scaler, or step for code outside."""
        outside = dict(self.reach.owners)
        given = (f for f, owner in outside.items() if isinstance(f, cst.FunctionDef) and self._receives(f, owner))
        stepping = (a.function for a in self.every(OptimizerStep) if outside and a.function not in outside)
        methods = (f for f in stepping if isinstance(f, cst.FunctionDef) and blocks.method_class(self.tree, f))
        return tuple(dict.fromkeys([*self.reach.parameters, *given, *methods]))

    def _receives(self, function: cst.FunctionDef, owner: cst.BaseExpression) -> bool:
        """Whether an object is an argument of ``function``, which elsewhere may be given one without a scaler."""
        names = (n for n in walk(owner) if isinstance(n, cst.Name))
        return any(b.node in walk(function.params) for n in names for b in self.tree.names.scope[n].lookup(n.value))

    @property
    def changed_classes(self) -> frozenset[str]:
        """The classes that get a scaler as an attribute: a subclass elsewhere may not run the code that makes it."""
        return frozenset(home.cls.name.value for home in self.reach.homes if home.cls is not None)

    @property
    def where(self) -> str:
        """The function that holds the first backward: ``train()``, ``Trainer.step()``, or ``module``."""
        function = self.acts[0].function
        if not isinstance(function, cst.FunctionDef):
            return "module"
        cls = blocks.method_class(self.tree, function)
        return f"{cls.name.value}.{function.name.value}()" if cls else f"{function.name.value}()"

    @property
    def graph(self) -> Graph:
        """What it does, where, and what takes part in it."""
        from ampify.model.graph import graph_of  # only for those who want to see it

        return graph_of(self)

    def _texts(self, nodes: list[cst.CSTNode]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.tree.text(node) for node in nodes))

    @property
    def optimizers(self) -> tuple[str, ...]:
        return self._texts([act.optimizer for act in self.every(OptimizerStep)])

    @property
    def losses(self) -> tuple[str, ...]:
        return self._texts([act.loss for act in self.every(Backward)])

    @property
    def models(self) -> tuple[str, ...]:
        from ampify.model.roles import Role

        inside = [s for region in self.regions for s in region.statements]
        inside += [h.expression for region in self.regions for h in region.hoists]
        calls = [n for s in inside for n in self.code.flow.inside(s) if isinstance(n, cst.Call)]
        return self._texts([c.func for c in calls if self.code.roles.of(c.func) is Role.MODULE])

    @property
    def scaled(self) -> bool:
        """Whether a scaler takes part in it."""
        return self.scaler is not None or any(isinstance(a, Unscale | Update) for a in self.acts)

    @property
    def scaler(self) -> str | None:
        used = [a.scaler for a in self.acts if isinstance(a, Backward | OptimizerStep) and a.scaler is not None]
        return self.tree.text(used[0]) if used else None


@dataclass(frozen=True, eq=False)
class FileModel:
    """All that is known of a text; itself a subject for rules that look at it as a whole."""

    code: Code
    target: tuple[int, int] | None
    steps: tuple[TrainingStep, ...]
    frameworks: Frameworks
    line_length: int
    lowered: Lowered
    """What runs under the autocast that is there already."""

    @cached_property
    def uses(self) -> tuple[ApiUse, ...]:
        """The references to APIs of PyTorch and Apex."""
        from ampify.model.uses import find_uses  # not for those who only want the steps

        return tuple(find_uses(self.code.tree, self.target))


__all__ = [
    "Act", "Backward", "Block", "Checkpoint", "Code", "Device", "FileModel", "GradientUse", "Hoist", "Home",
    "InnerGradient", "Obstacle", "OptimizerStep", "Reach", "Region", "TrainingStep", "Unscale", "Update",
]  # fmt: skip
