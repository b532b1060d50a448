"""Fixes about the state of a scaler: save it instead of the object, and load it only where there is one."""

from __future__ import annotations

import libcst as cst

from ampify.model.scaler_objects import MaybeEmpty, Pickled
from ampify.rewrite import edit
from ampify.rewrite.prove import SameErasure
from ampify.source.edits import Applicability, Fix
from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk


def state_of(tree: Tree, found: Pickled) -> Fix:
    """``scaler`` → ``scaler.state_dict()``."""
    made = edit.insert(tree.span(found.scaler).end, ".state_dict()")
    return Fix("Save its `state_dict` instead", (made,), Applicability.UNSAFE)


def if_any(tree: Tree, found: MaybeEmpty) -> Fix | None:
    """``if state:`` around the load; there is none where the state is not there to be looked at twice."""
    plain = not any(isinstance(node, cst.Call) for node in walk(found.state))
    alone = isinstance(tree.names.parent[found.load], cst.Expr) and not edit.crowded(tree, found.load)
    if not plain or not alone:
        return None
    statement = next(p for p in tree.parents(found.load) if isinstance(p, cst.SimpleStatementLine))
    edits = tuple(edit.wrap(tree, [statement], [f"if {tree.text(found.state)}:"]))
    return Fix("Load it only where there is one", edits, proof=SameErasure())
