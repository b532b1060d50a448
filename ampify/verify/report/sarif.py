"""SARIF 2.1.0: a result for each finding of the verifier; what became of every level stands in its properties."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TextIO

from ampify.diagnostic import Diagnostic
from ampify.report import sarif
from ampify.report.found import fingerprint, uri
from ampify.verify.report.json import line_of
from ampify.verify.verdict import Verdict


def render(verdicts: Sequence[Verdict], out: TextIO) -> None:
    told = [(verdict, finding) for verdict in verdicts for finding in verdict.diagnostics]
    rules = {finding.code: finding for _, finding in told}
    run = {
        "tool": {"driver": sarif.driver([rules[code] for code in sorted(rules)])},
        "columnKind": "unicodeCodePoints",
        "results": [_result(verdict, finding, sorted(rules)) for verdict, finding in told],
        "properties": {"ampify/verify": [_summary(verdict) for verdict in verdicts]},
    }
    json.dump(sarif.log(run), out, indent=2)
    out.write("\n")


def _result(verdict: Verdict, finding: Diagnostic, codes: Sequence[str]) -> dict[str, Any]:
    region = {"startLine": line_of(finding)}
    return {
        "ruleId": finding.code,
        "ruleIndex": codes.index(finding.code),
        "level": sarif.LEVELS[finding.severity],
        "message": sarif.message(finding.message),
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(finding.path)}, "region": region}}],
        "partialFingerprints": {"ampify/v1": fingerprint(finding.path, finding.code, verdict.title, finding.message)},
        "properties": _summary(verdict),
    }


def _summary(verdict: Verdict) -> dict[str, Any]:
    levels = {level.name: {"status": level.status, "summary": level.summary} for level in verdict.levels}
    return {"script": verdict.title, "verdict": verdict.word, "mode": verdict.mode, "levels": levels}
