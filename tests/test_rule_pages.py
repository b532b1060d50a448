"""Every rule's page is its test.

A page is ``# CODE name``, one sentence, and the sections Why, Example, Not flagged, Fix safety and References.

* In an example, ``# error: CODE`` ends each line that the rule reports, and no other line is reported.
* The block after "Use instead:" is what the fix makes of the block before it, exactly; it is clean.
* The block after "Write by hand:" is clean, and nothing is written for the block before it.
* Blocks under "Not flagged", of which there are at least three, are clean. Clean means: the page's own rule is silent.
* Comment lines at the head of a block are for the test: ``# settings: target-torch=1.9, unsafe-fixes=true``, and
  ``# file: train.py`` for the name of the file. A block with several ``# file:`` lines is a project of several files.
* A block without any import that says ``torch.``, ``nn.`` or ``F.`` is checked with the usual import of it above.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ampify import engine
from ampify.config import Settings
from ampify.diagnostic import Diagnostic
from ampify.rule import Rule, load
from ampify.rules import FOLDER
from ampify.source.text import SourceText

RULES = load()
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
SECTIONS = ["Why", "Example", "Not flagged", "Fix safety", "References"]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
MARK = re.compile(r"[ \t]*# error: (AMP\d{3})$", re.M)
FILE = re.compile(r"^# file: (\S+)\n", re.M)
SETTINGS = re.compile(r"^# settings: (.+)\n", re.M)
PRELUDE = {"torch": "import torch\n", "nn": "from torch import nn\n", "F": "import torch.nn.functional as F\n"}


@dataclass(frozen=True, slots=True)
class File:
    """One file of a block; ``text`` is what is checked, without the marks."""

    path: str
    prelude: str
    marked: str

    @property
    def text(self) -> str:
        return self.prelude + MARK.sub("", self.marked)

    @property
    def marks(self) -> list[tuple[str, int, str]]:
        above = self.prelude.count("\n") + 1
        return [(self.path, above + self.marked.count("\n", 0, m.start()), m[1]) for m in MARK.finditer(self.marked)]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a page: ``role`` is example, fixed, by hand or clean."""

    files: tuple[File, ...]
    settings: Settings
    role: str
    line: int

    @property
    def marks(self) -> list[tuple[str, int, str]]:
        return sorted(mark for file in self.files for mark in file.marks)


def blocks(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    return [block(m[1], role(text[: m.start()]), code_of(text), text.count("\n", 0, m.start()) + 1)
            for m in BLOCK.finditer(text)]  # fmt: skip


def role(above: str) -> str:
    last = above.rstrip().rpartition("\n")[2]
    section = re.findall(r"^## (.+)$", above, re.M)[-1]
    known = {"Use instead:": "fixed", "Write by hand:": "by hand"}
    return known.get(last, "example" if section == "Example" else "clean")


def block(text: str, role: str, code: str, line: int) -> Block:
    head = SETTINGS.search(text)
    first, *named = FILE.split(SETTINGS.sub("", text, count=1))
    parts = [("example.py", first)] if not named else list(zip(named[::2], named[1::2], strict=True))
    files = tuple(File(path, prelude(part), part) for path, part in parts)
    return Block(files, settings(head[1] if head else "", code), role, line)


def prelude(text: str) -> str:
    if re.search(r"^\s*(import|from) \w", text, re.M):
        return ""
    return "".join(line for name, line in PRELUDE.items() if re.search(rf"(?<![\w.]){name}\.", text))


def settings(line: str, code: str) -> Settings:
    values: dict[str, Any] = {"select": (code,)}
    for name, _, value in (item.strip().partition("=") for item in line.split(",") if item):
        match name:
            case "target-torch":
                values["target_torch"] = tuple(map(int, value.split(".")))
            case "line-length":
                values["line_length"] = int(value)
            case "unsafe-fixes":
                values["unsafe_fixes"] = value == "true"
            case _:
                values[name.replace("-", "_")] = value
    return Settings(**values)


def code_of(page: str) -> str:
    return page.split()[1]


def found(block: Block, folder: Path) -> list[tuple[str, int, str]]:
    """Path, line and code of every finding in the block."""
    return sorted(mark for file, findings in looked_at(block, folder) for mark in marks_of(file, findings))


def looked_at(block: Block, folder: Path) -> Iterator[tuple[File, list[Diagnostic]]]:
    if len(block.files) == 1:
        yield block.files[0], engine.check_text(block.files[0].text, block.settings, block.files[0].path)
        return
    reports = {Path(report.path).name: report for report in project(block, folder, engine.Mode.REPORT).files}
    for file in block.files:
        yield file, list(reports[file.path].diagnostics) if file.path in reports else []


def marks_of(file: File, findings: list[Diagnostic]) -> Iterator[tuple[str, int, str]]:
    source = SourceText(file.text)
    yield from ((file.path, source.line(finding.span.start), finding.code) for finding in findings)


def fixed(block: Block, folder: Path) -> list[str]:
    """The text of each file after the fixes."""
    if len(block.files) == 1:
        return [engine.fix_text(block.files[0].text, block.settings)[0]]
    reports = {Path(report.path).name: report.after for report in project(block, folder, engine.Mode.DIFF).files}
    return [reports.get(file.path, file.text) for file in block.files]


def project(block: Block, folder: Path, mode: engine.Mode) -> engine.Report:
    for file in block.files:
        (folder / file.path).write_text(file.text, "utf-8")
    return engine.check([folder], engine.Run(settings=lambda _: block.settings, mode=mode))


def cases(*roles: str) -> list[Any]:
    """The blocks with these roles, each with the one that stands above it."""
    return [
        pytest.param(before, after, id=f"{path.stem}:{after.line}")
        for path in PAGES
        for before, after in pairwise([None, *blocks(path)])
        if after is not None and after.role in roles
    ]


@pytest.mark.parametrize(("_above", "block"), cases("example"))
def test_marked_lines_are_found_and_no_others(_above: Block | None, block: Block, tmp_path: Path) -> None:
    assert found(block, tmp_path) == block.marks
    assert block.marks, "an example shows something that is reported"


@pytest.mark.parametrize(("bad", "good"), cases("fixed"))
def test_the_fix_gives_what_the_page_says(bad: Block, good: Block, tmp_path: Path) -> None:
    expected = [above.prelude + below.text.removeprefix(below.prelude) for above, below in
                zip(bad.files, good.files, strict=True)]  # fmt: skip
    assert fixed(bad, tmp_path) == expected


@pytest.mark.parametrize(("bad", "_good"), cases("by hand"))
def test_nothing_is_written_where_the_page_says_by_hand(bad: Block, _good: Block, tmp_path: Path) -> None:
    assert fixed(bad, tmp_path) == [file.text for file in bad.files]


@pytest.mark.parametrize(("_above", "block"), cases("fixed", "by hand", "clean"))
def test_clean_blocks_are_clean(_above: Block | None, block: Block, tmp_path: Path) -> None:
    assert not block.marks
    assert found(block, tmp_path) == []


@pytest.mark.parametrize(("_above", "block"), cases("example"))
def test_messages_have_the_form_of_ruff(_above: Block | None, block: Block, tmp_path: Path) -> None:
    for _, findings in looked_at(block, tmp_path):
        for finding in findings:
            assert re.match(r"[A-Z`]", finding.message)
            assert not finding.message.endswith(".")
            assert finding.message.count("`") % 2 == 0


def test_every_rule_has_a_page_and_every_page_a_rule() -> None:
    assert {rule.page for rule in RULES.values()} == set(PAGES)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_page_has_all_its_parts(rule: Rule) -> None:
    text = rule.page.read_text("utf-8")
    head, summary, *_ = text.split("\n\n")
    assert head == f"# {rule.code} {rule.name}"
    assert re.fullmatch(r"[A-Z`][^\n]*(\n[^\n]+)?\.", summary), "one sentence"
    assert re.findall(r"^## (.+)$", text, re.M) == SECTIONS
    assert re.search(r"^## Fix safety\n\n(Safe|Unsafe|None)\b", text, re.M)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_at_least_three_cases_are_not_flagged(rule: Rule) -> None:
    _, _, after = rule.page.read_text("utf-8").partition("\n## Not flagged\n")
    assert len(BLOCK.findall(after.partition("\n## ")[0])) >= 3


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_names_are_words_joined_by_hyphens(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.name)
    assert rule.page.stem == rule.name.replace("-", "_")


def test_tables_and_pages_belong_to_rules() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} <= {path.stem for path in PAGES}
