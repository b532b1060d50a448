"""Which files of a project make up one program for AMP: those that hold a part of one training step."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ampify.model.summary import FileSummary
from ampify.syntax.links import Links, member

_LARGEST = 600_000
"""Characters. The model of such a unit takes some seconds; a larger one is looked at file by file."""

_AROUND = 200_000
"""Characters of files that are read with a unit, for what they define."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Files that are understood and rewritten together; those ``around`` are read only."""

    paths: tuple[str, ...]
    around: tuple[str, ...] = ()


class Project:
    """The files of a run, and who imports what of whom."""

    def __init__(self, summaries: Sequence[FileSummary]) -> None:
        self._files = [*summaries]
        self._links = Links([s.path for s in self._files])
        self._names = [dict(s.imports) for s in self._files]
        self._parts = [{part.name: part for part in s.parts} for s in self._files]

    def units(self) -> list[Unit]:
        """Every file in exactly one unit, in the order given."""
        groups: dict[int, list[int]] = {}
        for index in range(len(self._files)):
            groups.setdefault(self._roots[index], []).append(index)
        found = [part for group in groups.values() for part in self._small_enough(group)]
        helpers = [self._helpers(group) for group in found]
        taken = {index for helping in helpers for index in helping}
        whole = [sorted({*group, *helping}) for group, helping in zip(found, helpers, strict=True)]
        return [self._unit(group) for group in sorted(whole) if group[0] not in taken or len(group) > 1]

    def _small_enough(self, group: list[int]) -> list[list[int]]:
        total = sum(self._files[i].size for i in group)
        return [group] if total <= _LARGEST else [[i] for i in group]

    def _helpers(self, group: list[int]) -> set[int]:
        """Files without a step of their own that are used by the program of a group alone: they are a part of it."""
        if not any(self._files[i].acts for i in group):
            return set()
        alone = Counter(self._roots)
        left = {i for i in self._around(group) if not self._files[i].acts and alone[self._roots[i]] == 1}
        while shared := {i for i in left if not self._users[i] <= left.union(group)}:
            left -= shared
        return left

    @cached_property
    def _users(self) -> dict[int, set[int]]:
        """By file, those with code that uses it."""
        found: dict[int, set[int]] = {}
        for (user, _), used in self._uses.items():
            for file, _ in used:
                found.setdefault(file, set()).add(user)
        return found

    def _unit(self, group: list[int]) -> Unit:
        around = self._around(group) if any(self._files[i].acts for i in group) else []
        return Unit(tuple(self._files[i].path for i in group), tuple(self._files[i].path for i in around))

    # ------------------------------------------------------------------ what a file uses of others

    def _used(self, index: int, chains: Iterable[str]) -> Iterator[tuple[int, str]]:
        """The files, and the names in them (empty: the module as a whole), that chains of names in a file lead to."""
        names = self._names[index]
        for chain in chains:
            root, _, rest = chain.partition(".")
            path = names.get(chain) or (f"{names[root]}.{rest}" if rest and root in names else names.get(root))
            if path is not None:
                yield from self._followed(path, index, frozenset())
            elif root not in self._parts[index]:
                for star in self._files[index].stars:
                    yield from self._followed(member(star, root), index, frozenset())

    def _followed(self, path: str, index: int, seen: frozenset[int]) -> Iterator[tuple[int, str]]:
        """Where an import path leads to, each file on the way that hands the name on included."""
        found = self._links.target(path, index)
        if found is None or found[0] in seen:
            return
        file, rest = found
        name = rest[0] if rest else ""
        yield file, name
        for onward in self._onward(file, name):
            yield from self._followed(".".join((onward, *rest[1:])), file, seen | {index})

    def _onward(self, file: int, name: str) -> Iterator[str]:
        """Where a file has a name from that it does not define itself."""
        if name and name not in self._parts[file]:
            path = self._names[file].get(name)
            yield from (path,) if path else (member(star, name) for star in self._files[file].stars)

    @cached_property
    def _uses(self) -> dict[tuple[int, str], frozenset[tuple[int, str]]]:
        """By file and part: what it uses, parts of its own file included."""
        found = {}
        for index, summary in enumerate(self._files):
            for part in summary.parts:
                own = {(index, name) for name in self._parts[index] if name and name in part.uses}
                found[index, part.name] = frozenset(own | {*self._used(index, part.uses)})
        return found

    @cached_property
    def _carrying(self) -> set[tuple[int, str]]:
        """The parts that hold, or lead to, a part of a training step."""
        users: dict[tuple[int, str], list[tuple[int, str]]] = {}
        for user, used in self._uses.items():
            for target in used:
                users.setdefault(target, []).append(user)
        carrying = {(i, p.name) for i, s in enumerate(self._files) for p in s.parts if p.acts}
        waiting = deque(carrying)
        while waiting:
            for user in users.get(waiting.popleft(), ()):
                if user not in carrying:
                    carrying.add(user)
                    waiting.append(user)
        return carrying

    # ------------------------------------------------------------------ which files belong together

    @cached_property
    def _roots(self) -> list[int]:
        """By file, the first file of its group: files are joined where one uses what carries a step in the other."""
        roots = [*range(len(self._files))]

        def root(index: int) -> int:
            while roots[index] != index:
                index = roots[index]
            return index

        for user, used in self._uses.items():
            for file in {target[0] for target in {*used, *self._bases(user)} if self._hands_on(target, user)}:
                one, other = sorted((root(user[0]), root(file)))
                roots[other] = one
        return [root(index) for index in range(len(self._files))]

    def _bases(self, user: tuple[int, str]) -> frozenset[tuple[int, str]]:
        """The classes that a class is derived from."""
        return frozenset(self._used(user[0], self._parts[user[0]][user[1]].bases))

    def _hands_on(self, target: tuple[int, str], user: tuple[int, str]) -> bool:
        """Whether what is used carries a step, is a base of what does, or is on the way there (a re-export)."""
        file, name = target
        onward = (t for path in self._onward(file, name) for t in self._followed(path, file, frozenset()))
        bases = self._bases(user) if user in self._carrying else frozenset[tuple[int, str]]()
        return any(t in self._carrying or t in bases for t in (target, *onward))

    def _around(self, group: Iterable[int]) -> list[int]:
        """The nearest files with what the group's code calls, as far as there is room."""
        inside, found, room = {*group}, dict[int, None](), _AROUND
        waiting = deque(sorted(inside))
        while waiting:
            index = waiting.popleft()
            used = {file for part in self._files[index].parts for file, _ in self._uses[index, part.name]}
            for file in sorted(used - inside - {*found}):
                if self._files[file].size <= room:
                    room -= self._files[file].size
                    found[file] = None
                    waiting.append(file)
        return sorted(found)
