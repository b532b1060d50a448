"""The edits that put an optimizer of torch in the place of a fused one of Apex; the rule's table says which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ampify.model.uses import ApiUse
from ampify.rewrite.imports import drop, need
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.text import Span


def in_torch(use: ApiUse, row: Mapping[str, Any]) -> Fix | None:
    """The same call of torch's class; None where an argument has no counterpart there."""
    first, *rest = use.arguments or (None,)
    if first is None or first.keyword is not None or first.star or use.conditional:
        return None
    given = {argument.keyword for argument in rest}
    if not given <= {*row["keep"], *row["drop"]}:  # a place without its name is None
        return None
    text, call = use.tree.source, use.call
    assert call is not None
    kept = [text[argument.span].rstrip(", ") for argument in rest if argument.keyword in row["keep"]]
    added = [f"{name}={value}" for name, value in row["add"].items() if name not in given]
    spelled, imports = need(use.tree, row["new"], use.node)
    arguments = ", ".join([text[first.span].rstrip(", "), *kept, *added])
    edits = (Edit(Span(call.start, call.end), f"{spelled}({arguments})"), *imports)
    gone = drop(use.tree, use.name.value, use.name, {use.name})
    return Fix(f"Replace by `{row['new']}`", (*edits, *gone), Applicability.UNSAFE)
