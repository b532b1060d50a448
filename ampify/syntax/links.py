"""Which of the files at hand an import leads to: packages, scripts side by side, `src` layouts, relative imports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePath

Module = tuple[str, ...]
"""Folders and name of a module or package, from the root of the file system."""


class Links:
    """Import paths between the files at ``paths``, by their index there."""

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self._modules = [_module(PurePath(path)) for path in paths]
        self._folders = [PurePath(path).parent.parts for path in paths]
        self._found: dict[tuple[str, int], tuple[int, Module] | None] = {}

    def target(self, path: str, importer: int) -> tuple[int, Module] | None:
        """The file that ``path``, as file ``importer`` writes it, leads to, and the names in it that are left.

        None for what is not among the files. Of several the longest path wins, then the nearest file.
        """
        key = path, importer
        if key not in self._found:
            self._found[key] = self._target(path, importer)
        return self._found[key]

    def _target(self, path: str, importer: int) -> tuple[int, Module] | None:
        level = len(path) - len(path.lstrip("."))
        parts = tuple(path[level:].split(".")) if path[level:] else ()
        if not self._modules or (parts and not level and parts[0] not in self._words):
            return None
        folder = self._folders[importer]
        depths = range(len(folder), -1, -1) if level == 0 else [max(len(folder) - level + 1, 0)]
        for length in range(len(parts), -1 if level else 0, -1):
            wanted = parts[:length]
            near = (self._index.get((*folder[:depth], *wanted)) for depth in depths)
            found = next((index for index in near if index is not None), None)
            if found is None and not level:
                found = self._by_end(wanted)
            if found is not None and found != importer:
                return found, parts[length:]
        return None

    def _by_end(self, parts: Module) -> int | None:
        """The only file whose own path ends like this: its root is on `sys.path`, or installed."""
        if len(parts) < 2:
            return None
        found = [index for module, index in self._ends.get(parts[-2:], ()) if module[-len(parts) :] == parts]
        return found[0] if len(found) == 1 else None

    @cached_property
    def _index(self) -> dict[Module, int]:
        return {module: index for index, module in enumerate(self._modules)}

    @cached_property
    def _ends(self) -> dict[Module, list[tuple[Module, int]]]:
        """The modules by their last two words."""
        found: dict[Module, list[tuple[Module, int]]] = {}
        for module, index in self._index.items():
            found.setdefault(module[-2:], []).append((module, index))
        return found

    @cached_property
    def _words(self) -> set[str]:
        return {word for module in self._modules for word in module}


def member(module: str, name: str) -> str:
    """The import path of ``name`` in ``module``, which may be relative."""
    return f"{module}{name}" if module.endswith(".") else f"{module}.{name}"


def _module(path: PurePath) -> Module:
    return path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts
