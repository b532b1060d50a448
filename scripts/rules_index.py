"""Writes the indexes of the rules: ``rules/README.md`` for people, from the rules and their pages, and
``ampify/index.py``, which tells what they need a file to say. ``--check`` only compares.

New codes are added to ``docs/codes.txt``, from which none is ever taken out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ampify.diagnostic import TOOL_CODES
from ampify.rule import Rule, load
from ampify.rules import FOLDER
from ampify.source.needles import Needs

README = FOLDER / "README.md"
INDEX = Path(__file__).parents[1] / "ampify" / "index.py"
CODES = Path(__file__).parents[1] / "docs" / "codes.txt"
HEAD = """\
# The rules

Written by `python scripts/rules_index.py`; do not edit by hand.

A rule is a pair: `<name>.py` is the check, `<name>.md` its page. The page is what `ampify explain CODE` prints, and it
is the test of the rule (`tests/test_rule_pages.py`):

- `# error: CODE` ends each line of an example that the rule reports; no other line is reported.
- The block after "Use instead:" is what the fix makes of the block above it, exactly.
- The block after "Write by hand:" shows what to write where there is no fix.
- The rule is silent on those blocks and on the blocks under "Not flagged".
- `# settings: target-torch=1.9` and `# file: train.py` at the head of a block say how it is checked; several
  `# file:` lines make a project. A block that says `torch.`, `nn.` or `F.` and imports nothing is checked with the
  usual import above it.
- "Fix safety" begins with Safe, Unsafe or None.

A rule that is mostly a table keeps it in `<name>.toml`.

| code | name | severity | fix |
| --- | --- | --- | --- |
"""
NEEDS_HEAD = '''\
"""What each rule needs a file to say: known without importing the rules. Written by `scripts/rules_index.py`."""

# ruff: noqa: E501, RUF100
# fmt: off

NEEDS = (
'''


def index() -> str:
    return HEAD + "".join(f"{row(rule)}\n" for rule in load().values())


def row(rule: Rule) -> str:
    page = rule.page
    return (
        f"| {rule.code} | [{rule.name}]({page.name}) | {rule.severity.name.lower()} | {fix(page.read_text('utf-8'))} |"
    )


def fix(page: str) -> str:
    """The kinds of fix that the first sentence of "Fix safety" names."""
    section = page.partition("## Fix safety\n\n")[2]
    sentence = re.split(r"\.\s", section, maxsplit=1)[0]
    return ", ".join(dict.fromkeys(re.findall(r"\b(safe|unsafe)\b", sentence.lower()))) or "none"


def needs() -> str:
    """The module with the needs of all rules, each distinct one once."""
    codes: dict[Needs, list[str]] = {}
    for code, rule in load().items():
        codes.setdefault(rule.needs, []).append(code)
    rows = "".join(f"    {(needs, tuple(found))!r},\n" for needs, found in codes.items())
    return f"{NEEDS_HEAD}{rows})\n"


def codes(text: str) -> str:
    """The list of all codes, with those that are new."""
    lines = text.splitlines()
    head, known = [line for line in lines if line.startswith("#")], [line for line in lines if line.startswith("AMP")]
    used = {line.split()[0] for line in known}
    names = {code: row.name for table in (load(), TOOL_CODES) for code, row in table.items()}
    new = [f"{code} {name}" for code, name in names.items() if code not in used]
    return "\n".join([*head, *sorted([*known, *new])]) + "\n"


def main() -> int:
    wanted = {README: index(), INDEX: needs(), CODES: codes(CODES.read_text("utf-8"))}
    if "--check" in sys.argv[1:]:
        return int(any(path.read_text("utf-8") != text for path, text in wanted.items()))
    for path, text in wanted.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
