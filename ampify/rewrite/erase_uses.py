"""Which code makes a step mixed-precision: autocast regions, scaler calls, and arithmetic with the scale."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import libcst as cst

from ampify.model.amp import AmpFacts
from ampify.rewrite.cut import Cuts, is_atom, is_quiet
from ampify.source.edits import Edit
from ampify.source.text import Span
from ampify.syntax.blocks import Block
from ampify.syntax.tree import Tree

_ONE = ("1", "1.", "1.0")
_EQUAL_MEANS = {
    cst.GreaterThanEqual: True, cst.LessThanEqual: True, cst.Equal: True,
    cst.GreaterThan: False, cst.LessThan: False, cst.NotEqual: False,
}  # fmt: skip
"""What a comparison of the scale with its former value says where no step is ever skipped."""


class Uses:
    """Cuts the uses of AMP out of one text; what carries scalers around is another matter."""

    def __init__(self, facts: AmpFacts, cuts: Cuts) -> None:
        self.facts, self.cuts, self.tree = facts, cuts, facts.tree
        self.tests: set[str] = set()
        """Tests of branches that held AMP: they may have become the same program."""

    def cut(self) -> None:
        for node in self.facts.nodes:
            if self._cut(node):
                self.tests.update(_branch_tests(self.tree, node))

    def _cut(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.With():
                return self._region(node)
            case cst.Decorator() if node in self.facts.regions:
                self.cuts.edit(self.cuts.drop_line(node))
                return True
            case cst.Expr(value=cst.Call() as call):
                return self._statement(node, call)
            case cst.Assign(targets=[cst.AssignTarget(target=target)]):
                return self._assignment(node, target)
            case cst.AugAssign(operator=cst.MultiplyAssign()):
                return self._drop_if(node, gone=self._is_one(node.value))
            case cst.AugAssign(operator=cst.DivideAssign()):
                return self._drop_if(node, gone=self._is_scale(node.value))
            case cst.Call():
                return self._scale(node) or self._step(node) or self._join(node) or self._entries(node)
            case cst.Dict():
                return self._entries(node)
            case cst.BinaryOperation() if kept := self._unscaled(node):
                own, part = self.cuts.own(node), self.tree.span(kept)
                self.cuts.delete(Span(own.start, part.start), Span(part.end, own.end))
                return True
            case cst.If():
                return self._guard(node)
        return False

    # -- regions ----------------------------------------------------------------------------------------------------

    def _region(self, node: cst.With) -> bool:
        gone: set[cst.CSTNode] = {i for i in node.items if i.asname is None and self.facts.is_autocast(i.item)}
        if gone and len(gone) == len(node.items):
            self.cuts.unwrap(node, node.body)
        elif gone:
            self.cuts.drop_items(node.items, gone)
        return bool(gone)

    # -- calls of a scaler ------------------------------------------------------------------------------------------

    def _method(self, node: cst.CSTNode) -> str | None:
        """The method of a scaler that ``node`` calls."""
        match node:
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value=name))) if self.facts.is_scaler(owner):
                return name
        return None

    def _statement(self, node: cst.Expr, call: cst.Call) -> bool:
        match call:
            case cst.Call(func=cst.Attribute(attr=cst.Name("mul_")), args=[cst.Arg(value=factor)]):
                return self._drop_if(node, gone=self._is_one(factor))
            case cst.Call(func=cst.Attribute(attr=cst.Name("div_")), args=[cst.Arg(value=scale)]):
                return self._drop_if(node, gone=self._is_scale(scale))
        return self._drop_if(node, gone=self._method(call) in ("unscale_", "update", "load_state_dict"))

    def _scale(self, call: cst.Call) -> bool:
        if (value := self._scaled(call)) is None:
            return False
        self.cuts.replace(call, value)
        return True

    def _scaled(self, node: cst.CSTNode) -> cst.BaseExpression | None:
        match node:
            case cst.Call(args=[cst.Arg(star="", value=value)]) if self._method(node) == "scale":
                return value
        return None

    def _step(self, call: cst.Call) -> bool:
        if self._method(call) != "step" or not call.args or call.args[0].star:
            return False
        optimizer, rest = call.args[0].value, call.args[1:]
        own, name = self.cuts.own(call), self.tree.span(optimizer)
        end = self.tree.span(rest[0]).start if rest else own.end - 1
        before, between = Span(own.start, name.start), Span(name.end, end)
        head, tail = ("", ".step(") if is_atom(optimizer) else ("(", ").step(")
        tail += self.cuts.comments_of(before) + self.cuts.comments_of(between)
        self.cuts.edit(Edit(before, head), Edit(between, tail))
        return True

    def _join(self, call: cst.Call) -> bool:
        """``net[-1](net[:-1](x))`` → ``net(x)``: a Sequential that was split so that its end runs in float32."""
        match call:
            case cst.Call(
                func=cst.Subscript(value=whole, slice=[cst.SubscriptElement(slice=cst.Index(value=last))]),
                args=[cst.Arg(value=cst.Call(func=func, args=given) as inner)],
            ) if self.tree.text(last) == "-1":
                run = func if isinstance(func, cst.Subscript) or not given else given[0].value
                same = self._shortened(run)
                if same is not None and self.tree.text(whole) == self.tree.text(same):
                    self.cuts.delete(Span(self.cuts.own(call).start, self.cuts.own(inner).start))
                    self.cuts.delete(Span(self.tree.span(same).end, self.tree.span(run).end))
                    self.cuts.delete(Span(self.cuts.own(inner).end, self.cuts.own(call).end))
                    return True
        return False

    def _shortened(self, node: cst.BaseExpression) -> cst.BaseExpression | None:
        """``net`` of ``net[:-1]``."""
        match node:
            case cst.Subscript(value=whole, slice=[cst.SubscriptElement(slice=cst.Slice(None, upper))]):
                return whole if upper is not None and self.tree.text(upper) == "-1" else None
        return None

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _entries(self, node: cst.Dict | cst.Call) -> bool:
        if isinstance(node, cst.Call) and not (isinstance(node.func, cst.Name) and node.func.value == "dict"):
            return False
        items = node.elements if isinstance(node, cst.Dict) else node.args
        gone: set[cst.CSTNode] = {item for item in items if self._is_state(item.value)}
        self.cuts.drop_items(items, gone)
        return bool(gone)

    def _is_state(self, value: cst.CSTNode) -> bool:
        if isinstance(value, cst.IfExp):  # `scaler.state_dict() if scaler else None`
            return self._is_state(value.body) and is_quiet(value.orelse)
        return self._method(value) == "state_dict"

    # -- assignments --------------------------------------------------------------------------------------------------

    def _assignment(self, node: cst.Assign, target: cst.BaseExpression) -> bool:
        if isinstance(target, cst.Subscript) and self._is_state(node.value):
            return self._drop_if(node, gone=True)
        kept = self._peeled(node.value)
        return self._drop_if(node, gone=kept is not None and self.tree.text(kept) == self.tree.text(target))

    def _peeled(self, value: cst.CSTNode) -> cst.BaseExpression | None:
        """What ``value`` comes down to without scaling; None where it does not scale."""
        match value:
            case cst.ListComp(elt=elt, for_in=loop) | cst.GeneratorExp(elt=elt, for_in=loop):
                kept = self._peeled(elt)
                plain = not loop.ifs and loop.inner_for_in is None
                same = kept is not None and self.tree.text(kept) == self.tree.text(loop.target)
                return loop.iter if plain and same else None
            case cst.Call(func=cst.Name("tuple" | "list"), args=[cst.Arg(value=inner)]):
                return self._peeled(inner)
            case cst.IfExp(test=test, body=body, orelse=orelse):
                kept = self._peeled(body)
                same = kept is not None and self.tree.text(kept) == self.tree.text(orelse)
                return orelse if same and is_quiet(test) else None
            case cst.BinaryOperation():
                return self._unscaled(value)
        return self._scaled(value)

    def _unscaled(self, node: cst.BinaryOperation) -> cst.BaseExpression | None:
        """``a`` of ``a * (1 / scale)``, ``(1 / scale) * a``, ``a / scale``, and ``a * scale``, a bound."""
        match node.operator:
            case cst.Multiply() if self._is_one(node.right):
                return node.left
            case cst.Multiply() if self._is_one(node.left):
                return node.right
            case cst.Divide() if self._is_scale(node.right) and not self._is_factor(node):
                return node.left
        return None

    def _drop_if(self, node: cst.CSTNode, *, gone: bool) -> bool:
        if gone:
            self.cuts.drop(node)
        return gone

    # -- the scale as a number ----------------------------------------------------------------------------------------

    def _is_scale(self, node: cst.CSTNode) -> bool:
        """``scaler.get_scale()``, or a name that is only ever bound to that."""
        return self._method(node) == "get_scale" or self._bound_only(node, lambda v: self._method(v) == "get_scale")

    def _is_factor(self, node: cst.CSTNode) -> bool:
        """``1 / scaler.get_scale()``, or a name that is only ever bound to that."""
        return self._inverts(node) or self._bound_only(node, self._inverts)

    def _is_one(self, node: cst.CSTNode) -> bool:
        """Whether a factor is 1 where nothing is scaled."""
        return self._is_factor(node) or self._is_scale(node)

    def _inverts(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.BinaryOperation(left=cst.Float() | cst.Integer() as one, operator=cst.Divide(), right=scale):
                return one.value in _ONE and self._is_scale(scale)
        return False

    def _bound_only(self, node: cst.CSTNode, test: Callable[[cst.CSTNode], bool]) -> bool:
        if not isinstance(node, cst.Name):
            return False
        values = [b.value for b in self.tree.names.scope[node].lookup(node.value)]
        return bool(values) and all(v is not None and test(v) for v in values)

    def reads_scale(self, value: cst.CSTNode) -> bool:
        """Whether ``value`` is something about a scaler that nothing needs once AMP has gone."""
        enabled = self._method(value) == "is_enabled"
        return enabled or self._is_scale(value) or self._is_factor(value) or self._truth(value) is not None

    def _truth(self, test: cst.CSTNode) -> bool | None:
        """What a test for a skipped step says in a program that skips none."""
        match test:
            case cst.UnaryOperation(operator=cst.Not(), expression=inner):
                truth = self._truth(inner)
                return None if truth is None else not truth
            case cst.Comparison(left=left, comparisons=[cst.ComparisonTarget(operator=operator, comparator=right)]):
                return _EQUAL_MEANS.get(type(operator)) if self._is_scale(left) and self._is_scale(right) else None
            case cst.Name():
                values = [b.value for b in self.tree.names.scope[test].lookup(test.value)]
                truths = {self._truth(v) if isinstance(v, cst.Comparison) else None for v in values}
                return truths.pop() if len(truths) == 1 else None
        return None

    def _guard(self, node: cst.If) -> bool:
        truth = self._truth(node.test)
        if truth is None or not isinstance(self.tree.names.parent[node], Block) or isinstance(node.orelse, cst.If):
            return False
        if truth:
            self.cuts.unwrap(node, node.body)
        elif node.orelse is not None:
            self.cuts.unwrap(node, node.orelse.body)
        else:
            self.cuts.drop(node)
        return True


def merge_branches(facts: AmpFacts, cuts: Cuts, tests: set[str]) -> None:
    """``if use_amp: A else: A`` is A, where the branches were different programs because of AMP."""
    if not tests:
        return
    tree = facts.tree
    modules = zip(tree.modules, tree.asts, strict=True)
    statements = {(m, n.lineno): n for m, part in modules for n in ast.walk(part) if isinstance(n, ast.If)}
    for node in facts.nodes:
        match node:
            case cst.If(orelse=cst.Else(), test=test) if tree.text(test) in tests and is_quiet(test):
                twin = statements[tree.module(node), tree.line(node)]
                if isinstance(tree.names.parent[node], Block) and _same(twin.body, twin.orelse):
                    cuts.unwrap(node, node.body)
            case cst.IfExp(test=test, body=body, orelse=orelse) if tree.text(test) in tests and is_quiet(test):
                if _same_text(tree.text(body), tree.text(orelse)):
                    cuts.replace(node, body)


def _same(body: list[ast.stmt], orelse: list[ast.stmt]) -> bool:
    return [ast.dump(n) for n in body] == [ast.dump(n) for n in orelse]


def _same_text(one: str, other: str) -> bool:
    return ast.dump(ast.parse(f"({one})")) == ast.dump(ast.parse(f"({other})"))


def _branch_tests(tree: Tree, node: cst.CSTNode) -> Iterator[str]:
    """The tests of the two-armed branches around ``node``."""
    for parent in tree.parents(node):
        if isinstance(parent, cst.If | cst.IfExp) and parent.orelse is not None:
            yield tree.text(parent.test)
