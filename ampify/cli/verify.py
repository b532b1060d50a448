"""The command `ampify verify`: options become requests, verdicts become output and an exit status."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from ampify.cli.shared import ConfigErrors, given, parsed
from ampify.config import CHOICES, parse_torch

FORMATS = ("text", "json", "junit", "markdown", "sarif")
_INTERRUPTED = 130


@click.command(short_help="Run a script and its conversion, and say what is the same.")
@click.argument("words", metavar="[SCRIPT] [-- ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.option("-m", "module", metavar="MODULE", help="Run a module, as `python -m` does.")
@click.option("--python", metavar="PATH", help="The interpreter that has torch; by default the one ampify runs in.")
@click.option("--steps", type=click.IntRange(2), help="Steps of an optimizer to compare; 8 by default.")
@click.option("--seed", type=click.IntRange(0), help="What the generators are seeded with; 0 by default.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds for each run; 600 by default.")
@click.option("--device", type=click.Choice(CHOICES["device"]), help="`cpu` hides CUDA; `auto` by default.")
@click.option("--dtype", type=click.Choice(CHOICES["dtype"]), help="What to convert to and to measure in.")
@click.option("--numerics", is_flag=True, default=None, help="Also with AMP on, against what rounding explains.")
@click.option("--bench", is_flag=True, default=None, help="Also what AMP gains in time and memory.")
@click.option("--fake-cuda", is_flag=True, default=None, help="Run a script that wants CUDA on a machine without.")
@click.option("--synthetic-data", is_flag=True, default=None, help="Made-up data in place of torchvision's data sets.")
@click.option("--launch", metavar="CMD", callback=parsed(lambda text: tuple(shlex.split(text))),
              help='A launcher such as "torchrun --nproc-per-node 2".')  # fmt: skip
@click.option("--unsafe-fixes", is_flag=True, default=None, help="Verify what --fix --unsafe-fixes would write.")
@click.option("--target-torch", metavar="2.X", callback=parsed(parse_torch), help="As for --fix.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file, in place of the nearest one.")
@click.option("--output-format", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--report", metavar="FILE.html", type=click.Path(path_type=Path, dir_okay=False), help="Also a page.")
def verify(
    words: tuple[str, ...], *, module: str | None, config: Path | None, output_format: str, report: Path | None,
    **options: Any,
) -> None:  # fmt: skip
    """Run SCRIPT as it is and with mixed precision, and say level by level what is the same.

    This runs your script, several times, with the ARGS after `--`. Code without AMP is compared with what --fix would
    write; code with AMP is compared with what is left when AMP is taken out. Without SCRIPT, every
    `[[tool.ampify.verify]]` of the project's config file is run.
    """
    with ConfigErrors(), _interruptible():
        page = _page(report)
        verdicts = _climb(_requests(words, module, config, given(options)))
        _print(verdicts, output_format)
        written = report is None or _write(report, page(verdicts))
    sys.exit(max(0 if written else 2, *(verdict.status for verdict in verdicts)))


def _write(path: Path, text: str) -> bool:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        click.echo(f"ampify: {path}: {error.strerror}", err=True)
        return False
    return True


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C is neither a difference nor a failure of ours."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("ampify: interrupted", err=True)
        sys.exit(_INTERRUPTED)


def _requests(words: tuple[str, ...], module: str | None, config: Path | None, options: dict[str, Any]) -> list[Any]:
    from ampify.verify.project import build, requests

    here, config = Path.cwd(), config and config.absolute()  # what is read from it is kept by its path
    if module:
        return [build({"module": module, "args": words, **options}, here, config)]
    if not words:
        return requests(here, config, **options)
    script = Path(words[0])
    if not script.is_file():
        raise click.UsageError(f"there is no file `{script}`; arguments of the script come after it and `--`")
    return [build({"script": script, "args": words[1:], **options}, here, config)]


def _climb(requests: list[Any]) -> list[Any]:
    """One verdict for each request."""
    from ampify.verify.ladder import climb

    with _progress() as tell:
        return [climb(request, track=partial(tell, request.title)) for request in requests]


@contextmanager
def _progress() -> Iterator[Callable[[str, str], None]]:
    """Shows what runs, script and arm, if somebody looks on."""
    if not sys.stderr.isatty():
        yield lambda title, arm: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("Verifying") as status:
        yield lambda title, arm: status.update(escape(f"{title}: {arm}"))


def _page(report: Path | None) -> Any:
    """What makes the page; what it needs is looked for before anything is run."""
    if report is None:
        return None
    from ampify.verify.report import html

    if missing := html.missing():
        raise click.UsageError(f"--report needs {missing}; `pip install 'ampify[report]'` installs it")
    return html.page


def _print(verdicts: list[Any], form: str) -> None:
    from importlib import import_module

    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a name the terminal cannot show
    import_module(f"ampify.verify.report.{form}").render(verdicts, sys.stdout)
