"""Write the pages of the documentation that are made from the code, and the pictures of training steps.

    python scripts/docs.py            write docs/commands.md, docs/configuration.md and docs/pictures/*
    python scripts/docs.py --check    say which of them are stale, and exit with 1 if any is

The pictures need Graphviz; where it is missing, only their sources (`.dot`) are written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
WRITTEN = "<!-- Written by `python scripts/docs.py`; do not edit by hand. -->"
PICTURES = {
    "quickstart": ["fixtures/quickstart"],
    "gan": ["fixtures/loops/c08_gan_logits.py"],
    "accumulation": ["fixtures/loops/c02_accumulation.py"],
}
"""What is drawn; the names of the pictures."""


def pages() -> Iterator[tuple[Path, str]]:
    """Every file that is made, with its text."""
    yield DOCS / "commands.md", commands()
    yield DOCS / "configuration.md", configuration()
    yield DOCS / "pictures" / "quickstart.txt", said("steps", "fixtures/quickstart")
    yield DOCS / "pictures" / "quickstart.diff", said("fixtures/quickstart", "--diff")
    for name, paths in PICTURES.items():
        yield DOCS / "pictures" / f"{name}.dot", said("steps", *paths, "--format", "dot")


def commands() -> str:
    """The help of every command."""
    from ampify.cli import main

    shown = "".join(f"\n## ampify {name}\n\n```text\n{said(name, '--help')}```\n" for name in sorted(main.commands))
    return f"{WRITTEN}\n\n# Commands\n\n```text\n{said('--help')}```\n{shown}{_COMPLETION}"


def configuration() -> str:
    """Every key of a config file."""
    from ampify.config import OPTIONS

    keys = "".join(
        f"\n### {key}\n\n{option.help}\n\nDefault: `{option.default}`. It must be {option.wanted}.\n\n"
        f"```toml\n{key} = {option.example}\n```\n"
        for key, option in OPTIONS.items()
    )
    return f"{WRITTEN}\n\n# Configuration\n{_CONFIGURATION}\n## The keys\n{keys}"


def said(*words: str) -> str:
    """What a command prints in a terminal of 80 columns."""
    from click.testing import CliRunner

    from ampify.cli import main

    here = Path.cwd()
    os.chdir(ROOT)
    try:
        return CliRunner().invoke(main, words, terminal_width=80, prog_name="ampify", catch_exceptions=False).stdout
    finally:
        os.chdir(here)


def draw(source: Path) -> None:
    """The picture of a graph, in colours that both themes of the site can bear."""
    style = ["-Gbgcolor=white", "-Gfontname=Helvetica", "-Nfontname=Helvetica", "-Efontname=Helvetica", "-Grankdir=TB"]
    picture = subprocess.run(["dot", "-Tsvg", *style, source], check=True, capture_output=True, text=True).stdout
    source.with_suffix(".svg").write_text(picture[picture.index("<svg") :], "utf-8")


def stale() -> list[Path]:
    """The files that are not what they would be."""
    return [path for path, text in pages() if not path.is_file() or path.read_text("utf-8") != text]


def main() -> None:
    if "--check" in sys.argv:
        paths = stale()
        print(*(f"stale: {path.relative_to(ROOT)}" for path in paths), sep="\n")
        sys.exit(bool(paths))
    for path, text in pages():
        path.write_text(text, "utf-8")
        if path.suffix == ".dot" and shutil.which("dot"):
            draw(path)


_COMPLETION = """
## Shell completion

bash, zsh and fish complete commands, options and their values:

```console
$ eval "$(_AMPIFY_COMPLETE=bash_source ampify)"          # in ~/.bashrc
$ eval "$(_AMPIFY_COMPLETE=zsh_source ampify)"           # in ~/.zshrc
$ _AMPIFY_COMPLETE=fish_source ampify | source           # in ~/.config/fish/completions/ampify.fish
```

## Exit status

| status | meaning |
| --- | --- |
| 0 | nothing is left at or above `--fail-level`; `ampify verify`: every level that ran holds |
| 1 | findings remain, or `--diff` would change something; `ampify verify`: NOT EQUIVALENT |
| 2 | ampify could not do its work: a wrong option, a wrong setting, a file that cannot be read |
"""

_CONFIGURATION = """
Settings stand in `[tool.ampify]` of the nearest `pyproject.toml` above a file, or in an `ampify.toml` there, without
the table. What the command line says comes before them, `--config KEY=VALUE` between the two; `--isolated` reads no
file. `ampify --show-settings train.py` tells what is in force and where it comes from.

```toml
[tool.ampify]
target-torch = "2.3"
select = ["ALL"]
ignore = ["AMP7"]

[tool.ampify.per-file-ignores]
"tests/*" = ["AMP2"]

[[tool.ampify.verify]]
script = "train.py"
args = ["--epochs", "1"]
```

[`ampify.schema.json`](ampify.schema.json) describes the keys for editors. The tables `verify` are scripts for
[`ampify verify`](verify.md).

## Comments

| comment | counts for |
| --- | --- |
| `# ampify: ignore[AMP206]` | its statement, or the one below a line of its own; several codes with commas |
| `# noqa: AMP206` | the statement it stands in |
| `# ampify: off`, `# ampify: on` | the lines between them; with codes in brackets, those codes |
| `# ampify: skip-file` | the file |

One that hides nothing is told (AMP903), and `--fix` takes it out. `--add-ignore` writes them for everything there is to
say, `--write-baseline` keeps a file of what is known instead.
"""

if __name__ == "__main__":
    main()
