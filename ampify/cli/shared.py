"""What the commands share: values that are parsed, settings that are wrong, options that were given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from ampify.config import ConfigError


def parsed(parse: Callable[[str], object]) -> Callable[[click.Context, click.Parameter, str | None], object]:
    def convert(ctx: click.Context, parameter: click.Parameter, value: str | None) -> object:
        try:
            return None if value is None else parse(value)
        except ConfigError as error:
            raise click.BadParameter(str(error), ctx, parameter) from None

    return convert


class Refused(click.ClickException):
    """What cannot be done, in one line."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"ampify: {' '.join(self.message.split())}", file=file, err=file is None)


@contextmanager
def one_line() -> Iterator[None]:
    """Wrong options are told without the usage above."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise Refused(error.format_message()) from None


class ConfigErrors:
    """What is wrong with a setting is told like a wrong option."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ConfigError):
            raise click.UsageError(str(error)) from None


def given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def told(ctx: click.Context) -> list[str]:
    """The options that were given on the command line."""
    return [name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
