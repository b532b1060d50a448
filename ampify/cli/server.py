"""The command `ampify server`: what it needs is looked for when it is called."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from ampify.config import Lookup


@click.command(short_help="Speak the language server protocol with an editor.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file, in place of the nearest one.")
def server(config: Path | None) -> None:
    """Serve an editor: diagnostics while typing, fixes, conversions, the rules' pages.

    An editor starts this command itself and speaks the language server protocol with it, on standard input and output.
    """
    if not _installed("pygls"):
        raise click.UsageError("the language server needs pygls; `pip install 'ampify[lsp]'` installs it")
    from ampify.server.session import serve

    serve(Lookup({}, config))


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # so says Python of a module that was taken out on purpose
        return False
