"""Fixes that move statements into autocast regions and out of them."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model.left_region import HalfLossOutside
from ampify.rewrite import edit
from ampify.rewrite.prove import SameErasure
from ampify.source.edits import Edit, Fix
from ampify.syntax.tree import Tree


def extend_region(tree: Tree, found: HalfLossOutside) -> Fix | None:
    """Move the statements from the end of a region to a loss into it."""
    body = found.region.body
    if not found.between or not isinstance(body, cst.IndentedBlock) or tree.parted(body.body[-1], found.between[-1]):
        return None
    shallow = tree.source.indent(tree.span(found.region).start)
    deep = tree.source.indent(tree.span(body.body[0]).start)
    if not deep.startswith(shallow) or deep == shallow:
        return None
    edits = tuple(_indented(tree, found, len(shallow), deep[len(shallow) :]))
    return Fix("Compute the loss inside the autocast region", edits, proof=SameErasure())


def _indented(tree: Tree, found: HalfLossOutside, shallow: int, unit: str) -> Iterator[Edit]:
    source = tree.source
    frozen = {line for statement in found.between for line in edit.inside_strings(tree, statement)}
    first = source.line(tree.span(found.region).end)
    last = source.line(tree.span(found.between[-1]).end)
    for line in range(first + 1, last + 1):
        text = source.text_of_line(line)
        blank = len(text) - len(text.lstrip())
        beside = text.lstrip().startswith("#") and blank > shallow  # belongs to the region already
        if line not in frozen and text.strip() and not beside:
            yield edit.insert(source.line_starts[line - 1], unit)
