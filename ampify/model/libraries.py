"""Modules of libraries that do not work in half precision, by a table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

_KNOWN: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def hazard(paths: Iterable[str]) -> str | None:
    """Why a module must not run under autocast, given the import paths of its class."""
    for path in paths:
        package, name = path.partition(".")[0], path.rpartition(".")[2]
        if (reason := _KNOWN.get(package, {}).get(name)) is not None:
            return f"`{name}` {reason}"
    return None
