"""The index of the rules is what its script writes."""

from __future__ import annotations

import runpy
from pathlib import Path

from ampify.rules import FOLDER

SCRIPT = Path(__file__).parents[1] / "scripts" / "rules_index.py"


def test_the_indexes_are_up_to_date() -> None:
    script = runpy.run_path(str(SCRIPT))
    assert (FOLDER / "README.md").read_text("utf-8") == script["index"](), "run `python scripts/rules_index.py`"
    assert script["INDEX"].read_text("utf-8") == script["needs"](), "run `python scripts/rules_index.py`"
