"""Hooks of mkdocs: the pages of the rules are read where they lie, and the navigation names what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from ampify.diagnostic import TOOL_CODES

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "rules"
TOOL = "rules/tool.md"
_TITLE = re.compile(r"# (?P<code>AMP\d{3}) ")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out what is not there, and list every rule."""
    config.nav = [
        *_there(config.nav or [], Path(config.docs_dir)),
        {"Rules": ["rules/README.md", *map(_source, _rules()), TOOL]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the rules, whose links to one another stay as they are."""
    for page in (RULES / "README.md", *_rules()):
        files.append(File.generated(config, _source(page), content=page.read_text("utf-8")))
    files.append(File.generated(config, TOOL, content=_tool()))
    return files


def _tool() -> str:
    """What ampify says about its own work."""
    rows = (
        f"| {code} | {row.name} | {row.severity.name.lower()} | {row.meaning} |" for code, row in TOOL_CODES.items()
    )
    return "\n".join(
        ("# AMP900 to AMP905", "", "| code | name | severity | meaning |", "| --- | --- | --- | --- |", *rows)
    )


def _rules() -> list[Path]:
    """The pages, in the order of their codes."""
    titles = {page: _TITLE.match(page.read_text("utf-8")) for page in RULES.glob("*.md")}
    return sorted((page for page, title in titles.items() if title), key=lambda page: str(titles[page]))


def _source(page: Path) -> str:
    return f"rules/{page.name}"


def _there(nav: list[Any], docs: Path) -> list[Any]:
    """The entries whose files exist; a heading without any is left out."""
    found: list[Any] = []
    for entry in nav:
        title, target = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(target, list):
            target = _there(target, docs)
        elif not (docs / target).is_file():
            continue
        if target:
            found.append({title: target} if title else target)
    return found
