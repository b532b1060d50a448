"""The JSON Schema of the settings in `ampify.toml` and `[tool.ampify]`, made from the options themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ampify.config import CHOICES, OPTIONS, VERIFY

_TEXT = {"type": "string", "minLength": 1}
_FLAG = {"type": "boolean"}
_WORDS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
SCRIPT: Mapping[str, Mapping[str, Any]] = {
    "name": _TEXT,
    "script": _TEXT,
    "module": _TEXT,
    "args": _WORDS,
    "cwd": _TEXT,
    "python": _TEXT,
    "launch": _WORDS,
    "steps": {"type": "integer", "minimum": 2},
    "seed": {"type": "integer", "minimum": 0},
    "timeout": {"type": "number", "exclusiveMinimum": 0},
    "device": {"enum": list(CHOICES["device"])},
    "dtype": {"enum": list(CHOICES["dtype"])},
    "numerics": _FLAG,
    "bench": _FLAG,
    "fake-cuda": _FLAG,
    "synthetic-data": _FLAG,
    "unsafe-fixes": _FLAG,
    "target-torch": OPTIONS["target-torch"].schema,
}  # fmt: skip
"""The keys of a `[[tool.ampify.verify]]` table, which `verify/project.py` reads."""


def schema() -> dict[str, Any]:
    """The schema, in the draft that editors know best."""
    options = {
        key: {"description": f"{option.help} Default: {option.default}.", **option.schema}
        for key, option in OPTIONS.items()
    }
    script = {
        "type": "object",
        "properties": dict(SCRIPT),
        "additionalProperties": False,
        "oneOf": [{"required": ["script"]}, {"required": ["module"]}],
    }
    runs = {"description": "Scripts that `ampify verify` runs.", "type": "array", "minItems": 1, "items": script}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "ampify",
        "description": "Settings of ampify, in `ampify.toml` or in `[tool.ampify]` of `pyproject.toml`.",
        "type": "object",
        "properties": {**options, VERIFY: runs},
        "additionalProperties": False,
    }
