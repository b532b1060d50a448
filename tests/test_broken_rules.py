"""A rule that is broken on purpose fails its page: every condition turned round, every finding left out.

A page shows which lines are reported and what the fix makes of them. Where a condition only chooses words, the words
said of the page must change.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_rule_pages import RULES, Block, blocks, fixed, found, looked_at

from ampify import rule as registry
from ampify.rule import Rule


class Mutation(ast.NodeTransformer):
    """Breaks the condition, or the finding, with the number ``at``."""

    def __init__(self, at: int) -> None:
        self.at, self.seen, self.what = at, 0, ""

    def _hit(self, node: ast.AST, what: str) -> bool:
        self.seen += 1
        if self.seen - 1 != self.at:
            return False
        self.what = f"{what} `{ast.unparse(node)}`"
        return True

    def visit_If(self, node: ast.If) -> ast.AST:
        if self._hit(node.test, "turned round"):
            node.test = ast.UnaryOp(ast.Not(), node.test)
        return self.generic_visit(node)

    def visit_Yield(self, node: ast.Yield) -> ast.AST:
        return ast.Constant(None) if self._hit(node, "left out") else node

    def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.AST:
        return ast.Constant(None) if self._hit(node, "left out") else node


def mutants(rule: Rule) -> Iterator[tuple[str, Callable[[Any], Iterator[Any]]]]:
    """What was broken in the module of a rule, and the check that it has then."""
    path = Path(rule.page).with_suffix(".py")
    at = 0
    while True:
        mutation = Mutation(at)
        tree = ast.fix_missing_locations(mutation.visit(ast.parse(path.read_text("utf-8"))))
        if not mutation.what:
            return
        at += 1
        module = types.ModuleType(rule.check.__module__)
        module.__file__ = str(path)
        registry._RULES.pop(rule.code)
        try:
            exec(compile(tree, str(path), "exec"), module.__dict__)
            check = registry._RULES[rule.code].check
        except Exception:  # noqa: BLE001 - no rule at all is left
            continue
        finally:
            registry._RULES[rule.code] = rule
        yield mutation.what, lambda subject, check=check: iter(check(subject) or ())


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_broken_rule_fails_its_page(rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = [*pairwise([*blocks(rule.page), None])]
    right = said(rule, tmp_path)
    survived = []
    for what, check in mutants(rule):
        monkeypatch.setitem(registry._RULES, rule.code, replace(rule, check=check))
        holds = all(_holds(block, below, tmp_path) for block, below in page if block is not None)
        if holds and said(rule, tmp_path) == right:
            survived.append(what)
    assert survived == []


def said(rule: Rule, folder: Path) -> list[object]:
    """All that is said of the blocks of a page."""
    return [
        (d.span, d.message, d.severity, [note.message for note in d.notes])
        for block in blocks(rule.page)
        for _, findings in looked_at(block, folder)
        for d in findings
    ]


def _holds(block: Block, below: Block | None, folder: Path) -> bool:
    """Whether the broken rule still does what this block of the page says. A crash is a failure, too."""
    try:
        if found(block, folder) != block.marks:
            return False
        if below is None or below.role not in ("fixed", "by hand"):
            return True
        meant = below if below.role == "fixed" else block
        expected = [a.prelude + b.text.removeprefix(b.prelude) for a, b in zip(block.files, meant.files, strict=True)]
        return fixed(block, folder) == expected
    except Exception:  # noqa: BLE001 - whatever a broken rule runs into
        return False
