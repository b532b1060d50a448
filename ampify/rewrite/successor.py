"""Edits that replace an old API by its successor: name, arguments, import. The rules' tables say what succeeds what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ampify.config import parse_torch
from ampify.model.uses import ApiUse, Argument, How
from ampify.rewrite.imports import drop, need
from ampify.source.edits import Edit, Fix
from ampify.source.ignores import find_ignores
from ampify.source.text import Span


@dataclass(frozen=True, slots=True)
class Successor:
    """A row of a table: what replaces ``old``, and how a call of the one becomes a call of the other."""

    old: frozenset[str]
    new: tuple[str, ...]
    """Import paths of the new API, the one to write first."""
    since: tuple[int, int]
    device: str
    """The new first argument."""
    parameters: tuple[str, ...] | None
    """The old parameters in their order, all of them keywords of the new API; None: they just follow the device."""
    decorates: bool
    """Whether the old API can decorate a function without being called first; the new one never can."""

    @classmethod
    def of(cls, row: Mapping[str, list[str] | str | bool]) -> Successor:
        return cls(
            frozenset(_strings(row["old"])),
            tuple(_strings(row["new"])),
            parse_torch(str(row["since"])),
            str(row["device"]),
            tuple(_strings(row["parameters"])) if "parameters" in row else None,
            bool(row.get("decorates", False)),
        )

    def succeeds(self, use: ApiUse) -> bool:
        """Whether ``use`` is of the old API, where the new one can be had."""
        return (
            bool(use.paths & self.old)
            and use.supports(self.since)
            and not (use.target and use.target < (2, 4) and use.scripted)
            and not use.version_switch
            and not use.passed_on
            and use.paths.isdisjoint(self.new)
        )


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def replace(use: ApiUse, successor: Successor, code: str) -> Fix | None:
    """Replace ``use`` and those it cannot be parted from, and drop the import that nobody needs then."""
    if use.conditional or (own := _edits(use, successor)) is None:
        return None
    group = [use] if _stands_alone(use) else [other for other in _beside(use) if successor.succeeds(other)]
    ignores = find_ignores(use.tree.source.text)
    edits = {use: own}
    for other in group:
        hidden = any(ignore.hides(use.tree.line(other.node), code) for ignore in ignores)
        if not hidden and not other.conditional and (changed := _edits(other, successor)) is not None:
            edits[other] = changed
    if len(edits) < len(group) and any(other.how is How.INSTANCE_CHECK for other in group):
        return None
    every = [*(edit for changed in edits.values() for edit in changed), *_dropped(edits)]
    return Fix(f"Replace by `{successor.new[0]}`", tuple(dict.fromkeys(every)))


def _beside(use: ApiUse) -> Iterator[ApiUse]:
    """The references of the same file: an import is its own, and other files may be there to be read only."""
    home = use.tree.module(use.node)
    return (other for other in use.all if use.tree.module(other.node) is home)


def named(arguments: Sequence[Argument], parameters: Sequence[str]) -> tuple[Edit, ...] | None:
    """Turn positional arguments into keywords; None where a star or their number makes it unclear which is which."""
    positional = [argument for argument in arguments if argument.keyword is None and argument.star != "**"]
    if any(argument.star for argument in positional) or len(positional) > len(parameters):
        return None
    pairs = list(zip(positional, parameters, strict=False))
    if {name for _, name in pairs} & {argument.keyword for argument in arguments}:
        return None
    return tuple(Edit(Span(arg.span.start, arg.span.start), f"{name}=") for arg, name in pairs)


def first_argument(use: ApiUse, text: str) -> Iterator[Edit]:
    """Insert ``text`` before the arguments of the call."""
    if (at := use.first_argument_at) is not None:
        yield Edit(Span(at, at), f"{text}, " if use.arguments else text)


def without(use: ApiUse, argument: Argument) -> tuple[Edit, ...]:
    """Take an argument out of the call, with the comma that parts it from its neighbour; none where it has none."""
    if len(use.arguments) == 1:
        return ()
    spans = [each.span for each in use.arguments]
    index = use.arguments.index(argument)
    start = spans[index - 1].end if index else spans[0].start
    end = spans[index].end if index else spans[1].start
    return (Edit(Span(start, end), ""),)


def _edits(use: ApiUse, successor: Successor) -> tuple[Edit, ...] | None:
    """The edits of one reference; None where it has to stay as it is."""
    made_a_call = successor.decorates and use.how is How.DECORATOR and use.call is None
    if use.call is None and use.how not in (How.ANNOTATION, How.INSTANCE_CHECK) and not made_a_call:
        return None
    arguments = () if successor.parameters is None else named(use.arguments, successor.parameters)
    if arguments is None or use.how is How.BASE:
        return None
    spelled, imports = _spelled(use, successor.new)
    new = f"{spelled}({successor.device})" if made_a_call else spelled
    return (Edit(use.span, new), *first_argument(use, successor.device), *arguments, *imports)


def _spelled(use: ApiUse, paths: Iterable[str]) -> tuple[str, tuple[Edit, ...]]:
    """A path as the imports of the file allow it, else through the package's own name."""
    preferred, *_ = paths = tuple(paths)
    for path in paths:
        if way := use.tree.names.spell(path, use.node):
            return way, ()
    package, _, rest = preferred.partition(".")
    name, edits = need(use.tree, package, use.node)
    return f"{name}.{rest}", edits


def _stands_alone(use: ApiUse) -> bool:
    """Whether no import has to go with it, and no isinstance check depends on it."""
    checked = any(other.how is How.INSTANCE_CHECK and other.paths & use.paths for other in use.all)
    return _through_package(use) and not checked


def _through_package(use: ApiUse) -> bool:
    """Whether it begins with the package itself, as after ``import torch``: the successor needs that import too."""
    bindings = use.tree.names.scope[use.name].lookup(use.name.value)
    return any(binding.path and "." not in binding.path for binding in bindings)


def _dropped(changed: Iterable[ApiUse]) -> Iterator[Edit]:
    """The edits that remove the names which only the changed references needed."""
    uses = [use for use in changed if not (use.package or _through_package(use))]
    gone = {use.name for use in uses}
    homes = {(use.tree.names.scope[use.name].find(use.name.value), use.name.value): use for use in uses}
    for (_, name), use in homes.items():
        yield from drop(use.tree, name, use.name, gone)
