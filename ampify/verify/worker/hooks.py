"""Prepares modules when the script imports them; imports none itself."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Callable


def after_import(name: str, prepare: Callable[[Any], None]) -> None:
    """Prepare a module now or when it is imported by the script."""
    if name in sys.modules:
        prepare(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Watcher(name, prepare))


class _Watcher(importlib.abc.MetaPathFinder):
    """Lets the other finders find the module, and prepares it once it has run."""

    def __init__(self, name: str, prepare: Callable[[Any], None]) -> None:
        self._name, self._prepare = name, prepare

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                self._prepare(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
