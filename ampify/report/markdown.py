"""Markdown: a table of the findings, as for the summary of a job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from ampify.engine import Report
from ampify.report.found import Found, found
from ampify.report.markup import code, prose, row

_MOST = 500
"""Rows; GitHub takes a summary of 1 MiB."""


def render(report: Report, out: TextIO) -> None:
    out.writelines(line + "\n" for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    results = [*found(report)]
    yield f"### ampify: {_count(len(results), 'finding')} in {_count(report.checked, 'file')}"
    if results:
        yield from ("", row("severity", "where", "finding", "fix"), row("---", "---", "---", "---"))
        yield from map(_row, results[:_MOST])
    if (more := len(results) - _MOST) > 0:
        yield from ("", f"and {more} more")
    for error in report.errors:
        yield from ("", f"**error**: {prose(error)}")


def _row(each: Found) -> str:
    finding = each.finding
    severity = finding.severity.name.lower()
    fix = prose(finding.fix.title) if finding.fix else ""
    place = code(f"{each.path}:{each.start}")
    return row(f"**{severity}**" if each.fails else severity, place, f"{finding.code} {prose(finding.message)}", fix)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
