"""The index of the rules is what its script writes."""

from __future__ import annotations

import runpy
from pathlib import Path

from ampify.rules import FOLDER

SCRIPT = Path(__file__).parents[1] / "scripts" / "rules_index.py"


def test_the_index_is_up_to_date() -> None:
    index = runpy.run_path(str(SCRIPT))["index"]
    assert (FOLDER / "README.md").read_text("utf-8") == index(), "run `python scripts/rules_index.py`"
