"""What stands below the findings: how much was found, what was mended, what could be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TextIO

from ampify.diagnostic import Diagnostic
from ampify.engine import Mode, Report
from ampify.report.paint import Line, paint
from ampify.report.text import mark


def render(report: Report, out: TextIO, *, fixes: bool = False) -> None:
    """With ``fixes`` also which rules mended what, file by file."""
    if fixes:
        paint(_fixes(report), out)
    paint(_lines(report), out)


def _lines(report: Report) -> Iterator[Line]:
    left = [d for file in report.files for d in file.diagnostics]
    fixed = sum(len(file.fixed) for file in report.files)
    if fixed:
        verb = "Would fix" if report.mode is Mode.DIFF else "Fixed"
        yield [(f"{verb} {_count(fixed, 'finding')}, {len(left)} left", "bold")]
    elif left:
        yield [(f"Found {_count(len(left), 'finding')}", "bold")]
    elif not report.errors:
        yield [(f"Nothing to report in {_count(report.checked, 'file')}", "bold")]
    if report.mode is Mode.REPORT:
        yield from _offers(left)


def _offers(left: Iterable[Diagnostic]) -> Iterator[Line]:
    marks = [mark(finding) for finding in left]
    if safe := marks.count("[*] "):
        yield [("[*] ", "cyan"), (f"{safe} fixable with `--fix`", "")]
    if unsafe := marks.count("[-] "):
        yield [("[-] ", "cyan"), (f"{unsafe} fixable with `--fix --unsafe-fixes`", "")]


def _fixes(report: Report) -> Iterator[Line]:
    for file in report.files:
        if not file.fixed:
            continue
        yield [("- ", "cyan"), (file.path, "bold"), (":", "cyan")]
        counts = Counter((finding.code, finding.name) for finding in file.fixed)
        width = len(str(max(counts.values())))
        for (code, name), count in sorted(counts.items()):
            yield [(f"    {count:>{width}} × ", ""), (code, "bold"), (f" ({name})", "")]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
