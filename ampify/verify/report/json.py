"""The report for programs. The schema is stable: a member may be added, none is renamed or removed.

    {
      "schema": 1,
      "status": exit status,
      "verdicts": [{
        "title", "word", "mode": "convert" | "audit" | "given" | null, "status", "reason", "details",
        "levels": [{
          "name", "statement", "status": "holds" | "fails" | "band" | "not run" | "not applicable", "summary",
          "differences": [{
            "level", "channel", "message", "step": int | null, "optimizer": int | null, "name",
            "reference", "candidate", "reference_at": place | null, "candidate_at": place | null
          }]
        }],
        "unverified": [place], "notes": [str], "touched": [str], "runs": [{"arm", "seconds"}],
        "diagnostics": [{"path", "line", "code", "name", "severity", "message"}],
        "losses": {side: [float | null]}, "numerics": {...} | null, "bench": {...} | null
      }]
    }

A place is ``{"path", "line", "text"}``; lines count from 1. Numbers that are not finite are null.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ampify.diagnostic import Diagnostic
from ampify.source.text import SourceText
from ampify.verify.verdict import Verdict

SCHEMA = 1


def render(verdicts: Sequence[Verdict], out: TextIO) -> None:
    status = max((verdict.status for verdict in verdicts), default=0)
    json.dump({"schema": SCHEMA, "status": status, "verdicts": [_verdict(v) for v in verdicts]}, out, indent=2)
    out.write("\n")


def _verdict(verdict: Verdict) -> dict[str, Any]:
    members = {field.name: plain(getattr(verdict, field.name)) for field in dataclasses.fields(verdict)}
    return members | {"status": verdict.status, "diagnostics": [_diagnostic(d) for d in verdict.diagnostics]}


def plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences as JSON has them."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return str(value)
        case Diagnostic():
            return _diagnostic(value)
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case tuple() | list():
            return [plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def _diagnostic(finding: Diagnostic) -> dict[str, Any]:
    return {
        "path": finding.path,
        "line": line_of(finding),
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.name.lower(),
        "message": finding.message,
    }


def line_of(finding: Diagnostic) -> int:
    """The line of a finding in the file as it is on disk; 1 where it cannot be read."""
    try:
        return SourceText(Path(finding.path).read_text("utf-8", "replace")).line(finding.span.start)
    except OSError:
        return 1
