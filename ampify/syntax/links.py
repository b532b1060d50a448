"""Which of the files at hand an import leads to: packages, scripts side by side, `src` layouts, relative imports."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePath


class Links:
    """Import paths between the files at ``paths``, by their index there."""

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self._paths = [PurePath(path) for path in paths]

    def target(self, path: str, importer: int) -> tuple[int, tuple[str, ...]] | None:
        """The file that ``path``, as file ``importer`` writes it, leads to, and the names in it that are left.

        None for what is not among the files. Of several the longest path wins, then the nearest file.
        """
        if not self._paths:
            return None
        level = len(path) - len(path.lstrip("."))
        parts = tuple(path[level:].split(".")) if path[level:] else ()
        folders = self._paths[importer].parents
        bases = [folders[level - 1]] if 0 < level <= len(folders) else [] if level else [*folders]
        for length in range(len(parts), -1, -1):
            for base in bases if length or level else ():
                if (found := self._file(base.joinpath(*parts[:length]))) not in (None, importer):
                    return found, parts[length:]
            if length and not level and (found := self._by_end(parts[:length])) not in (None, importer):
                return found, parts[length:]
        return None

    def _file(self, module: PurePath) -> int | None:
        """The file of a module, or of a package."""
        found = self._index.get(module.with_name(module.name + ".py")) if module.name else None
        return found if found is not None else self._index.get(module / "__init__.py")

    def _by_end(self, parts: tuple[str, ...]) -> int | None:
        """The only file whose own path ends like this: its root is on `sys.path`, or installed."""
        if len(parts) < 2:
            return None
        found = [i for path, i in self._index.items() if _module(path)[-len(parts) :] == parts]
        return found[0] if len(found) == 1 else None

    @cached_property
    def _index(self) -> dict[PurePath, int]:
        return {path: index for index, path in enumerate(self._paths)}


def _module(path: PurePath) -> tuple[str, ...]:
    return path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts
