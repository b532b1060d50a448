"""GitLab's Code Quality report."""

from __future__ import annotations

import json
from typing import Any, TextIO

from ampify.diagnostic import Severity
from ampify.engine import Report
from ampify.report.found import Found, found

_SEVERITIES = {Severity.INFO: "info", Severity.WARNING: "major", Severity.ERROR: "critical"}


def render(report: Report, out: TextIO) -> None:
    json.dump([_issue(each) for each in found(report)], out, indent=2)
    out.write("\n")


def _issue(each: Found) -> dict[str, Any]:
    start, end = each.start, each.end
    stored, span = each.source.stored, each.finding.span  # a line of the file is asked for; the message names the cell
    lines = (start.line, end.line) if start.cell is None else (stored(span.start), stored(span.end))
    return {
        "check_name": each.finding.code,
        "description": f"{each.finding.code}: {each.message}",
        "fingerprint": each.fingerprint,
        "severity": _SEVERITIES[each.finding.severity],
        "location": {"path": each.path, "lines": {"begin": lines[0], "end": lines[1]}},
    }
