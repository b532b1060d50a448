"""Where a report goes, in which format, and how much is said beside it."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import click

PROSE = ("text", "concise", "grouped")
"""What people read; a summary stands below it."""
FORMATS = (*PROSE, "json", "json-lines", "sarif", "github", "gitlab", "junit", "rdjson", "markdown")
_LONG = 30
"""Files; with fewer, a progress bar would only flicker."""


@dataclass(frozen=True, slots=True)
class Output:
    """``form`` is a format, or `diff` or `statistics`, which stand in its place."""

    form: str = "text"
    file: Path | None = None
    show_fixes: bool = False
    quiet: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise click.UsageError("`--quiet` and `--verbose` exclude each other")
        if self.show_fixes and self.form == "diff":
            raise click.UsageError("`--show-fixes` tells what was written, `--diff` writes nothing")

    def write(self, report: Any, out: TextIO) -> None:
        """Print the report to ``out``, or to the file that was asked for; raises `OSError`."""
        if self.file is None:
            self._print(report, out)
            return
        from ampify.source.files import put

        text = io.StringIO()
        self._print(report, text)
        put(self.file, text.getvalue().encode("utf-8", "backslashreplace"))

    def track(self, files: Sequence[Path]) -> Iterable[Path]:
        """The files, each told or with a progress bar if there are many and somebody looks on."""
        if self.verbose:
            return _told(files)
        if self.quiet or len(files) < _LONG or not sys.stderr.isatty():
            return files
        from rich.console import Console
        from rich.progress import track

        return track(files, "Checking", console=Console(stderr=True), transient=True)

    def _print(self, report: Any, out: TextIO) -> None:
        renderer(self.form)(report, out)
        if self.quiet or self.form not in (*PROSE, "diff"):
            return
        from ampify.report import summary

        summary.render(report, sys.stderr if self.form == "diff" else out, fixes=self.show_fixes)


def renderer(form: str) -> Callable[[Any, TextIO], None]:
    """What renders a report as ``form``, to a stream that will then take every name and line."""
    module: Any = import_module(f"ampify.report.{form.replace('-', '_')}")

    def render(report: Any, out: TextIO) -> None:
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="backslashreplace")  # a name or line the terminal cannot show
        module.render(report, out)

    return render


def _told(files: Sequence[Path]) -> Iterator[Path]:
    began = time.perf_counter()
    for file in files:
        click.echo(f"ampify: checking {file}", err=True)
        yield file
    click.echo(f"ampify: {len(files)} files in {time.perf_counter() - began:.2f} s", err=True)
