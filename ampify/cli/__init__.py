"""The command line: options become settings, reports become output and an exit status."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import click

from ampify import __version__, syntax
from ampify.cli import examples
from ampify.cli.output import FORMATS, Output
from ampify.cli.review import OPTIONAL, Review, WithScript, exclusive
from ampify.cli.review import options as reviewing
from ampify.cli.server import server
from ampify.cli.settings import listed_files, listed_settings, rules_options, settings
from ampify.cli.shared import ConfigErrors, one_line, parsed, told
from ampify.cli.verify import verify
from ampify.config import CHOICES, ConfigError, Lookup
from ampify.report.paint import visible
from ampify.source.codes import current

PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
_ALLOCATIONS = 200_000
"""Between collections of garbage: trees are large and live long, and at Python's 700 they took a third of the time."""


class CheckByDefault(click.Group):
    """`ampify PATH` is `ampify check PATH`; a word that is a command is the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = args.index("--") if "--" in args else len(args)
        args = [f"{arg}=" if arg in OPTIONAL else arg for arg in args[:own]] + args[own:]
        if args and args[0] not in {*self.commands, "--help", "-h", "--version"}:
            args = ["check", *args]
        with one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line():
            return super().invoke(ctx)


def _place(value: str) -> Any:
    from ampify.engine import Wanted

    match = re.fullmatch(r"(?P<path>.+?)(?::cell (?P<cell>\d+))?:(?P<line>\d+)", value)
    if match is None:
        raise ConfigError(f"`{value}` is not of the form FILE:LINE, or FILE:cell N:LINE")
    return Wanted(Path(match["path"]), int(match["line"]), int(match["cell"]) if match["cell"] else None)


def _step(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--step",
        metavar="FILE:LINE",
        callback=parsed(_place),
        help="Only the training step there; in a notebook FILE:cell N:LINE.",
    )(command)


def _cached(command: Callable[..., None]) -> Callable[..., None]:
    """The options about what is kept between runs."""
    folder = click.Path(path_type=Path, file_okay=False)
    command = click.option("--cache-dir", type=folder, envvar="AMPIFY_CACHE_DIR", help="Where to keep what is found; "
                           ".ampify_cache in the root of the project by default.")(command)  # fmt: skip
    return click.option(
        "--no-cache", is_flag=True, envvar="AMPIFY_NO_CACHE", help="Keep nothing, and use nothing kept."
    )(command)


@click.group(cls=CheckByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="ampify %(version)s")
def main() -> None:
    """Find, convert and check automatic mixed precision in PyTorch code.

    `ampify PATHS` is short for `ampify check PATHS`.
    """
    gc.set_threshold(_ALLOCATIONS)
    syntax.owned = True


main.add_command(verify)
main.add_command(server)


@main.command(cls=WithScript)
@PATHS
@click.option("--fix", is_flag=True, help="Apply safe fixes.")
@click.option("--unsafe-fixes", is_flag=True, default=None, help="With --fix or --diff: unsafe ones too.")
@click.option("--diff", is_flag=True, help="Print what --fix would change, write nothing.")
@rules_options
@click.option("--fail-level", type=click.Choice(CHOICES["fail_level"]), help="The least severity that exits with 1.")
@_step
@reviewing
@settings
@click.option("--output-format", metavar="FORMAT", type=click.Choice(FORMATS), default="text", show_default=True,
              help=", ".join(FORMATS) + ".")  # fmt: skip
@click.option("-o", "--output-file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the report to FILE, not to standard output.")  # fmt: skip
@click.option("--statistics", is_flag=True, help="Count the findings of each rule instead of listing them.")
@click.option("--show-fixes", is_flag=True, help="List what was fixed, file by file.")
@click.option("--show-files", is_flag=True, help="List the files that would be looked at, and do nothing else.")
@click.option("--show-settings", is_flag=True, help="Print the settings for the first file, and do nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Print the findings and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="Also tell which files are looked at, and how long it takes.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 even if findings remain.")
@_cached
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processes to work in; one for each core by default.")
@click.option("--stdin-filename", type=click.Path(path_type=Path), help="The name of the source given as PATH `-`.")
@click.pass_context
def check(
    ctx: click.Context, paths: tuple[Path, ...], *, fix: bool, diff: bool, output_format: str,
    output_file: Path | None, statistics: bool, show_fixes: bool, show_files: bool, show_settings: bool, quiet: bool,
    verbose: bool, exit_zero: bool, stdin_filename: Path | None, step: Any, lookup: Lookup, review: Review,
    no_cache: bool, cache_dir: Path | None, jobs: int | None,
) -> None:  # fmt: skip
    """Find, lint, and with --fix convert and mend. `-` reads standard input."""
    from ampify import engine
    from ampify.jobs import cores

    filtering = Path("-") in paths
    exclusive([*told(ctx), *(["stdin"] if filtering else [])])
    output = Output("statistics" if statistics else "diff" if diff else output_format, output_file, show_fixes, quiet,
                    verbose)  # fmt: skip
    run = engine.Run(lookup, _mode(diff=diff, write=fix or review.add_ignore is not None), step, jobs=jobs or cores())
    if filtering and len(paths) > 1:
        raise click.UsageError("`-` stands alone")
    with ConfigErrors():
        if show_files or show_settings:
            _list(listed_files(paths) if show_files else listed_settings(paths, lookup))
            return
        if filtering:
            paths = (stdin_filename or Path("stdin.py"),)
        cache = None if no_cache or filtering else _cache(cache_dir, lookup)
        found = _filter(paths[0], run) if filtering else review.run(paths, run, output.track, cache)
        report, said = review.report(found, paths, run, lookup)
    findings = sys.stderr if filtering and fix and not diff else sys.stdout
    report = _told(report, output, findings)
    for line in () if quiet else said:
        click.echo(f"ampify: {line}", err=True)
    _exit(report, exit_zero=exit_zero)


def _mode(*, diff: bool, write: bool) -> Any:
    from ampify.engine import Mode

    return Mode.DIFF if diff else Mode.WRITE if write else Mode.REPORT


@main.command()
@PATHS
@_step
@settings
@click.option(
    "--output-format",
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "dot"]),
    default="text",
    show_default=True,
)
def steps(
    paths: tuple[Path, ...],
    *,
    output_format: str,
    step: Any,
    lookup: Lookup,
) -> None:
    """List the training steps: where, what trains what, what is decided and why."""
    from ampify import engine
    from ampify.report import steps as listing

    with ConfigErrors():
        rows, report = engine.steps(paths, engine.Run(lookup, step=step), Output().track)
    listing.render(rows, sys.stdout, output_format)
    if report.files:
        Output("concise").write(report, sys.stderr)
    _exit(report, exit_zero=True)


@main.command()
@PATHS
@click.option("--diff", is_flag=True, help="Print what would change, write nothing.")
def erase(paths: tuple[Path, ...], *, diff: bool) -> None:
    """Take mixed precision out: what remains is the float32 program."""
    from ampify import engine

    with ConfigErrors():
        report = engine.erase(paths, engine.Run(mode=engine.Mode.DIFF if diff else engine.Mode.WRITE), Output().track)
    if diff:
        Output("diff").write(report, sys.stdout)
    changed = sum(file.before != file.after for file in report.files)
    verb = "Would take" if diff else "Took"
    click.echo(f"{verb} mixed precision out of {changed} of {report.checked} files", err=True)
    if any(file.diagnostics for file in report.files):
        Output("concise").write(report, sys.stderr)
    _exit(report, exit_zero=False)


@main.command()
@click.argument("code")
def explain(code: str) -> None:
    """Print the page of a rule, given its code or name."""
    from ampify.diagnostic import TOOL_CODES
    from ampify.rule import load, page

    names = {known: row.name for table in (load(), TOOL_CODES) for known, row in table.items()}
    for known, name in names.items():
        if current(code) == known or code.lower() == name:
            return _page(page(known))
    raise click.UsageError(f"there is no rule `{code}`; `ampify rules` lists them")


@main.command()
def rules() -> None:
    """List all rules: code, severity, name."""
    from ampify.diagnostic import TOOL_CODES
    from ampify.rule import load

    rows = [(code, row.severity, row.name) for table in (load(), TOOL_CODES) for code, row in table.items()]
    for code, severity, name in rows:
        click.echo(f"{code}  {severity.name.lower():<7}  {name}")


def _cache(folder: Path | None, lookup: Lookup) -> Any:
    from ampify.cache import Cache, home

    place = folder or home(Path.cwd())
    return None if place is None else Cache(place, repr(lookup), lookup.files)


@main.command()
@click.option("--cache-dir", type=click.Path(path_type=Path, file_okay=False), envvar="AMPIFY_CACHE_DIR")
def clean(cache_dir: Path | None) -> None:
    """Remove what was kept between runs."""
    from ampify.cache import clean as remove
    from ampify.cache import home

    folder = cache_dir or home(Path.cwd())
    click.echo(
        f"Removed {folder}" if folder is not None and remove(folder) else "There was nothing to remove", err=True
    )


def _list(lines: Iterable[str]) -> None:
    try:
        for line in lines:
            click.echo(visible(line))
    except OSError as error:
        click.echo(f"ampify: {error.filename}: {error.strerror}", err=True)
        sys.exit(2)


def _filter(name: Path, run: Any) -> Any:
    """Standard input to standard output where fixes are to be written; the source comes out whatever happens."""
    from ampify import engine

    raw = sys.stdin.buffer.read()
    report, new = engine.check_bytes(name, raw, run)
    if run.mode is engine.Mode.WRITE:
        sys.stdout.buffer.write(new)
        sys.stdout.buffer.flush()
    return report


def _told(report: Any, output: Output, out: TextIO) -> Any:
    """Print the report; that it cannot be written is one of its errors."""
    try:
        output.write(report, out)
    except OSError as error:
        if output.file is None:  # such as a pipe that nobody reads any longer
            raise
        return replace(report, errors=(*report.errors, f"{output.file}: {error.strerror}"))
    return report


def _exit(report: Any, *, exit_zero: bool) -> None:
    for message in (*report.notes, *report.errors):
        click.echo(f"ampify: {visible(message)}", err=True)
    sys.exit(0 if exit_zero and report.status == 1 else report.status)


def _page(markdown: str) -> None:
    """A page as it is, or set in type on a terminal."""
    if not sys.stdout.isatty():
        click.echo(markdown, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(markdown))


examples.attach(main)
