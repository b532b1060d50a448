"""A tiny language in the place of PyTorch, so that engine and command line are tested without knowledge of it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import settings

from ampify import screen
from ampify.diagnostic import Note, Severity
from ampify.model.graph import Graph
from ampify.rule import Finding, Rule
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.text import Span
from ampify.syntax.nodes import quicken

quicken()  # the tests own their process
settings.register_profile("busy", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("busy")

NEEDLE = "import torch\n"


@dataclass(frozen=True)
class Word:
    """A name that some fake rule knows, as a use."""

    text: str
    span: Span


@dataclass(frozen=True)
class Step:
    """A function named ``step_*`` as a training step."""

    span: Span
    where: str
    changed_names: frozenset[str] = frozenset()
    changed_in: dict[str, set[str]] = field(default_factory=dict)
    changed_classes: frozenset[str] = frozenset()
    models: tuple[str, ...] = ("model",)
    optimizers: tuple[str, ...] = ("optimizer",)
    losses: tuple[str, ...] = ("loss",)
    scaler: str | None = None
    framework: None = None
    graph: Graph = field(default_factory=Graph)


@dataclass(frozen=True)
class Decision:
    step: Step
    word: str = "convert"
    code: str | None = "AMP806"
    reason: str = "It is a float32 training step"
    uncalled: None = None


class ProofFailed(Exception):
    pass


def read(tree, target, line_length, owned):
    if "crash" in tree.source.text:
        raise KeyError("a bug")
    words = [Word(m[0], Span(*m.span())) for m in re.finditer(r"\w+", tree.source.text)]
    steps = [Step(Span(*m.span()), m[1]) for m in re.finditer(r"def (step_\w+)\(\):\n(?: .*\n)+", tree.source.text)]
    return SimpleNamespace(code=SimpleNamespace(tree=tree), uses=tuple(words), steps=tuple(steps))


class EraseFailed(Exception):
    pass


def erase_text(text, paths=()):
    if "stuck" in text or "f(" in text:
        raise EraseFailed("it is stuck")
    return text.replace("scaler.", "")


def prove(before, after, fixes, paths=(), owned=None):
    if "cured" in after and "cured" not in before:
        raise ProofFailed("the comment of line 1 was lost")


def renames(old: str, new: str, applicability: Applicability = Applicability.SAFE):
    def check(word: Word) -> Iterator[Finding]:
        if word.text == old:
            fix = Fix(f"Use `{new}`", (Edit(word.span, new),), applicability)
            yield Finding(word.span, f"`{old}` is old", fix, (Note("The file begins here", Span(0, 6)),))

    return check


def converts(decision: Decision) -> Iterator[Finding]:
    body = decision.step.span.end
    if not decision.step.where.endswith("_done"):
        end = decision.step.span.start + 4 + len(decision.step.where)
        edits = (Edit(Span(end, end), "_done"), Edit(Span(body, body), "    old_scaler\n"))
        yield Finding(Span(decision.step.span.start, end), "This step runs in float32", Fix("Convert it", edits))


RULES = [
    Rule("AMP801", "old-name", Severity.WARNING, Word, renames("old", "new")),
    Rule("AMP802", "risky-name", Severity.ERROR, Word, renames("risky", "safe", Applicability.UNSAFE)),
    Rule("AMP803", "sick-name", Severity.INFO, Word, renames("sick", "cured")),
    Rule("AMP804", "tick", Severity.INFO, Word, renames("tick", "tock")),
    Rule("AMP805", "tock", Severity.INFO, Word, renames("tock", "tick")),
    Rule("AMP806", "plain-step", Severity.INFO, Decision, converts),
]


os.environ["AMPIFY_NO_CACHE"] = "1"  # the tests of the cache ask for it

ANYTHING = ((),)
"""What a rule needs that needs nothing."""


def forget_screens():
    screen.of_rules.cache_clear()
    screen.of_steps.cache_clear()


@pytest.fixture
def fakes(monkeypatch):
    """Fake model, planner, eraser, proof and rules."""
    functions = {
        "ampify.model.find": {"read": read},
        "ampify.rewrite.plan": {
            "decide": lambda step, settings, importer=None, owned=1, asked=None: Decision(step),
            "Asked": object,
        },
        "ampify.rewrite.ghosts": {"Program": lambda model, decide: model},
        "ampify.rewrite.prove": {"prove": prove, "ProofFailed": ProofFailed},
        "ampify.rewrite.erase": {"erase_text": erase_text, "EraseFailed": EraseFailed},
    }
    for name, members in functions.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    rules = {rule.code: rule for rule in RULES}
    monkeypatch.setattr("ampify.rule.load", lambda: rules)
    monkeypatch.setattr("ampify.screen.NEEDS", ((ANYTHING, tuple(rules)),))
    monkeypatch.setattr("ampify.screen.STEP", ANYTHING)
    forget_screens()
    yield
    forget_screens()
