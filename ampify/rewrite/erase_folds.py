"""Puts an expression back to where a plan took it out and named it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from ampify.model.amp import AmpFacts, Place
from ampify.rewrite.cut import Cuts
from ampify.rewrite.erase_carriers import reads
from ampify.source.edits import Edit
from ampify.syntax.walk import target_names


def fold(facts: AmpFacts, cuts: Cuts, names: tuple[str, ...]) -> None:
    """``name = expression`` and the only read of ``name`` before it is bound again become the expression there."""
    for statement, place in _named(facts, names):
        if (read := _only_read(facts, statement, place)) is not None:
            text = facts.tree.text(statement.value)
            edit = Edit(facts.tree.span(read), text if cuts.fits(statement.value, read) else f"({text})")
            cuts.edit(cuts.drop_line(statement, keep=facts.tree.span(statement.value)), edit)


def give_back(facts: AmpFacts, cuts: Cuts, closures: tuple[str, ...]) -> None:
    """``closure()`` and ``scaler.step(opt)`` on the next line become ``opt.step(closure)`` again."""
    blocks = (n for n in facts.nodes if isinstance(n, cst.Module | cst.IndentedBlock))
    for line, following in (pair for block in blocks for pair in pairwise(block.body)):
        match line, following:
            case (
                cst.SimpleStatementLine(
                    body=[cst.Assign(value=cst.Call() as call) | cst.Expr(value=cst.Call() as call)]
                ),
                cst.SimpleStatementLine(
                    body=[cst.Expr(value=cst.Call(func=func, args=[cst.Arg(value=optimizer)])) as step]
                ),
            ) if facts.tree.text(call.func) in closures and not call.args and _steps(facts, func):
                text = f"{facts.tree.text(optimizer)}.step({facts.tree.text(call.func)})"
                cuts.edit(Edit(facts.tree.span(call), text))
                cuts.drop(step)


def _steps(facts: AmpFacts, func: cst.CSTNode) -> bool:
    return isinstance(func, cst.Attribute) and func.attr.value == "step" and facts.is_scaler(func.value)


def _named(facts: AmpFacts, names: tuple[str, ...]) -> Iterator[tuple[cst.Assign, Place]]:
    for node in facts.nodes:
        match node:
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name) as target)]) if name in names:
                line = facts.tree.names.parent[node]
                place = facts.place(target)
                if place and isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
                    yield node, place


def _only_read(facts: AmpFacts, statement: cst.Assign, place: Place) -> cst.Name | None:
    span = facts.tree.span
    after = span(statement).end
    rebound = (span(n).end for n in _bindings(facts, place) if span(n).start > after)
    end = min(rebound, default=len(facts.tree.source.text))
    found = [n for n in reads(facts.tree) if isinstance(n, cst.Name) and facts.place(n) == place]
    found = [n for n in found if after < span(n).start < end]
    return found[0] if len(found) == 1 else None


def _bindings(facts: AmpFacts, place: Place) -> Iterator[cst.CSTNode]:
    """The statements that bind ``place`` anew; their values are still evaluated before they do."""
    for node in facts.nodes:
        match node:
            case cst.Assign(targets=targets):
                bound = [name for t in targets for name in target_names(t.target)]
            case cst.AnnAssign(target=target) | cst.AugAssign(target=target):
                bound = [*target_names(target)]
            case _:
                continue
        if any(facts.place(name) == place for name in bound):
            yield node
