"""Puts an expression back to where a plan took it out and named it."""

from __future__ import annotations

from collections.abc import Iterator

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
