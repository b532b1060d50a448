"""Fixes about graphs of operations that are kept for a backward pass that never comes."""

from __future__ import annotations

from ampify.model.accumulated import Kept
from ampify.rewrite import edit
from ampify.source.edits import Fix
from ampify.syntax.tree import Tree


def without_graph(tree: Tree, found: Kept) -> Fix:
    """``total += loss`` → ``total += loss.detach()``."""
    return Fix("Add the value alone", (edit.insert(tree.span(found.loss).end, ".detach()"),))
