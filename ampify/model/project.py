"""Which files of a project make up one program for AMP: those that hold a part of one training step."""

from __future__ import annotations

import builtins
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from ampify.model.summary import FileSummary, Part
from ampify.syntax.links import Links, member

_LARGEST = 600_000
"""Characters. The model of such a unit takes some seconds; a larger one is looked at file by file."""

_AROUND = 200_000
"""Characters of files that are read with a unit, for what they define."""


_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True, slots=True)
class Unit:
    """Files that are understood and rewritten together; those ``around`` are read only."""

    paths: tuple[str, ...]
    around: tuple[str, ...] = ()


_Part = tuple[int, str]
"""A file, and a name in it (empty: the code of the module itself)."""


@dataclass(frozen=True, slots=True)
class _File:
    """A summary, its parts and imports by name; of a file that cannot be read, nothing."""

    size: int
    acts: bool
    names: Mapping[str, str]
    stars: tuple[str, ...]
    parts: Mapping[str, Part]

    @staticmethod
    def of(summary: FileSummary | None) -> _File:
        if summary is None:
            return _File(0, acts=False, names={}, stars=(), parts={})
        parts = {part.name: part for part in summary.parts}
        return _File(summary.size, summary.acts, dict(summary.imports), summary.stars, parts)


class Files(Protocol):
    """The files of a run; those that no step leads to need not be summarized."""

    @property
    def paths(self) -> Sequence[str]: ...

    def summary(self, index: int) -> FileSummary | None:
        """What a file has to say; None where it cannot be read."""

    def size(self, index: int) -> int:
        """How much text a file holds."""

    def acting(self) -> Iterable[int]:
        """At least the files that act."""

    def imported(self, index: int) -> tuple[Sequence[tuple[str, str]], Sequence[str]]:
        """What a file imports, by local names, and by stars."""

    def imports(self, index: int, name: str) -> bool:
        """Whether a file may import a name: False only if no import has it, nor a star."""

    def importing(self, index: int, names: Collection[str] | None) -> Iterable[int]:
        """At least the files that import a file, or something from it, and name one of ``names`` (None: any)."""


@dataclass(frozen=True, slots=True)
class Summaries:
    """Files that are summarized already."""

    all: Sequence[FileSummary]

    @property
    def paths(self) -> Sequence[str]:
        return [summary.path for summary in self.all]

    def summary(self, index: int) -> FileSummary | None:
        return self.all[index]

    def size(self, index: int) -> int:
        return self.all[index].size

    def acting(self) -> Iterable[int]:
        return range(len(self.all))

    def imported(self, index: int) -> tuple[Sequence[tuple[str, str]], Sequence[str]]:
        return self.all[index].imports, self.all[index].stars

    def imports(self, index: int, name: str) -> bool:
        return True

    def importing(self, index: int, names: Collection[str] | None) -> Iterable[int]:
        return range(len(self.all))


class Project:
    """The files of a run, and who imports what of whom."""

    def __init__(self, files: Files) -> None:
        self._source, self._paths = files, files.paths
        self._links = Links(self._paths)
        self._related: set[int] = set()
        self._read: dict[int, _File] = {}
        self._used_by: dict[_Part, frozenset[_Part]] = {}
        self._known_users: dict[int, tuple[list[int], Iterator[int]]] = {}

    def units(self) -> list[Unit]:
        """Every file in exactly one unit, in the order given."""
        groups: dict[int, list[int]] = {}
        for index in range(len(self._paths)):
            groups.setdefault(self._roots[index], []).append(index)
        found = [part for group in groups.values() for part in self._small_enough(group)]
        helpers = [self._helpers(group) for group in found]
        taken = {index for helping in helpers for index in helping}
        whole = [sorted({*group, *helping}) for group, helping in zip(found, helpers, strict=True)]
        return [self._unit(group) for group in sorted(whole) if group[0] not in taken or len(group) > 1]

    def _small_enough(self, group: list[int]) -> list[list[int]]:
        total = sum(self._file(i).size for i in group) if len(group) > 1 else 0
        return [group] if total <= _LARGEST else [[i] for i in group]

    def _helpers(self, group: list[int]) -> set[int]:
        """Files without a step of their own that are used by the program of a group alone: they are a part of it."""
        if not self._acts(group):
            return set()
        left = {i for i in self._around(group) if not self._file(i).acts and self._alone[self._roots[i]] == 1}
        while shared := {i for i in left if self._has_user_outside(i, left.union(group))}:
            left -= shared
        return left

    @cached_property
    def _alone(self) -> Counter[int]:
        return Counter(self._roots)

    def _acts(self, group: Iterable[int]) -> bool:
        return any(i in self._related and self._file(i).acts for i in group)

    def _has_user_outside(self, index: int, inside: set[int]) -> bool:
        """Whether code of other files uses a file; users are looked for until there is one."""
        known, more = self._known_users.setdefault(index, ([], self._users(index)))
        if not inside.issuperset(known):
            return True
        for user in more:
            known.append(user)
            if user not in inside:
                return True
        return False

    def _users(self, index: int) -> Iterator[int]:
        """The files that import a file to use it, those included that have it from another one."""
        seen, waiting = {index}, deque[tuple[int, Collection[str] | None]]([(index, None)])
        while waiting:
            file, names = waiting.popleft()
            for user in (each for each in self._source.importing(file, names) if each not in seen):
                found = self._handed_on(user, index)
                if found is None or found:
                    seen.add(user)
                    waiting.append((user, found))
                    if not self._paths[user].endswith("__init__.py"):
                        yield user

    def _handed_on(self, user: int, index: int) -> set[str] | None:
        """The names under which a file imports what another one has; None: any, by a star."""
        names, stars = self._source.imported(user)
        if any(file == index for star in stars for file, _ in self._followed(star, user, frozenset())):
            return None
        return {n for n, path in names if any(t[0] == index for t in self._followed(path, user, frozenset()))}

    def _unit(self, group: list[int]) -> Unit:
        around = self._around(group) if self._acts(group) else []
        return Unit(tuple(self._paths[i] for i in group), tuple(self._paths[i] for i in around))

    def _file(self, index: int) -> _File:
        if index not in self._read:
            self._read[index] = _File.of(self._source.summary(index))
        return self._read[index]

    # ------------------------------------------------------------------ what a file uses of others

    def _used(self, index: int, chains: Iterable[str]) -> Iterator[_Part]:
        """The files, and the names in them (empty: the module as a whole), that chains of names in a file lead to."""
        names = self._file(index).names
        for chain in chains:
            root, _, rest = chain.partition(".")
            path = names.get(chain) or (f"{names[root]}.{rest}" if rest and root in names else names.get(root))
            if path is not None:
                yield from self._followed(path, index, frozenset())
            elif root not in self._file(index).parts and root not in _BUILTINS and root[0] != "_":
                for star in self._file(index).stars:
                    yield from self._followed(member(star, root), index, frozenset())

    def _followed(self, path: str, index: int, seen: frozenset[int]) -> Iterator[_Part]:
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
        if name and self._source.imports(file, name) and name not in self._file(file).parts:
            path, stars = self._file(file).names.get(name), () if name.startswith("_") else self._file(file).stars
            yield from (path,) if path else (member(star, name) for star in stars)

    def _uses(self, index: int, part: str) -> frozenset[_Part]:
        """What a part of a file uses, parts of its own file included."""
        if (index, part) not in self._used_by:
            file = self._file(index)
            own = {(index, name) for name in file.parts if name and name in file.parts[part].uses}
            self._used_by[index, part] = frozenset(own | {*self._used(index, file.parts[part].uses)})
        return self._used_by[index, part]

    @cached_property
    def _carrying(self) -> set[_Part]:
        """The parts that hold, or lead to, a part of a training step."""
        self._related = {i for i in self._source.acting() if self._file(i).acts}
        asked: set[_Part] = set()
        while True:
            carrying = self._closed()
            leading = carrying | self._handing(carrying)
            if not (new := leading - asked):
                return carrying
            asked |= new
            for file in sorted({file for file, _ in new}):
                self._related.update(self._source.importing(file, {name for other, name in new if other == file}))

    def _closed(self) -> set[_Part]:
        """The parts of related files that act, and those that use them."""
        users: dict[_Part, list[_Part]] = {}
        parts = [(i, name) for i in self._related for name in self._file(i).parts]
        for user in parts:
            for target in self._uses(*user):
                users.setdefault(target, []).append(user)
        carrying = {(i, name) for i, name in parts if self._file(i).parts[name].acts}
        waiting = deque(carrying)
        while waiting:
            for user in users.get(waiting.popleft(), ()):
                if user not in carrying:
                    carrying.add(user)
                    waiting.append(user)
        return carrying

    def _handing(self, carrying: set[_Part]) -> set[_Part]:
        """The names under which related files import what carries a step: others may have it from there."""
        found: set[_Part] = set()
        for file in self._related:
            names = {*self._file(file).names}
            names |= {name for _, name in carrying} if self._file(file).stars else set()
            for name in names - {*self._file(file).parts}:
                onward = (t for path in self._onward(file, name) for t in self._followed(path, file, frozenset()))
                if any(t in carrying for t in onward):
                    found.add((file, name))
        return found

    # ------------------------------------------------------------------ which files belong together

    @cached_property
    def _roots(self) -> list[int]:
        """By file, the first file of its group: files are joined where one uses what carries a step in the other."""
        carrying, roots = self._carrying, [*range(len(self._paths))]

        def root(index: int) -> int:
            while roots[index] != index:
                index = roots[index]
            return index

        related = [(i, name) for i in sorted(self._related) for name in self._file(i).parts] if carrying else []
        for user in related:
            used = {*self._uses(*user), *self._bases(user)}
            for file in {target[0] for target in used if self._hands_on(target, user)}:
                one, other = sorted((root(user[0]), root(file)))
                roots[other] = one
        return [root(index) for index in range(len(self._paths))]

    def _bases(self, user: _Part) -> frozenset[_Part]:
        """The classes that a class is derived from."""
        return frozenset(self._used(user[0], self._file(user[0]).parts[user[1]].bases))

    def _hands_on(self, target: _Part, user: _Part) -> bool:
        """Whether what is used carries a step, is a base of what does, or is on the way there (a re-export)."""
        file, name = target
        onward = (t for path in self._onward(file, name) for t in self._followed(path, file, frozenset()))
        bases = self._bases(user) if user in self._carrying else frozenset[_Part]()
        return any(t in self._carrying or t in bases for t in (target, *onward))

    def _around(self, group: Iterable[int]) -> list[int]:
        """The nearest files with what the group's code calls, as far as there is room."""
        inside, found, room = {*group}, dict[int, None](), _AROUND
        waiting = deque(sorted(inside))
        while waiting:
            index = waiting.popleft()
            used = {file for part in self._file(index).parts for file, _ in self._uses(index, part)}
            for file in sorted(used - inside - {*found}):
                if (size := self._source.size(file)) <= room:
                    room -= size
                    found[file] = None
                    waiting.append(file)
        return sorted(found)
