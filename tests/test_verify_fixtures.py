"""Every conversion fixture and the training scripts of fixtures/verify, verified on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ampify.verify.ladder import climb
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.workers import Workers

FIXTURES = Path(__file__).parents[1] / "fixtures"
LOOPS = FIXTURES / "loops"
NAMES = sorted(path.name.removesuffix(".amp.py") for path in LOOPS.glob("*.amp.py"))


SCRIPTS = {
    "gpt.py": "--layers 2 --width 32 --heads 2 --vocabulary 64 --context 16 --batch-size 4 --warmup 2 --steps 12",
    "lstm.py": "--vocabulary 50 --embedding 8 --hidden 16 --length 12 --count 192 --batch-size 16 --log-interval 1",
    "ddp.py": "--channels 4 --blocks 1 --size 8 --count 128 --batch-size 4",
}
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")

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


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_training_script_is_converted_and_verified(name: str, tmp_path: Path) -> None:
    script = FIXTURES / "verify" / name
    launch = TORCHRUN if name == "ddp.py" else ()
    request = Request(script=script, args=tuple(SCRIPTS[name].split()), cwd=tmp_path, device="cpu", launch=launch)
    with Workers(env={"OMP_NUM_THREADS": "1"}, launch=launch) as workers:
        verdict = climb(request, workers=workers)
    assert verdict.word == "PLUMBING-EQUIVALENT", (verdict.reason, verdict.details, verdict.first)
    assert verdict.mode == "convert"
    assert {verdict.level(level).status for level in ("L0", "L1", "L2", "L2s", "ledger")} == {"holds"}
    assert list(tmp_path.iterdir()) == []
