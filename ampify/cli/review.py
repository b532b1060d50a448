"""The options that narrow a report, ask before a fix, or write comments and baselines; and which exclude others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ampify.config import ConfigError, Lookup

Command = Callable[..., None]

OPTIONAL = ("--add-ignore",)
"""Options whose value may be left out."""
_WORDS = "ampify.words"
"""Where the context of click keeps the arguments of a script."""
_EXCLUDE = (
    ("fix", "add_ignore", "one mends findings, the other hides them"),
    ("fix", "write_baseline", "write the baseline once all is mended"),
    ("fix", "diff_base", "fixes are not limited to the lines that changed"),
    ("diff", "interactive", "one writes nothing, the other asks what to write"),
    ("diff", "write_baseline", "write the baseline once all is mended"),
    ("diff", "diff_base", "fixes are not limited to the lines that changed"),
    ("diff", "verified_only", "one writes nothing, the other writes what was verified"),
    ("interactive", "verified_only", "choose who decides"),
    ("add_ignore", "write_baseline", "one way to keep findings quiet is enough"),
    ("add_ignore", "diff_base", "comments are not limited to the lines that changed"),
    ("add_ignore", "verified_only", "one hides findings, the other mends them"),
    ("baseline", "write_baseline", "a baseline is written of all findings"),
    ("diff_base", "write_baseline", "a baseline is written of all findings"),
    ("step", "write_baseline", "a baseline is written of all findings"),
    ("stdin", "interactive", "standard input is the source, so that nobody can answer"),
    ("stdin", "add_ignore", "comments are written to files"),
    ("stdin", "write_baseline", "a baseline knows files"),
    ("stdin", "diff_base", "what standard input brings has not changed since any revision"),
    ("stdin", "verified_only", "a script is verified as it is on disk"),
    ("show_files", "fix", "it only lists files"),
    ("show_files", "show_settings", "ask for one of them"),
    ("show_settings", "fix", "it only lists settings"),
)
_NEED = (
    ("interactive", "fix", "it asks what to write"),
    ("verified_only", "fix", "it says what to write"),
)


@dataclass(frozen=True, slots=True)
class Review:
    """What was asked for beside the check itself."""

    interactive: bool = False
    add_ignore: str | None = None
    write_baseline: Path | None = None
    diff_base: str | None = None
    verified_only: Path | None = None

    def run(self, paths: Sequence[Path], run: Any, track: Any, cache: Any = None) -> Any:
        """Do what was asked for; raises `ConfigError`."""
        from ampify import engine

        if self.add_ignore is not None:
            return engine.add_ignores(paths, run, self.add_ignore, track)
        if self.verified_only:
            from ampify.cli import verified

            words = click.get_current_context().meta.get(_WORDS, ())
            return verified.check(paths, run, track, self.verified_only, words)
        if self.interactive:
            from ampify.cli.interactive import Asker

            return engine.check(paths, replace(run, ask=Asker()))
        return engine.check(paths, run, track, cache)

    def report(self, report: Any, paths: Sequence[Path], run: Any, lookup: Lookup) -> tuple[Any, list[str]]:
        """The report that is to be shown, and what is to be said beside it. Raises `ConfigError`."""
        if self.add_ignore is not None:
            return _hidden(report)
        if self.write_baseline:
            return _written(report, self.write_baseline)
        if self.diff_base is not None:
            from ampify.review import changes

            report = changes.since(self.diff_base, paths).only(report)
        return _new(report, paths, lookup, narrow=run.step is not None or self.diff_base is not None)


class WithScript(click.Command):
    """With `--verified-only`, what stands after `--` is for its script."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args and any(arg.partition("=")[0] == "--verified-only" for arg in args[: args.index("--")]):
            at = args.index("--")
            ctx.meta[_WORDS] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)


def options(command: Command) -> Command:
    """These options; they come as ``review``."""

    @wraps(command)
    def with_review(*args: Any, **given: Any) -> None:
        own = {each.name: given.pop(each.name) for each in fields(Review)}  # `baseline` is a setting
        command(*args, review=Review(**own), **given)

    file = click.Path(path_type=Path, dir_okay=False)
    wrapped: Command = with_review
    for option in (
        click.option("--interactive", is_flag=True, help="With --fix: show each fix, and ask."),
        click.option("--verified-only", metavar="SCRIPT", type=click.Path(path_type=Path, dir_okay=False, exists=True),
                     help="With --fix: convert only what `ampify verify SCRIPT` holds for; it runs SCRIPT with the ARGS"
                          " after `--`."),
        click.option("--diff-base", metavar="REVISION",
                     help="Report only what lines touch that changed since the current branch left REVISION."),
        click.option("--baseline", metavar="FILE", type=file, callback=_absolute,
                     help="Report only what is not in FILE."),
        click.option("--write-baseline", metavar="FILE", type=file, help="Write all findings to FILE as known ones."),
        click.option("--add-ignore", metavar="[=REASON]", callback=_reason,
                     help="Hide every finding by a comment on its line, with a reason."),
    ):  # fmt: skip
        wrapped = option(wrapped)
    return wrapped


def _absolute(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    return None if value is None else value.absolute()


def exclusive(given: Iterable[str]) -> None:
    """Raises `UsageError` for options that contradict each other, or that say nothing without another one."""
    named = {*given}
    for one, other, why in _EXCLUDE:
        if one in named and other in named:
            raise click.UsageError(f"{_flag(one)} and {_flag(other)} exclude each other: {why}")
    for one, other, why in _NEED:
        if one in named and other not in named:
            raise click.UsageError(f"{_flag(one)} needs {_flag(other)}: {why}")


def _flag(name: str) -> str:
    return "`-`" if name == "stdin" else f"`--{name.replace('_', '-')}`"


def _reason(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from ampify.source.silence import is_reason

    if value is not None and not is_reason(value):
        raise click.BadParameter("a reason is one line without `#`", ctx, parameter)
    return value


def _hidden(report: Any) -> tuple[Any, list[str]]:
    """The findings that are left once the others are hidden, and how many those are."""
    hidden = [len(file.fixed) for file in report.files if file.fixed]
    files = (replace(file, fixed=()) for file in report.files)
    said = f"hid {_count(sum(hidden), 'finding')} by comments in {_count(len(hidden), 'file')}"
    return replace(report, files=tuple(file for file in files if file.diagnostics)), [said]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _written(report: Any, file: Path) -> tuple[Any, list[str]]:
    from ampify.review import baseline

    try:
        count = baseline.write(file, report)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    return replace(report, files=()), [f"wrote {_count(count, 'finding')} to {file}"]


def _new(report: Any, paths: Sequence[Path], lookup: Lookup, *, narrow: bool) -> tuple[Any, list[str]]:
    """The report without what the baselines know, and their entries that were not found again."""
    names = (lookup.said(path).baseline for path in (*paths, *(Path(file.path) for file in report.files)))
    files = sorted({name for name in names if name is not None})
    if not files:
        return report, []
    from ampify.review import baseline

    roots, told = [path.resolve() for path in paths], list[str]()

    def looked_at(path: Path, rule: str) -> bool:
        inside = any(path.resolve() == root or root in path.resolve().parents for root in roots)
        return inside and lookup(path).enables(rule, str(path))

    for file in files:
        known = baseline.read(file)
        report, found = known.without(report)
        told += _gone(file, known.gone(found, looked_at)) if not narrow else []
    return report, told


def _gone(file: Path, entries: Sequence[Any]) -> list[str]:
    if not entries:
        return []
    found = [f"{e.path}: {e.rule}{f' in {e.scope}' if e.scope else ''}: {e.statement}" for e in entries]
    are, them = ("is", "it") if len(found) == 1 else ("are", "them")
    head = f"{_count(len(found), 'finding')} of {file.name} {are} there no longer; `--write-baseline` drops {them}:"
    return [head, *(f"  {each}" for each in found)]
