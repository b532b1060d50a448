"""Seeded conversion mistakes: who catches each is what docs/mutation-matrix.md says; correct conversions are silent."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutants import LOOPS, MUTANTS, Loop, Mutant, Optimizer

from ampify.config import Settings
from ampify.engine import check_text, fix_text
from ampify.rewrite.erase import erase_text
from ampify.verify.ladder import climb
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.workers import Workers

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "mutation_matrix.py"))
ROWS = SCRIPT["TABLE"].read_text("utf-8").removeprefix(SCRIPT["HEAD"]).splitlines()
CORRECT = [(loop, optimizer) for loop in LOOPS for optimizer in loop.optimizers]
SEEDS = range(20)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(env={"OMP_NUM_THREADS": "1"}) as opened:
        yield opened


@pytest.mark.parametrize(("number", "mutant"), list(enumerate(MUTANTS)), ids=[mutant.name for mutant in MUTANTS])
def test_a_mistake_is_caught_as_the_table_says(number: int, mutant: Mutant, workers: Workers, tmp_path: Path) -> None:
    verdicts = {o.name: SCRIPT["verify"](mutant, o, tmp_path, workers) for o in mutant.loop.optimizers}
    assert all(verdict.level("L0").status == "holds" for verdict in verdicts.values())
    found = {name: SCRIPT["caught_by"](verdict) for name, verdict in verdicts.items()}
    assert SCRIPT["row"](mutant, found) == ROWS[number]
    if mutant.name not in SCRIPT["HARMLESS"]:
        assert SCRIPT["rules"](mutant) or all(found.values())
    else:
        assert not SCRIPT["rules"](mutant)
        assert not any(found.values())


def test_the_table_has_a_row_for_each_mistake() -> None:
    assert len(ROWS) == len(MUTANTS) == len({mutant.name for mutant in MUTANTS})
    assert SCRIPT["TABLE"].read_text("utf-8").startswith(SCRIPT["HEAD"])
    assert {mutant.name for mutant in MUTANTS} >= set(SCRIPT["HARMLESS"])


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)
def test_the_correct_conversion_is_what_the_converter_writes(loop: Loop) -> None:
    settings = Settings(line_length=120)
    assert fix_text(loop.original, settings)[0] == loop.converted
    assert erase_text(loop.converted) == loop.original
    codes = {finding.code for finding in check_text(loop.converted, settings)}
    assert codes == ({"AMP222"} if "scheduler.step()" in loop.original else set())  # it moves on when a step is skipped


@pytest.mark.parametrize("seed", SEEDS)
def test_a_correct_conversion_raises_no_alarm(seed: int, workers: Workers, tmp_path: Path) -> None:
    for loop, optimizer in CORRECT[seed % 6 :: 6]:
        levels = climb_correct(loop, optimizer, seed, workers, tmp_path)
        assert set(levels.values()) <= {"holds", "not run"}, (loop.name, optimizer.name, levels)
        assert levels["L0"] == levels["L1"] == levels["L2"] == levels["L2s"] == "holds"


def climb_correct(loop: Loop, optimizer: Optimizer, seed: int, workers: Workers, folder: Path) -> dict[str, str]:
    script = folder / "train.py"
    original, converted = optimizer.spell(loop.original), optimizer.spell(loop.converted)
    script.write_text(original, "utf-8")
    request = Request(script=script, cwd=folder, device="cpu", seed=seed)
    verdict = climb(request, sources=Sources({script: original}, {script: converted}, "given"), workers=workers)
    return {level.name: level.status for level in verdict.levels}
