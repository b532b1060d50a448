"""What would raise or go wrong once a forward runs in float16: in its regions, in what they call, and behind them.

Each hazard leaves the step in float32 with AMP021, at the place and with the rule that is about it; unsafe fixes
convert all the same. What cannot be decided (a tensor's dtype, an index that may be a mask) counts as a hazard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import libcst as cst

from ampify.model import fills, gram, libraries, operators, sparse
from ampify.model import vocabulary as words
from ampify.model.definitions import How
from ampify.model.forward import Forward
from ampify.model.makers import Makers
from ampify.model.roles import Role
from ampify.model.step import Obstacle
from ampify.model.subregions import has_no_half
from ampify.source.importers import project_file
from ampify.syntax.walk import arguments, keyword, walk


class Hazards:
    """The hazards of one forward."""

    def __init__(self, forward: Forward) -> None:
        self.forward, self.flow, self.roles = forward, forward.flow, forward.roles
        self.tree = forward.tree
        self.running = forward.running
        self._makers = Makers(forward.flow, forward.roles)
        forward.spread()

    def all(self) -> Iterator[Obstacle]:
        """The first hazard of each kind, and those of the CPU alone that stand before it."""
        for kind in (self._reached, self._adjacent, self._opaque, self._left_half, self._anomaly):
            for hazard in kind():
                yield hazard
                if not hazard.cpu:
                    break

    def _at(self, node: cst.CSTNode, reason: str, scaling: bool = False, cpu: bool = False) -> Obstacle:
        return Obstacle("AMP021", self.tree.span(node), reason, scaling=scaling, risk=True, cpu=cpu)

    def _unequal(self, node: cst.CSTNode, reason: str, operands: list[cst.BaseExpression]) -> Iterator[Obstacle]:
        """A hazard unless the operands surely have one dtype under autocast, be it of CUDA or of the CPU."""
        for device, dtypes in self.running.dtypes.items():
            if not dtypes.agree(operands):
                yield self._at(node, reason, cpu=device == "cpu")
                return

    # ------------------------------------------------------------------ under autocast

    def _reached(self) -> Iterator[Obstacle]:
        """Calls in the regions, and in the functions of this file that they reach."""
        for node in _with_lambdas(self.running.inside):
            yield from self._product(node)
            if isinstance(node, cst.Call):
                yield from self._call(node)
                yield from self._elsewhere(node)
                yield from self._undefined(node)
        for function in self.running.functions:
            for node in _with_lambdas(self.flow.body[function]):
                yield from self._product(node)
                if isinstance(node, cst.Call):
                    yield from self._call(node)
                elif isinstance(node, cst.Assign):
                    yield from self._filled(node)

    def _elsewhere(self, call: cst.Call) -> Iterator[Obstacle]:
        """A helper from another file of the project: a Gram matrix in it, say, would overflow unseen."""
        if self.roles.of(call.func) is not None or not self.forward.reads_low(call, call):
            return
        for path in self.flow.names.imported(call.func):
            if (own := self.tree.path(call)) and project_file(Path(own), path) is not None:
                reason = "stands in another file, which is not looked into: what it computes may not fit float16"
                yield self._at(call, f"`{self.tree.text(call.func)}` {reason}")

    def _undefined(self, call: cst.Call) -> Iterator[Obstacle]:
        """A helper, or a loss, of which an excerpt shows nothing; a model is trusted."""
        if self.roles.of(call.func) not in (None, Role.LOSS) or not self.forward.reads_low(call, call):
            return
        place = self.flow.place(call.func)
        made = [d.value for d in self.flow.assigned(place)] if place is not None else []
        for name in (call.func, *(value.func for value in made if isinstance(value, cst.Call))):
            if isinstance(name, cst.Name) and self.flow.names.undefined(name.value, name):
                yield self._at(call, f"`{name.value}` is not defined here: what it computes may not fit float16")

    def _call(self, call: cst.Call) -> Iterator[Obstacle]:
        paths, text = self.forward.islands.stands_for(call.func), self.tree.text(call.func)
        if (reason := self._of_library(call)) is not None:
            yield self._at(call, reason)
        name = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
        if paths & words.BCE_FUNCTIONS or self.forward.islands.made_by(call.func) & words.BCE_MODULES:
            yield self._at(call, f"`{text}` takes probabilities, which raises under autocast (AMP401)")
        elif has_no_half(self.flow, call) and not self.running.shielded(call) and not self._tabled(call):
            yield self._at(call, f"`{text}` has no kernel for half precision (AMP407)")
        elif paths & words.NORMS:
            yield from self._normed(call, text)
        elif fills.overfills(self.flow, call) and not self.running.copies_half(call):
            yield from self._overfilled(call)
        elif name in operators.STRICT and not paths:
            code = "AMP408" if name in operators.PRODUCTS_IN_PLACE else "AMP310"
            reason = f"`{text}` needs equal dtypes, and autocast may give it float16 beside float32 ({code})"
            yield from self._unequal(call, reason, self._operands(call, name))
        elif name == "apply" and isinstance(call.func, cst.Attribute):
            cls = self.flow.named(call.func.value)
            if isinstance(cls, cst.ClassDef) and self._unprepared(cls):
                reason = (
                    "is not decorated with `custom_fwd` and `custom_bwd`, so its tensors would differ in dtype (AMP510)"
                )
                yield self._at(call, f"the autograd function `{cls.name.value}` {reason}")

    def _tabled(self, call: cst.Call) -> bool:
        """Whether a product with a graph is one of a library's: `_adjacent` knows which programs have such graphs."""
        within = any(libraries.defined(self.tree.path(call) or "", ""))
        return within and bool(self.flow.names.imported(call.func) & words.SPARSE_PRODUCTS)

    def _of_library(self, call: cst.Call) -> str | None:
        """Why a module of a library, or a method of one, does not work in half precision."""
        func, made = call.func, list[cst.CSTNode]()
        for module in (func, func.value) if isinstance(func, cst.Attribute) else (func,):
            made += self._makers.of(module, drawn=True)
        makers = [maker for maker in made if isinstance(maker, cst.Call)]
        known = (path for maker in makers for path in self._class_paths(maker.func))
        summing = (p for maker in makers if not _divides(maker) for p in self._class_paths(maker.func))
        return libraries.hazard(known) or libraries.sums(summing)

    def _class_paths(self, maker: cst.BaseExpression) -> Iterator[str]:
        """The import paths of a class, also where its library is among the files."""
        yield from self.flow.names.imported(maker)
        if isinstance(cls := self.flow.named(maker), cst.ClassDef):
            yield from libraries.defined(self.tree.path(cls) or "", cls.name.value)

    def _adjacent(self) -> Iterator[Obstacle]:
        """Modules of a library that multiply with graphs in a sparse layout, wherever their calls are."""
        for call in self.flow.calls if sparse.graphs(self.flow) else ():
            if (name := libraries.multiplies(self._class_paths(call.func))) is not None:
                reason = "multiplies with a sparse matrix, whose backward has no kernel for half precision (AMP407)"
                yield self._at(call, f"`{name}` {reason}")

    def _product(self, node: cst.CSTNode) -> Iterator[Obstacle]:
        """A Gram matrix adds up squares over all positions; what divides them comes after they have overflowed."""
        if self.running.shielded(node):
            return
        if (pair := gram.product(self.flow, node)) is not None and not gram.bounded(self.flow, pair):
            reason = "multiplies a tensor with itself, and sums of squares may not fit float16 (AMP403)"
            yield self._at(node, f"`{self.tree.text(node)}` {reason}", scaling=True)
        factors = [sparse.layouts(self.flow, factor) for factor in gram.factors(self.flow, node)]
        for device in self.running.dtypes if any(factors) else ():
            if sparse.raises(factors[0], factors[-1], device):
                reason = "multiplies a sparse matrix, and has no kernel for half precision (AMP407)"
                yield self._at(node, f"`{self.tree.text(node)}` {reason}", cpu=device == "cpu")
                return

    def _normed(self, call: cst.Call, text: str) -> Iterator[Obstacle]:
        """Batch normalization takes half-precision inputs, but weights and running statistics in float32 alone."""
        given = [a.value for i, a in enumerate(call.args) if (a.keyword is None and i in range(1, 5)) or _kept(a)]
        for device, dtypes in self.running.dtypes.items():
            if not dtypes.unchanged(given):
                reason = "needs its weight, bias and running statistics in float32, and autocast may have computed one"
                yield self._at(call, f"`{text}` {reason} in float16 (AMP408)", cpu=device == "cpu")
                return

    def _overfilled(self, call: cst.Call) -> Iterator[Obstacle]:
        """A number beyond float16 for a tensor that autocast may leave in it."""
        text = self.tree.text(call.func)
        reason = f"`{text}` is given a number that float16 cannot hold, so it would raise or become infinite (AMP403)"
        for device, dtypes in self.running.dtypes.items():
            if not dtypes.unchanged(fills.tensors(self.flow, call)):
                yield self._at(call, reason, scaling=True, cpu=device == "cpu")
                return

    def _operands(self, call: cst.Call, name: str) -> list[cst.BaseExpression]:
        """The tensors that must have one dtype in a call of a strict method."""
        receiver = [call.func.value] if isinstance(call.func, cst.Attribute) else []
        plain = [a.value for a in call.args if a.keyword is None]
        named = [a.value for a in call.args if a.keyword is not None and a.keyword.value in operators.STRICT_WORDS]
        return [*receiver, *(plain[i] for i in operators.STRICT[name] if i < len(plain)), *named]

    def _unprepared(self, cls: cst.ClassDef) -> bool:
        methods = {name: m for name in ("forward", "backward") if (m := self.flow.method(cls, name)) is not None}
        decorators = [d.decorator for m in methods.values() for d in m.decorators]
        prepared = any(p.endswith("custom_fwd") for d in decorators for p in self.flow.names.imported(_called(d)))
        bodies = {name: self.flow.body[m] for name, m in methods.items()}
        return not prepared and any(_mixes_dtypes(n, name) for name, body in bodies.items() for n in body)

    def _opaque(self) -> Iterator[Obstacle]:
        """A loss picked from a table or by its name may be the one of this file that autocast forbids."""
        if not self._forbids:
            return
        for call in (n for n in self.running.inside if isinstance(n, cst.Call)):
            picked = isinstance(call.func, cst.Subscript | cst.Call) or self._picked(call.func)
            if picked and self.forward.reads_low(call, call):
                yield self._at(
                    call, "the loss is looked up at run time, and a binary cross entropy raises under autocast (AMP401)"
                )

    @property
    def _forbids(self) -> bool:
        """Whether the code names a loss that autocast forbids."""
        forbidden, names, text = words.BCE_FUNCTIONS | words.BCE_MODULES, self.flow.names, self.tree.source.text
        if not any(path.rpartition(".")[2] in text for path in forbidden):
            return False
        if '"BCELoss"' in text or any(names.imported(call.func) & forbidden for call in self.flow.calls):
            return True
        return any(
            isinstance(n, cst.Attribute | cst.Name) and names.imported(n) & forbidden
            for body in self.flow.body.values()
            for n in body
        )

    def _picked(self, node: cst.CSTNode) -> bool:
        """Whether a name stands for something that was taken out of a table or built by ``getattr``."""
        place = self.flow.place(node)
        if place is None or self.roles.of(node) is Role.MODULE:
            return False
        values = [d.value for d in self.flow.assigned(place) if d.how is How.ASSIGN]
        return any(
            isinstance(v, cst.Subscript) or (isinstance(v, cst.Call) and isinstance(v.func, cst.Call | cst.Subscript))
            for v in values
        )

    # ------------------------------------------------------------------ behind the regions

    def _left_half(self) -> Iterator[Obstacle]:
        """Half-precision results where autocast no longer looks after dtypes."""
        wrapped = {id(n) for n in self.running.inside}
        looked_after = {*self.running.functions, *self._forwards}
        for function in (f for f in self.flow.functions if f not in looked_after):
            for node in self.flow.body[function]:
                if isinstance(node, cst.Assign):
                    yield from self._filled(node)
                elif id(node) not in wrapped and (operands := self._strict(node)):
                    text = self.tree.text(node).partition("\n")[0]
                    reason = f"`{text}` would get float16 from autocast beside float32, and needs equal dtypes (AMP311)"
                    yield from self._unequal(node, reason, operands)

    @cached_property
    def _forwards(self) -> set[cst.FunctionDef]:
        """The forwards of modules and what they run: under autocast, or on float32 alone, as whoever calls them."""
        modules = (cls for cls in self.flow.classes if self.roles.of_class(cls) is Role.MODULE)
        found = {m for cls in modules if (m := self.flow.method(cls, "forward")) is not None}
        return found | {f for forward in found for f in self.flow.reachable(forward)}

    def _strict(self, node: cst.CSTNode) -> list[cst.BaseExpression]:
        """The operands of an operator that needs equal dtypes, where one may be in half precision; else none."""
        match node:
            case cst.BinaryOperation(left=left, operator=cst.MatrixMultiply(), right=right):
                return [left, right] if self.forward.reads_low(node, node) else []
            case cst.Call(func=cst.Attribute(value=receiver, attr=cst.Name(value=name)) as func):
                library = any(p.startswith("torch.") for p in self.flow.names.imported(func))
                product = name in (words.PRODUCTS if library else words.PRODUCT_METHODS)
                if not (product or name in operators.STRICT) or not self.forward.reads_low(node, node):
                    return []
                if product or library:
                    return [*([] if library else [receiver]), *arguments(node)]
                return self._operands(node, name)
        return []

    def _filled(self, node: cst.Assign) -> Iterator[Obstacle]:
        """A float32 tensor that takes only its own dtype, and not one that the value surely has or can be cast to."""
        if (pair := self.running.stores.pair(node)) is not None and not self.running.stores.casts(node):
            yield from self._unequal(node, _FILLS, [*pair])

    # ------------------------------------------------------------------ strict checks

    def _anomaly(self) -> Iterator[Obstacle]:
        """An overflow is normal while the loss scale settles, and these raise on it (AMP223)."""
        for call in self.flow.calls:
            paths = self.flow.names.imported(call.func)
            strict = keyword(call, "error_if_nonfinite")
            switched = any(p.endswith(("set_detect_anomaly", "detect_anomaly")) for p in paths)
            off = any(isinstance(a, cst.Name) and a.value == "False" for a in arguments(call))
            if (switched and not off) or (isinstance(strict, cst.Name) and strict.value == "True"):
                reason = "raises on overflow, which is normal while the loss scale settles (AMP223)"
                yield self._at(call, f"`{self.tree.text(call.func)}` {reason}", scaling=True)


_FILLS = "a float32 tensor is filled by index from autocast results, which needs equal dtypes (AMP310)"


def _with_lambdas(nodes: Iterable[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    """Code of a scope, and that of the lambdas in it: they run there, or in what they are given to."""
    for node in nodes:
        yield node
        if isinstance(node, cst.Lambda):
            yield from walk(node.body)


def _kept(arg: cst.Arg) -> bool:
    return arg.keyword is not None and arg.keyword.value in ("weight", "bias", "running_mean", "running_var")


def _divides(maker: cst.Call) -> bool:
    """``aggr="mean"``: what a layer of a graph does instead of adding up."""
    match keyword(maker, "aggr"):
        case cst.SimpleString(evaluated_value="mean" | "max" | "min" | "median"):
            return True
    return False


def _called(node: cst.BaseExpression) -> cst.BaseExpression:
    return node.func if isinstance(node, cst.Call) else node


def _mixes_dtypes(node: cst.CSTNode, method: str) -> bool:
    """Matrix products need equal dtypes; clamps and signs of gradients do not commute with scaling."""
    match node:
        case cst.BinaryOperation(operator=cst.MatrixMultiply()):
            return True
        case cst.Call(func=cst.Attribute(attr=cst.Name(value=name))):
            return name.rstrip("_") in words.PRODUCTS | (words.NOT_LINEAR if method == "backward" else set())
    return False
