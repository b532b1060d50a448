"""Every conversion fixture, verified: the ladder holds on the CPU, and every inserted line is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ampify.verify.ladder import climb
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.workers import Workers

LOOPS = Path(__file__).parents[1] / "fixtures" / "loops"
NAMES = sorted(path.name.removesuffix(".amp.py") for path in LOOPS.glob("*.amp.py"))


# Scripts that look at the gradients and leave a step out themselves: an overflow never comes to the scaler's step
GUARDED = {"c40_nan_guards"}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:

    with Workers(env={"OMP_NUM_THREADS": "1"}) as opened:
        yield opened


@pytest.mark.parametrize("name", NAMES)
def test_the_ladder_holds_for_a_fixture(name: str, workers: Workers, tmp_path: Path) -> None:
    script = LOOPS / f"{name}.py"
    candidate = (LOOPS / f"{name}.amp.py").read_text("utf-8")
    sources = Sources({}, {script: candidate}, "given")
    request = Request(script=script, cwd=tmp_path, device="cpu")
    verdict = climb(request, sources=sources, workers=workers)
    status = {level.name: level.status for level in verdict.levels}
    assert verdict.word == "PLUMBING-EQUIVALENT", (verdict.reason, verdict.first)
    assert status["L0"] == status["L1"] == "holds"
    expected = "holds" if "GradScaler(" in candidate else "not applicable"
    assert status["L2"] == status["ledger"] == expected
    assert status["L2s"] == ("not run" if name in GUARDED else expected)
