"""`--fix --interactive`: each fix is shown with its diff, and somebody is asked for it, as in `git add -p`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import click

from ampify.offer import Offer

_ANSWERS = "y,n,q,a,d,?"
_HELP = """\
y - apply this fix
n - do not apply it
q - quit: apply neither this one nor any of those that are left
a - apply this one and all that are left in this file
d - apply neither this one nor any that is left in this file
? - print this help"""


@dataclass(slots=True)
class Asker:
    """Remembers what was said of whole files, and that somebody has quit."""

    files: dict[str, bool] = field(default_factory=dict)
    has_quit: bool = False

    def __call__(self, offer: Offer) -> bool:
        """Whether a fix is wanted."""
        path = offer.finding.path
        if self.has_quit:
            return False
        if (said := self.files.get(path)) is not None:
            return said
        _show(offer)
        answer = _answer()
        self.has_quit = answer == "q"
        if answer in ("a", "d"):
            self.files[path] = answer == "a"
        return answer in ("y", "a")


def _answer() -> str:
    """One of the letters; no more input is `q`."""
    while True:
        click.echo(click.style(f"Apply this fix [{_ANSWERS}]? ", bold=True), err=True, nl=False, color=_coloured())
        line = sys.stdin.readline()
        answer = line.strip().lower()[:1] if line else "q"
        if not line:
            click.echo(err=True)
        if answer and answer in "ynqad":
            return answer
        click.echo(_HELP, err=True)


def _show(offer: Offer) -> None:
    from ampify.report.diff import lines
    from ampify.report.paint import COLOURS, paint
    from ampify.report.text import mark

    finding = offer.finding
    head = [(finding.code, COLOURS[finding.severity]), (" ", ""), (mark(finding), "cyan"), (finding.message, "bold")]
    paint([[], head, [("  --> ", "blue"), (offer.place, "")]], sys.stderr)
    if finding.fix:
        paint([[("help: ", "bold green"), (finding.fix.title, "")]], sys.stderr)
    for page in offer.pages():
        paint(lines(*page), sys.stderr)


def _coloured() -> bool:
    from ampify.report.paint import coloured

    return coloured(sys.stderr)
