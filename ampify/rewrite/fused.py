"""The edits that put an optimizer of torch in the place of a fused one of Apex; the rule's table says which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ampify.model.uses import ApiUse, How
from ampify.rewrite.imports import drop, need
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.ignores import find_ignores
from ampify.source.text import Span

PACKAGE = "apex.optimizers."

Table = Mapping[str, Mapping[str, Any]]


def called(use: ApiUse, table: Table) -> str | None:
    """The optimizer of the table that ``use`` makes."""
    names = {path.rpartition(".")[2] for path in use.paths if path.startswith(PACKAGE)}
    return next(iter(names & {*table}), None) if use.how is How.CALL and len(use.paths) == 1 else None


def in_torch(use: ApiUse, table: Table, code: str) -> Fix | None:
    """The same call of torch's class; None where an argument has no counterpart there.

    Where no other reference needs the import, all calls through it change together: it could not go with one of them.
    """
    if (own := _edits(use, table)) is None:
        return None
    together = {other.name: edits for other, edits in _beside(use, table, code)}
    gone = drop(use.tree, use.name.value, use.name, {use.name, *together})
    every = [own, *together.values(), gone] if gone else [own]
    title = f"Replace by `{table[called(use, table) or '']['new']}`"
    return Fix(title, tuple(dict.fromkeys(edit for edits in every for edit in edits)), Applicability.UNSAFE)


def _beside(use: ApiUse, table: Table, code: str) -> Iterator[tuple[ApiUse, tuple[Edit, ...]]]:
    """The other calls through the same import that change as well, with what changes."""
    ignores = find_ignores(use.tree.source.text)
    home = _home(use)
    for other in use.all:
        if other is not use and other.name.value == use.name.value and _home(other) is home:
            hidden = any(ignore.hides(use.tree.line(other.node), code) for ignore in ignores)
            if not hidden and (edits := _edits(other, table)) is not None:
                yield other, edits


def _home(use: ApiUse) -> object:
    return use.tree.names.scope[use.name].find(use.name.value)


def _edits(use: ApiUse, table: Table) -> tuple[Edit, ...] | None:
    """The edits of one call."""
    first, *rest = use.arguments or (None,)
    if (name := called(use, table)) is None or first is None or first.keyword or first.star or use.conditional:
        return None
    row = table[name]
    given = {argument.keyword for argument in rest}
    if not given <= {*row["keep"], *row["drop"]}:  # a place without its name is None
        return None
    text, call = use.tree.source, use.call
    assert call is not None
    kept = [text[argument.span].rstrip(", ") for argument in rest if argument.keyword in row["keep"]]
    added = [f"{name}={value}" for name, value in row["add"].items() if name not in given]
    spelled, imports = need(use.tree, row["new"], use.node)
    arguments = ", ".join([text[first.span].rstrip(", "), *kept, *added])
    return (Edit(Span(call.start, call.end), f"{spelled}({arguments})"), *imports)
