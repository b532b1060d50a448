"""One page that stands alone, with plots; needs the extra `report`, which is imported when a page is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ampify.verify.report import words
from ampify.verify.verdict import Verdict

_TEMPLATE = Path(__file__).with_name("page.html")
_NEEDED = ("jinja2", "matplotlib")


def missing() -> str:
    """The libraries that are not installed, in words; empty where all are there."""
    return " and ".join(f"`{name}`" for name in _NEEDED if find_spec(name) is None)


def page(verdicts: Sequence[Verdict]) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from ampify.verify.report.plots import plots

    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(_TEMPLATE.read_text("utf-8"))
    shown = [(verdict, [Markup(svg) for svg in plots(verdict)]) for verdict in verdicts]
    return template.render(
        shown=shown, mode=words.mode, kind=words.kind, result=words.result, differences=words.differences,
        values=words.values, place=words.place, lists=words.lists,
    )  # fmt: skip
