"""What a rule is, and how rules are found: every module of `ampify.rules` is imported once."""

from __future__ import annotations

import importlib
import pkgutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from ampify.diagnostic import TOOL_CODES, Note, Severity
from ampify.needs import OF_SUBJECT
from ampify.source.edits import Fix
from ampify.source.needles import Needs
from ampify.source.text import Span

if TYPE_CHECKING:
    from ampify.rewrite.migrate import Migration
    from ampify.rewrite.plan import Decision

_RULES: dict[str, Rule] = {}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check yields; the engine makes it a `Diagnostic`."""

    span: Span
    message: str
    fix: Fix | None = None
    notes: tuple[Note, ...] = ()
    severity: Severity | None = None
    """Overrides the rule's severity where the case at hand is milder or worse."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A code, its name, and a check that reads one kind of subject of the model."""

    code: str
    name: str
    severity: Severity
    subject: type
    check: Callable[[Any], Iterator[Finding]]
    needs: Needs = ((),)
    """What a file must say for the check to find anything."""

    @property
    def page(self) -> Path:
        """The Markdown page beside the rule's module."""
        module = importlib.import_module(self.check.__module__)
        return Path(str(module.__file__)).with_suffix(".md")


Check = TypeVar("Check", bound=Callable[[Any], Iterator[Finding]])


def rule(code: str, name: str, severity: Severity, needs: Needs | None = None) -> Callable[[Check], Check]:
    """Register a check. The annotation of its parameter says which subjects it is given; where these need nothing of a
    file themselves, ``needs`` has to be given."""

    def register(check: Check) -> Check:
        if code in _RULES:
            raise ValueError(f"{code} is taken by {_RULES[code].name}")
        subject = next(iter(get_type_hints(check).values()))
        _RULES[code] = Rule(code, name, severity, subject, check, needs or OF_SUBJECT[subject.__name__])
        return check

    return register


def table(rule_file: str) -> dict[str, Any]:
    """The ``.toml`` beside a rule, given the rule's ``__file__``."""
    return tomllib.loads(Path(rule_file).with_suffix(".toml").read_text("utf-8"))


def load() -> dict[str, Rule]:
    """All rules by code, in the order of their codes."""
    from ampify import rules

    for module in pkgutil.iter_modules(rules.__path__):
        importlib.import_module(f"ampify.rules.{module.name}")
    return dict(sorted(_RULES.items()))


def page(code: str) -> str:
    """The Markdown page of a rule, or of a finding about ampify's own work; raises `KeyError`."""
    if row := TOOL_CODES.get(code):
        return f"# {code} {row.name}\n\n{row.meaning}.\n"
    return load()[code].page.read_text("utf-8")


def migrated(migration: Migration, message: str, *notes: str) -> Iterator[Finding]:
    """What the rules AMP120 to AMP134 say of a use of Apex, with the fix that takes it out of the whole program."""
    span = migration.use.span
    reason = [] if migration.reason is None else [f"Apex is left in this program: {migration.reason}"]
    yield Finding(span, message, migration.fix, tuple(Note(note, span) for note in (*notes, *reason)))


def refused(decision: Decision, code: str) -> Iterator[Finding]:
    """What a rule about refusals says of a step that is left in float32, with a note at what stands in the way."""
    if (obstacle := decision.refused(code)) is not None:
        message = f"This training step is left in float32: {obstacle.reason}"
        yield Finding(decision.step.span, message, notes=(Note("this stands in the way", obstacle.span),))
