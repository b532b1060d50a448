"""What each use of Apex is in a plain float32 program; branches, flags and imports are another matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.apex import INITIALIZE, SCALE_LOSS, ApexFacts, argument
from ampify.rewrite.cut import Cuts, is_atom
from ampify.rewrite.imports import need
from ampify.source.edits import Edit
from ampify.source.text import Span
from ampify.syntax.blocks import function_of
from ampify.syntax.walk import dotted, walk

_TORCH = {
    "apex.parallel.DistributedDataParallel": "torch.nn.parallel.DistributedDataParallel",
    "apex.parallel.SyncBatchNorm": "torch.nn.SyncBatchNorm",
    "apex.parallel.convert_syncbn_model": "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
}
_KEPT = {"process_group", "eps", "momentum", "affine", "track_running_stats"}
"""Keywords of those three that mean the same in torch."""

_CASTS = ("apex.fp16_utils.network_to_half", "apex.fp16_utils.BN_convert_float", "apex.fp16_utils.convert_network")
_WRAPS = ("apex.fp16_utils.FP16_Optimizer", "apex.amp.wrap_optimizer", *_CASTS)
_SAVED = "apex.amp.state_dict"
Pair = tuple[cst.BaseExpression, cst.BaseExpression]


class Stuck(Exception):
    """A use of Apex that cannot be taken out; says why, as the end of a sentence."""


class ApexUses:
    """Cuts the uses of Apex out of one text."""

    def __init__(self, facts: ApexFacts, cuts: Cuts, wrapped: frozenset[str], switches: frozenset[str]) -> None:
        self.facts, self.cuts, self.tree = facts, cuts, facts.tree
        self.tests: set[str] = set()
        """Tests of branches that held Apex: they may have become the same program."""
        self.wrapped = wrapped
        """How the optimizers that are, or were, in an `FP16_Optimizer` are called."""
        self.switches = switches
        """The tests that stand before uses of Apex in the program as it was."""

    def cut(self) -> None:
        for node in self.facts.nodes:
            if self._cut(node):
                self.tests.update(branch_tests(self.facts, node))

    def _cut(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.With(items=[item]) if self.facts.called(item.item, "apex.amp.scale_loss"):
                return self._scaled(node, item)
            case cst.Assign(targets=[cst.AssignTarget(target=target)], value=value):
                return self._assignment(node, target, value)
            case cst.Expr(value=cst.Call() as call):
                return self._statement(node, call)
            case cst.Dict():
                gone: set[cst.CSTNode] = {e for e in node.elements if self._is_state(e.value)}
                self.cuts.drop_items(node.elements, gone)
                return bool(gone)
            case cst.Call():
                return self._call(node)
            case cst.Name() | cst.Attribute():
                return self._reference(node)
        return False

    # -- with amp.scale_loss(loss, optimizer) as scaled_loss ----------------------------------------------------------

    def _scaled(self, node: cst.With, item: cst.WithItem) -> bool:
        assert isinstance(item.item, cst.Call)
        loss = argument(item.item, "loss", SCALE_LOSS)
        if loss is None:
            raise Stuck("what `amp.scale_loss` is given cannot be told from its arguments")
        name = item.asname.name if item.asname is not None else None
        if not isinstance(name, cst.Name | None):
            raise Stuck(f"`{self.tree.text(item)}` binds no plain name")
        if name is not None:
            self._named(node, name.value, loss)
        self.cuts.unwrap(node, node.body)
        return True

    def _named(self, node: cst.With, name: str, loss: cst.BaseExpression) -> None:
        """The name of the scaled loss gives way to the loss, unless it is used further on."""
        inside = [n for n in walk(node.body) if isinstance(n, cst.Name) and n.value == name and self._is_read(n)]
        everywhere = {id(n) for n in walk(function_of(self.tree, node)) if isinstance(n, cst.Name) and n.value == name}
        own = {id(n) for n in (*self._scaled_names(name), *inside)}
        if everywhere - own:
            raise Stuck(f"`{name}` is read outside of its `amp.scale_loss` too, where it is the scaled loss")
        if len(inside) > 1 and not isinstance(loss, cst.Name):
            raise Stuck(f"`{name}` is used several times, and `{self.tree.text(loss)}` would be computed as often")
        text = self.tree.text(loss)
        for use in inside:
            self.cuts.edit(Edit(self.tree.span(use), text if is_atom(loss) else f"({text})"))

    def _is_read(self, name: cst.Name) -> bool:
        match self.facts.names.parent[name]:
            case cst.Attribute(attr=part) | cst.Arg(keyword=part) if part is name:
                return False
        return True

    def _scaled_names(self, name: str) -> Iterator[cst.Name]:
        """Every place in a block of `amp.scale_loss` that says ``name`` and means its scaled loss."""
        for node in self.facts.nodes:
            match node:
                case cst.With(items=[cst.WithItem(item=call, asname=cst.AsName(name=cst.Name(value=bound)))]):
                    if bound == name and self.facts.called(call, "apex.amp.scale_loss"):
                        yield from (n for n in walk(node) if isinstance(n, cst.Name) and n.value == name)

    # -- model, optimizer = amp.initialize(model, optimizer) ----------------------------------------------------------

    def _assignment(self, node: cst.Assign, target: cst.BaseExpression, value: cst.BaseExpression) -> bool:
        if isinstance(target, cst.Subscript) and self._is_state(value):
            self.cuts.drop(node)
        elif isinstance(target, cst.Name) and self._is_state(value):
            self.cuts.edit(Edit(self.tree.span(value), "None"))
        elif (self._is_halved(value) and self.tree.text(target) == self.tree.text(value).removesuffix(".half()")) or (
            isinstance(target, cst.Attribute)
            and self.tree.text(target).endswith("._loss_scale")
            and self._state(target)
        ):
            self.cuts.drop(node)
        elif self.facts.called(value, "apex.amp.initialize"):
            assert isinstance(value, cst.Call)
            self._rebind(node, target, self._given(value))
        elif (inner := self._bare(value)) is not None:
            self._rebind(node, target, [inner])
        else:
            return False
        return True

    def _given(self, call: cst.Call) -> list[cst.BaseExpression]:
        """The models and the optimizers, which `amp.initialize` gives back."""
        found = [argument(call, name, INITIALIZE) for name in ("models", "optimizers")]
        if any(a.star for a in call.args) or found[0] is None:
            raise Stuck("what `amp.initialize` is given cannot be told from its arguments")
        outputs = argument(call, "cast_model_outputs", INITIALIZE)
        if outputs is not None and self.tree.text(outputs) != "None":
            raise Stuck("`cast_model_outputs` has no counterpart in torch.amp")
        return [value for value in found if value is not None and self.tree.text(value) != "None"]

    def _rebind(self, node: cst.Assign, target: cst.BaseExpression, given: Sequence[cst.BaseExpression]) -> None:
        """What is assigned to itself goes."""
        pairs = [*self._pairs(target, given)]
        if not pairs:
            self.cuts.drop(node)
            return
        left, right = (", ".join(self.tree.text(pair[side]) for pair in pairs) for side in (0, 1))
        self.cuts.edit(Edit(self.tree.span(node), f"{left} = {right}"))

    def _pairs(self, target: cst.BaseExpression, given: Sequence[cst.BaseExpression]) -> Iterator[Pair]:
        """Targets and what they become, without those that stay what they are."""
        if len(given) == 1:
            yield from self._different(target, given[0])
        elif isinstance(target, cst.Tuple | cst.List) and len(target.elements) == len(given):
            for element, value in zip(target.elements, given, strict=True):
                yield from self._different(element.value, value)
        else:
            raise Stuck(f"`{self.tree.text(target)}` takes both what `amp.initialize` gives back")

    def _different(self, target: cst.BaseExpression, value: cst.BaseExpression) -> Iterator[Pair]:
        match target, value:
            case ((cst.Tuple() | cst.List()), (cst.Tuple() | cst.List())) if len(target.elements) == len(
                value.elements
            ):
                for left, right in zip(target.elements, value.elements, strict=True):
                    yield from self._different(left.value, right.value)
            case _ if self.tree.text(target) != self.tree.text(value):
                yield target, value

    # -- statements and calls -----------------------------------------------------------------------------------------

    def _statement(self, node: cst.Expr, call: cst.Call) -> bool:
        gone = self.facts.called(call, "apex.amp.load_state_dict", "apex.amp.initialize")
        if gone or self._bare(call) is not None or self._is_halved(call):
            self.cuts.drop(node)
            return True
        if self.facts.called(call, "apex.amp.register_half_function") and self._is_cast_anyway(call):
            self.cuts.drop(node)
            return True
        match call.func:
            case cst.Attribute(value=owner, attr=cst.Name(value="update_master_grads")) if self._is_wrapped(owner):
                self.cuts.drop(node)
                return True
        return False

    def _is_cast_anyway(self, call: cst.Call) -> bool:
        """``amp.register_half_function(torch, "einsum")``: autocast does so without being told."""
        match call.args:
            case [cst.Arg(value=module), cst.Arg(value=cst.SimpleString() as name)]:
                return "torch" in self.facts.names.imported(module) and name.evaluated_value in words.PRODUCTS
        return False

    def _is_halved(self, value: cst.CSTNode) -> bool:
        """``model.half()`` of a model that an `FP16_Optimizer` trains, where the same test stands before both."""
        match value:
            case cst.Call(func=cst.Attribute(value=cst.Name(), attr=cst.Name(value="half")), args=[]) if self.wrapped:
                return bool({*branch_tests(self.facts, value)} & self.switches)
        return False

    def _bare(self, value: cst.CSTNode) -> cst.BaseExpression | None:
        """The optimizer that Apex wraps, the network that a cast of Apex is given."""
        if isinstance(value, cst.Call) and self.facts.called(value, *_WRAPS):
            return value.args[0].value if value.args and not value.args[0].star else None
        return None

    def _call(self, call: cst.Call) -> bool:
        parent = self.facts.names.parent[call]
        inner = self._bare(call)
        if inner is not None and not isinstance(parent, cst.Assign | cst.Expr):
            self.cuts.replace(call, inner)
            return True
        if self.facts.called(call, "apex.amp.initialize") and isinstance(parent, cst.Return):
            self.cuts.edit(Edit(self.tree.span(call), ", ".join(map(self.tree.text, self._given(call)))))
            return True
        if self.facts.called(call, "apex.amp.disable_casts"):
            spelled, imports = need(self.tree, "torch.autocast", call)
            self.cuts.edit(Edit(self.tree.span(call), f'{spelled}(device_type="cuda", enabled=False)'), *imports)
            return True
        match call.func:
            case cst.Attribute(value=owner, attr=cst.Name(value="backward")) if call.args and self._is_wrapped(owner):
                return self._backward(call)
            case cst.Attribute(value=owner, attr=cst.Name(value="clip_master_grads")):
                return self._is_wrapped(owner)  # once branches have been merged
        return False

    def _backward(self, call: cst.Call) -> bool:
        """``optimizer.backward(loss)``"""
        loss, rest = call.args[0].value, [a for a in call.args[1:] if a.keyword and a.keyword.value == "retain_graph"]
        text = self.tree.text(loss)
        arguments = ", ".join(self.tree.text(a) for a in rest)
        self.cuts.edit(Edit(self.tree.span(call), f"{text if is_atom(loss) else f'({text})'}.backward({arguments})"))
        return True

    def _is_wrapped(self, node: cst.CSTNode) -> bool:
        return self.tree.text(node) in self.wrapped

    def master_params(self) -> None:
        """``amp.master_params(optimizer)`` is what its parameter groups hold."""
        for node in self.facts.nodes:
            match node:
                case cst.Call(args=[cst.Arg(value=owner)]) if self.facts.called(node, "apex.amp.master_params"):
                    self.cuts.edit(Edit(self.tree.span(node), self._parameters(owner)))
                case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name("clip_master_grads")), args=[first, *_]):
                    if self._is_wrapped(owner):
                        spelled, imports = need(self.tree, "torch.nn.utils.clip_grad_norm_", node)
                        rest = self.tree.source[Span(self.tree.span(first).start, self.cuts.own(node).end)]
                        clipped = f"{spelled}({self._parameters(owner)}, {rest}"
                        self.cuts.edit(Edit(self.cuts.own(node), clipped), *imports)

    def _parameters(self, optimizer: cst.BaseExpression) -> str:
        """The parameters of an optimizer: of the model that it was made for, where that can be named."""
        scope = self.facts.names.scope[optimizer]
        bound = scope.lookup(optimizer.value) if isinstance(optimizer, cst.Name) else []
        match [b.value for b in bound]:
            case [cst.Call(args=[cst.Arg(value=cst.Call(func=cst.Attribute(value=model, attr=name), args=[])), *_])]:
                named = isinstance(model, cst.Name) and scope.find(model.value) is self.facts.names.scope[model]
                if named and name.value == "parameters" and self._stays(model):
                    return f"{self.tree.text(model)}.parameters()"
        return f'(p for group in {self.tree.text(optimizer)}.param_groups for p in group["params"])'

    def _stays(self, model: cst.BaseExpression) -> bool:
        """Whether a name keeps the parameters of its first model: it is set once, or to what wraps itself."""
        assert isinstance(model, cst.Name)
        first, *later = [b.value for b in self.facts.names.scope[model].lookup(model.value)]
        return first is not None and all(
            isinstance(value, cst.Call) and any(self.tree.text(a.value) == model.value for a in value.args)
            for value in later
        )

    # -- the states of loss scalers -----------------------------------------------------------------------------------

    def _is_state(self, value: cst.CSTNode) -> bool:
        return self.facts.called(value, _SAVED)

    def _state(self, target: cst.Attribute) -> bool:
        """Whether ``target`` is the scale that Apex begins with: an attribute of its private state."""
        names = (n for n in walk(target) if isinstance(n, cst.Attribute))
        return any(self.facts.path(n) == "apex.amp._amp_state" for n in names)

    # -- apex.parallel ------------------------------------------------------------------------------------------------

    def _reference(self, node: cst.Name | cst.Attribute) -> bool:
        """Classes of apex.parallel that torch has as well."""
        path = self.facts.path(node)
        parent = self.facts.names.parent[node]
        if path not in _TORCH or isinstance(parent, cst.Attribute | cst.ImportAlias | cst.AsName | cst.ImportFrom):
            return False
        self._check_parallel(path)
        call = parent if isinstance(parent, cst.Call) and parent.func is node else None
        spelled, imports = need(self.tree, _TORCH[path], node)
        if call is not None and (placed := self._placed(path, call)) is not None:
            self.cuts.edit(Edit(self.tree.span(call), f"{spelled}({placed})"), *imports)
            return True
        self.cuts.edit(Edit(self.tree.span(node), spelled), *imports)
        if call is not None:
            gone: set[cst.CSTNode] = {a for a in call.args[1:] if a.keyword is None or a.keyword.value not in _KEPT}
            plain = path.endswith("SyncBatchNorm")
            self.cuts.drop_items(call.args, {a for a in gone if not (plain and a.keyword is None)})  # type: ignore[attr-defined]
        return True

    def _placed(self, path: str, call: cst.Call) -> str | None:
        """The arguments of data parallelism with the device of its process, where `torch.cuda.set_device` names it."""
        whole = self.tree.span(call)
        if not path.endswith("DistributedDataParallel") or not call.args or self.cuts.comments_of(whole):
            return None
        devices = {self.tree.text(d) for d in self._devices() if self._means_the_same(d, call)}
        model = self.tree.text(call.args[0].value)
        return f"{model}, device_ids=[{devices.pop()}]" if len(devices) == 1 else None

    def _devices(self) -> Iterator[cst.BaseExpression]:
        for node in self.facts.nodes:
            match node:
                case cst.Call(func=func, args=[cst.Arg(value=cst.Name() | cst.Attribute() as device, keyword=None)]):
                    if self.facts.names.imported(func) == {"torch.cuda.set_device"}:
                        yield device

    def _means_the_same(self, value: cst.BaseExpression, at: cst.CSTNode) -> bool:
        """Whether a chain of names, bound once, means at ``at`` what it means further up, where it stands."""
        names, (root, *_) = self.facts.names, dotted(value) or ("",)
        scope = names.scope[value].find(root)
        bound_once = scope is not None and len(scope.bindings[root]) == 1
        above = self.tree.module(value) is self.tree.module(at) and self.tree.span(value).end < self.tree.span(at).start
        return bound_once and above and names.scope[at].find(root) is scope

    def _check_parallel(self, path: str) -> None:
        """Raises `Stuck` where more is asked of Apex's data parallelism than that of torch does."""
        if not path.endswith("DistributedDataParallel"):
            return
        for node in self.facts.nodes:
            match node:
                case cst.Attribute(attr=cst.Name(value="enable_allreduce" | "disable_allreduce")):
                    raise Stuck(f"`{self.tree.text(node)}` belongs to Apex; `DistributedDataParallel` of torch has "
                                "`no_sync` for that")  # fmt: skip
                case cst.Arg(keyword=cst.Name("gradient_average"), value=cst.Name("False")):
                    raise Stuck("`gradient_average=False` sums the gradients of all processes; torch takes their mean")


def branch_tests(facts: ApexFacts, node: cst.CSTNode) -> Iterator[str]:
    """The tests of the branches around ``node`` in its function."""
    for parent in facts.tree.parents(node):
        if isinstance(parent, cst.FunctionDef):
            return
        if isinstance(parent, cst.If | cst.IfExp):
            yield facts.tree.text(parent.test)


def wrapped(facts: ApexFacts) -> Iterator[str]:
    """How the optimizers that Apex wraps are called."""
    for node in facts.nodes:
        match node:
            case cst.Assign(targets=[cst.AssignTarget(target=target)], value=value):
                if facts.called(value, "apex.fp16_utils.FP16_Optimizer"):
                    yield facts.tree.text(target)
