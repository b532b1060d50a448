"""What stands around the uses of Apex: questions whether it is installed, branches, imports and their guards."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Sequence

import libcst as cst

from ampify.model.apex import REMOVED, ApexFacts, removed
from ampify.rewrite.cut import Cuts, is_quiet
from ampify.rewrite.erase_carriers import reads
from ampify.source.edits import Edit, splice
from ampify.source.text import Span
from ampify.syntax.blocks import Block
from ampify.syntax.walk import dotted, is_none, walk

_MASTER = "__master_params__"
_CLIPPED = "__clip_master_grads__"
_CLIPS = "clip_master_grads"

_Part = cst.CSTNode | Sequence[cst.CSTNode]
"""An expression, or statements that follow each other."""


# ---------------------------------------------------------------------- is Apex installed?


def fold_presence(facts: ApexFacts, cuts: Cuts) -> None:
    """``if amp is None: raise …`` and ``if args.fp16 and has_apex:`` no longer ask."""
    for node in facts.nodes:
        match node:
            case cst.If(test=test) if (found := truth(facts, test)) is not None:
                _decided(facts, cuts, node, found)
            case cst.IfExp(test=test, body=body, orelse=orelse) if (found := truth(facts, test)) is not None:
                cuts.replace(node, body if found else orelse)
            case cst.Assert(test=test) if truth(facts, test):
                cuts.drop(node)
            case cst.BooleanOperation(left=left, operator=operator, right=right) if truth(facts, node) is None:
                neutral = isinstance(operator, cst.And)
                if truth(facts, left) is neutral:
                    cuts.replace(node, right)
                elif truth(facts, right) is neutral:
                    cuts.replace(node, left)


def truth(facts: ApexFacts, test: cst.BaseExpression) -> bool | None:
    """What a test says where Apex can be imported, if it asks for no more than that."""
    match test:
        case cst.Name():
            return True if facts.present(test) else None
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            found = truth(facts, inner)
            return None if found is None else not found
        case cst.Comparison(left=left, comparisons=[cst.ComparisonTarget(operator=operator, comparator=right)]):
            if is_none(right) and facts.present(left):
                return isinstance(operator, cst.IsNot | cst.NotEqual)
        case cst.BooleanOperation(left=left, operator=operator, right=right):
            sides = {truth(facts, left), truth(facts, right)}
            decisive = isinstance(operator, cst.Or)
            return decisive if decisive in sides else sides.pop() if len(sides) == 1 else None
    return None


def _decided(facts: ApexFacts, cuts: Cuts, node: cst.If, holds: bool) -> None:
    if not isinstance(facts.names.parent[node], Block):
        return
    if holds:
        cuts.unwrap(node, node.body)
    elif isinstance(node.orelse, cst.Else):
        cuts.unwrap(node, node.orelse.body)
    elif node.orelse is None:
        cuts.drop(node)


# ---------------------------------------------------------------------- branches that have become the same


def merge_branches(facts: ApexFacts, cuts: Cuts, tests: set[str]) -> None:
    """``if args.fp16: A else: A`` is A; for parameters that Apex kept copies of, the other branch has a name."""
    tree = facts.tree
    for node in facts.nodes:
        match node:
            case cst.If(test=test, orelse=cst.Else(body=other)) if tree.text(test) in tests and is_quiet(test):
                if isinstance(facts.names.parent[node], Block):
                    _merge(facts, cuts, node, other)
            case cst.IfExp(test=test, body=body, orelse=orelse) if tree.text(test) in tests and is_quiet(test):
                if _alike(facts, body, orelse):
                    cuts.replace(node, orelse)


def _merge(facts: ApexFacts, cuts: Cuts, node: cst.If, other: cst.BaseSuite) -> None:
    """Both branches in one; where the first goes on, what it shares with the other one goes before it."""
    body, shared = node.body.body, len(other.body)
    if _alike(facts, body, other.body):
        cuts.unwrap(node, other)
        return
    blocks = isinstance(node.body, cst.IndentedBlock) and isinstance(other, cst.IndentedBlock) and shared < len(body)
    if blocks and _alike(facts, body[:shared], other.body) and not _decides(facts, node.test, other):
        _hoist(facts, cuts, node, other)


def _decides(facts: ApexFacts, test: cst.CSTNode, body: cst.CSTNode) -> bool:
    """Whether ``body`` may change what a test says: it does more with a name of the test than read its attributes."""
    read, parents = {n.value for n in walk(test) if isinstance(n, cst.Name)}, facts.names.parent
    for node in (n for n in walk(body) if isinstance(n, cst.Name) and n.value in read):
        match parents[node]:
            case cst.Attribute(attr=part) | cst.Arg(keyword=part) if part is node:
                continue
            case cst.Attribute() as whole if not isinstance(parents[whole], cst.Call | cst.AssignTarget):
                continue
        return True
    return False


def _hoist(facts: ApexFacts, cuts: Cuts, node: cst.If, other: cst.BaseSuite) -> None:
    """``if T: A; B else: A`` is ``A; if T: B``, if no comment is in the way and all lines are laid out as usual."""
    tree, source = facts.tree, facts.tree.source
    whole, rest = tree.span(node), tree.span(node.body.body[len(other.body)])
    first, last = tree.span(other.body[0]).start, tree.span(other.body[-1]).end
    head = Span(source.line_start(first), last)
    lines = [line for line in source[head].splitlines() if line.strip()]
    strings = (tree.text(n) for n in walk(other) if isinstance(n, cst.SimpleString | cst.FormattedString))
    odd = any("\n" in text for text in strings) or not all(line.startswith(source.indent(first)) for line in lines)
    if odd or cuts.comments_of(Span(whole.start, rest.start)) or cuts.comments_of(head):
        return
    indent, newline = source.indent(whole.start), source.newline(whole.start)
    shared = textwrap.indent(textwrap.dedent(source[head]), indent).lstrip()
    test = f"{newline}{indent}if {tree.text(node.test)}:{newline}{source.indent(rest.start)}"
    end = tree.span(node.body.body[-1]).end
    cuts.edit(Edit(Span(whole.start, rest.start), shared + test), Edit(Span(end, whole.end), ""))


def _alike(facts: ApexFacts, body: _Part, other: _Part) -> bool:
    try:
        one, two = (ast.parse(textwrap.dedent(_plain(facts, part))) for part in (body, other))
    except SyntaxError:
        return False
    return _same(one, two)


def _plain(facts: ApexFacts, part: _Part) -> str:
    """The code of statements or of an expression, with one name for all parameters that come from Apex."""
    tree = facts.tree
    statements = [part] if isinstance(part, cst.CSTNode) else part
    whole = Span(tree.span(statements[0]).start, tree.span(statements[-1]).end)
    spans = [
        *((tree.span(n), _MASTER) for s in statements for n in walk(s) if facts.called(n, "apex.amp.master_params")),
        *(
            (tree.span(n), _CLIPPED)
            for s in statements
            for n in walk(s)
            if isinstance(n, cst.Attribute) and n.attr.value == _CLIPS
        ),
    ]
    edits = [Edit(Span(span.start - whole.start, span.end - whole.start), name) for span, name in spans]
    text = splice(tree.source[whole], edits)
    return f"({text})" if isinstance(part, cst.CSTNode) else tree.source.indent(whole.start) + text


def _same(one: object, other: object) -> bool:
    match one, other:
        case ast.Name(id=name), ast.expr() if name == _MASTER:
            return True
        case ast.Call(func=ast.Name(id=name), args=given), ast.Call(func=func, args=[_, *args]) if name == _CLIPPED:
            return ast.unparse(func).endswith("clip_grad_norm_") and _same(given, args)
        case ast.AST(), ast.AST() if type(one) is type(other):
            return all(_same(getattr(one, field, None), getattr(other, field, None)) for field in one._fields)
        case list(), list():
            return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def drop_empty_arms(facts: ApexFacts, cuts: Cuts, tests: set[str]) -> None:
    """``else: pass`` goes where Apex was guarded by the test."""
    for node in facts.nodes:
        match node:
            case cst.If(
                test=test,
                orelse=cst.Else(body=cst.IndentedBlock(body=[cst.SimpleStatementLine(body=[cst.Pass()])])) as arm,
            ) if facts.tree.text(test) in tests:
                start, end = facts.tree.span(node.body).end, facts.tree.span(arm).end
                cuts.delete(Span(facts.tree.source.line_end(start), facts.tree.source.line_end(end)))


# ---------------------------------------------------------------------- imports


def cut_imports(facts: ApexFacts, cuts: Cuts, freed: frozenset[str]) -> None:
    """Imports of what Apex no longer has, once nothing reads them, with the ``try`` that expects them to fail.

    ``freed`` are the names that uses of Apex began with.
    """
    read = {*_read(facts)}
    for node in facts.nodes:
        match node:
            case cst.Try() if facts.tries(node) and _only_guards(node):
                if not {(facts.tree.module(node), name) for name in _bound(node)} & read:
                    cuts.drop(node)
            case cst.ImportFrom(module=cst.CSTNode() as module, names=cst.ImportStar()):
                if removed(".".join(dotted(module))) and not any(map(facts.paths, facts.nodes)):
                    cuts.drop(node)
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))], value=value):
                gone = facts.path(value) in REMOVED or facts.called(value, "apex.amp.init")
                if gone and (facts.tree.module(node), name) not in read:
                    cuts.drop(node)
            case cst.Import() | cst.ImportFrom():
                _cut_names(facts, cuts, node, read, freed)


def _cut_names(
    facts: ApexFacts,
    cuts: Cuts,
    node: cst.Import | cst.ImportFrom,
    read: set[tuple[cst.Module, str]],
    freed: frozenset[str],
) -> None:
    assert not isinstance(node.names, cst.ImportStar)
    module = facts.tree.module(node)
    gone: set[cst.CSTNode] = {a for a in node.names if _is_removed(node, a, freed) and (module, _name(a)) not in read}
    if len(gone) < len(node.names):
        cuts.drop_items(node.names, gone)
    elif not _is_tried(facts, node):
        cuts.drop(node)


def _is_tried(facts: ApexFacts, node: cst.CSTNode) -> bool:
    """Whether it is the only import that a ``try`` tries: what follows it there says that Apex is installed."""
    line = facts.names.parent[node]
    block = facts.names.parent[line] if line is not None else None
    around = facts.names.parent[block] if block is not None else None
    return isinstance(around, cst.Try) and around.body is block and facts.tries(around)


def _read(facts: ApexFacts) -> Iterator[tuple[cst.Module, str]]:
    """The names that are read, each with its file."""
    for node in reads(facts.tree):
        if isinstance(node, cst.Name):
            yield facts.tree.module(node), node.value


def _bound(statement: cst.Try) -> set[str]:
    """The names that a statement binds."""
    found: set[str] = set()
    for node in walk(statement):
        match node:
            case cst.ImportAlias():
                found.add(_name(node))
            case cst.AssignTarget(target=cst.Name(value=name)):
                found.add(name)
    return found


def _only_guards(statement: cst.Try) -> bool:
    """Whether a ``try`` only imports and sets flags, and its handlers only say that something is missing."""
    parts: Sequence[cst.CSTNode] = [statement.body, *(h.body for h in statement.handlers)]
    parts = [*parts, *(p.body for p in (statement.orelse, statement.finalbody) if p is not None)]
    return all(_is_guard(s) for part in parts if isinstance(part, Block) for s in part.body)


def _is_guard(node: cst.CSTNode) -> bool:
    match node:
        case cst.SimpleStatementLine(body=body):
            return all(map(_is_guard, body))
        case cst.Import() | cst.ImportFrom() | cst.Pass() | cst.Raise():
            return True
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name() | cst.Attribute())], value=cst.Name(value=value)):
            return value in ("True", "False", "None")
        case cst.Expr(value=cst.Call() | cst.SimpleString()):
            return True
    return False


def _name(alias: cst.ImportAlias) -> str:
    return alias.evaluated_alias or alias.evaluated_name.partition(".")[0]


def _is_removed(node: cst.Import | cst.ImportFrom, alias: cst.ImportAlias, freed: frozenset[str]) -> bool:
    if isinstance(node, cst.Import):
        return removed(alias.evaluated_name) or (alias.evaluated_name == "apex" and _name(alias) in freed)
    if node.relative or node.module is None:
        return False
    return removed(f"{'.'.join(dotted(node.module))}.{alias.evaluated_name}")
