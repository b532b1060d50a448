"""The options that become settings, and what is said of settings and files when that is asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ampify.cli.shared import given, parsed
from ampify.config import (
    CHOICES,
    OPTIONS,
    ConfigError,
    Layer,
    Lookup,
    parse_codes,
    parse_file_ignores,
    parse_inline,
    parse_torch,
)

Command = Callable[..., None]

_CONFIG = "A TOML file in place of the nearest one, or KEY=VALUE, which goes before it. May be given several times."
_RULES = (
    ("--select", parse_codes, "CODES", "Only these rules, such as AMP1,AMP206, or ALL."),
    ("--extend-select", parse_codes, "CODES", "These beside those selected."),
    ("--ignore", parse_codes, "CODES", "All but these; the closest beginning of a code decides."),
    ("--per-file-ignores", parse_file_ignores, "PATTERN:CODE", "Not these in these files, such as 'tests/*:AMP2'."),
    ("--extend-per-file-ignores", parse_file_ignores, "PATTERN:CODE", "The same beside those of the config file."),
    ("--fixable", parse_codes, "CODES", "Mend only findings of these."),
    ("--extend-fixable", parse_codes, "CODES", "Mend these, too."),
    ("--unfixable", parse_codes, "CODES", "Mend all but these."),
)


def rules_options(command: Command) -> Command:
    """The options that say which rules are on, and whose findings may be mended."""
    for flag, parse, metavar, text in reversed(_RULES):
        command = click.option(flag, metavar=metavar, multiple=True, callback=_joined(parse), help=text)(command)
    return command


def settings(command: Command) -> Command:
    """The options that all commands with settings share; they come as ``lookup``, together with all other settings."""

    @wraps(command)
    def with_lookup(*args: Any, config: tuple[Path | Layer, ...], isolated: bool, **options: Any) -> None:
        own = {name: options.pop(name) for name in [*options] if name.replace("_", "-") in OPTIONS}
        command(*args, lookup=_lookup(given(own), config, isolated), **options)

    wrapped: Command = with_lookup
    for option in (
        click.option("--dtype", type=click.Choice(CHOICES["dtype"]), help="What to compute in; float16 by default."),
        click.option("--device", type=click.Choice(CHOICES["device"]), help="Which steps to convert; auto by default."),
        click.option(
            "--target-torch",
            metavar="2.X",
            callback=parsed(parse_torch),
            help="The oldest torch the code is for; by default what the project pins, else the newest.",
        ),
        click.option(
            "--max-file-size",
            metavar="MB",
            type=click.FloatRange(min=0),
            help="Leave larger files alone; 2 by default, 0: look at any.",
        ),
        click.option("--config", metavar="FILE|KEY=VALUE", multiple=True, callback=_configured, help=_CONFIG),
        click.option("--isolated", is_flag=True, help="Read no config file."),
    ):
        wrapped = option(wrapped)
    return wrapped


def _joined(parse: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], object]:
    """Several values of an option as one list."""
    one = parsed(parse)
    return lambda ctx, parameter, values: one(ctx, parameter, ",".join(values) if values else None)


def _configured(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Path | Layer, ...]:
    try:
        return tuple(_config(value) for value in values)
    except ConfigError as error:
        raise click.BadParameter(str(error), ctx, parameter) from None


def _config(value: str) -> Path | Layer:
    if Path(value).is_file() or (layer := parse_inline(value)) is None:
        return Path(value)
    return layer


def _lookup(options: Layer, config: tuple[Path | Layer, ...], isolated: bool) -> Lookup:
    files = [each for each in config if isinstance(each, Path)]
    if len(files) > 1:
        raise click.UsageError(
            f"`--config` names two files, {files[0]} and {files[1]}; one of them can `extend` another"
        )
    if files and isolated:
        raise click.UsageError(f"`--isolated` reads no config file, `--config {files[0]}` names one")
    inline = tuple(each for each in config if not isinstance(each, Path))
    return Lookup(options, files[0] if files else None, inline, isolated)


def listed_files(paths: Iterable[Path]) -> Iterator[str]:
    """The files that would be looked at; raises `OSError` for one that cannot be."""
    from ampify.source.files import find

    def failed(error: OSError) -> None:
        raise error

    for path in find(paths, failed):
        path.stat()
        yield str(path)


def listed_settings(paths: Iterable[Path], lookup: Lookup) -> Iterator[str]:
    """The settings of the first file, as TOML, and where they come from."""
    from ampify.engine import Run
    from ampify.source.files import find

    path = next(find(paths, lambda error: None), Path.cwd())
    found = lookup(path)
    yield f"# {path}"
    files = lookup.files(path)
    yield from (f"# from {file}" for file in files) if files else ("# from no config file",)
    for key in OPTIONS:
        if hasattr(found, key.replace("-", "_")):
            yield from _line(key, getattr(found, key.replace("-", "_")))
    codes = [rule.code for rule in Run(lookup).inspection(path).rules if found.enables(rule.code, str(path))]
    yield f"# {len(codes)} rules are on here:"
    yield from textwrap.wrap(", ".join(codes), 78, initial_indent="#   ", subsequent_indent="#   ")


def _line(key: str, value: Any) -> Iterator[str]:
    match value:
        case None:
            yield f"# {key}: {OPTIONS[key].default}"
        case bool():
            yield f"{key} = {str(value).lower()}"
        case int() | float():
            yield f"{key} = {value:g}"
        case (int(), int()):
            yield f'{key} = "{value[0]}.{value[1]}"'
        case tuple() if key.endswith("ignores"):
            yield from (f"# {key}: {each.pattern} in {each.folder}: {', '.join(each.codes)}" for each in value)
        case tuple():
            listed = ", ".join(f'"{code}"' for code in value)
            yield f"{key} = [{listed}]"
        case _:
            yield f'{key} = "{value}"'
