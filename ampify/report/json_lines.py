"""One line of JSON for each finding, with the members that `json` gives it."""

from __future__ import annotations

import json
from typing import TextIO

from ampify.engine import Report
from ampify.report.json import described


def render(report: Report, out: TextIO) -> None:
    for file in report.files:
        source = file.source
        out.writelines(json.dumps(described(source, finding)) + "\n" for finding in file.diagnostics)
