"""What stands below the help of each command: command lines that run, each with what it does."""

from __future__ import annotations

from collections.abc import Mapping

import click

EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("ampify src/", "what there is to say, nothing is changed"),
        ("ampify train.py --diff", "what --fix would write"),
        ("ampify train.py --fix", "write it"),
        ("ampify explain AMP206", "the page of a rule"),
    ),
    "check": (
        ("ampify check src/ --diff", "what --fix would write"),
        ("ampify check train.py --fix --step train.py:35", "convert the training step of that line alone"),
        ("ampify check . --select AMP1 --statistics", "how much is deprecated"),
        ("ampify check . --output-format sarif -o ampify.sarif", "for code scanning"),
        ("ampify check . --config dtype=bfloat16 --fail-level info", "red while a step could be converted"),
    ),
    "steps": (
        ("ampify steps src/", "the training steps, and what is decided on each"),
        ("ampify steps train.py --format dot", "as a graph, for `dot -Tsvg`"),
    ),
    "erase": (
        ("ampify erase src/ --diff", "what would be taken out"),
        ("ampify erase train.py", "take it out"),
    ),
    "explain": (
        ("ampify explain AMP206", "by its code"),
        ("ampify explain clip-before-unscale", "by its name"),
    ),
    "rules": (("ampify rules", "all of them"),),
    "clean": (("ampify clean", "the next run looks at everything again"),),
    "verify": (("ampify verify train.py -- --epochs 1", "the exact levels; what follows `--` is for the script"),),
    "server": (("ampify server", "what an editor runs; by hand it waits for messages"),),
}
"""By command, without a name those of `ampify` itself."""


def attach(group: click.Group) -> None:
    """Put the examples below the help of a group and of its commands."""
    for name, command in ("", group), *group.commands.items():
        lines = EXAMPLES[name]
        width = max(len(line) for line, _ in lines)
        shown = "\n".join(f"  $ {line:<{width}}  # {text}" for line, text in lines)
        narrow = "\n".join(f"  # {text}\n  $ {line}" for line, text in lines)
        command.epilog = f"\b\nExamples:\n{shown if max(map(len, shown.splitlines())) <= 78 else narrow}"
