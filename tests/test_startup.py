"""The start of ampify costs no more than its bounds, in instructions; `tests/test_door.py` asks for its imports."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "startup.py"


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind, which counts instructions, is not on the PATH")
def test_a_start_costs_no_more_than_its_bound() -> None:
    spec = importlib.util.spec_from_file_location("startup", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    startup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(startup)
    found = list(startup.counts([]))
    assert [name for name, _, _ in found] == [*startup.STARTS]
    assert [(name, cost, bound) for name, cost, bound in found if not 1 < cost < bound] == []
