"""Fixes that move statements into autocast regions and out of them."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model.contexts import Region, made_here
from ampify.model.left_region import HalfLossOutside
from ampify.model.misplaced import Nested
from ampify.model.step import Code
from ampify.model.whereabouts import Elsewhere
from ampify.rewrite import edit
from ampify.rewrite.prove import SameErasure
from ampify.rewrite.repair import dedented
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.text import Span
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


def without_cache(code: Code, region: Region, applicability: Applicability = Applicability.SAFE) -> Fix | None:
    """``cache_enabled=False`` for a region, so that each use of a weight casts it as it is then."""
    if (maker := made_here(code, region)) is None or any(argument.star for argument in maker.args):
        return None
    made = edit.argument(code.tree, maker, "cache_enabled=False")
    return Fix("Pass `cache_enabled=False` to autocast", (made,), applicability, SameErasure())


def unnested(tree: Tree, found: Nested) -> Fix | None:
    """Take a region away and leave what is in it."""
    body, source = found.inner.body, tree.source
    if not isinstance(body, cst.IndentedBlock) or edit.crowded(tree, body.body[0]):
        return None
    start, colon = tree.span(found.inner).start, source.text.index(":", tree.span(found.inner.items[-1]).end)
    shallow, deep = (source.indent(at) for at in (start, tree.span(body.body[0]).start))
    lines = range(source.line(colon) + 1, source.line(tree.span(body.body[-1]).end) + 1)
    head = Span(source.line_start(start), source.line_starts[lines.start - 1])
    if not deep.startswith(shallow) or "#" in source[head]:
        return None
    edits = (Edit(head, ""), *dedented(tree, (found.inner,), lines, len(shallow), len(deep)))
    return Fix("Leave the inner region out", edits, proof=SameErasure())


def for_device(tree: Tree, found: Elsewhere) -> Fix | None:
    """The device type of a region, changed to the one that the model is on."""
    if found.literal is None or len(found.there) > 1:
        return None
    quote, kind = found.literal.quote, next(iter(found.there))
    made = Edit(tree.span(found.literal), f"{quote}{kind}{quote}")
    return Fix(f'Enter autocast for "{kind}"', (made,), Applicability.UNSAFE, SameErasure())
