"""Codes that rules once had: they go on to work wherever a code is named. Knows no rule."""

from __future__ import annotations

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {}
"""The code that a rule had, and the one it has now; see docs/versioning.md."""


def current(code: str) -> str:
    """The code of today, in capitals."""
    return RENAMED.get(code.upper(), code.upper())
