"""Writes ``docs/mutation-matrix.md``: who catches which seeded conversion mistake. Runs all of them on the CPU."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ampify.config import Settings
from ampify.engine import check_text
from ampify.verify.ladder import climb
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.verdict import Level, Verdict
from ampify.verify.workers import Workers

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "mutation-matrix.md"

sys.path.insert(0, str(ROOT / "tests"))

from mutants import MUTANTS, Mutant, Optimizer  # noqa: E402 (beside the tests that use it too)

HEAD = """\
# Who catches which mistake

Written by `python scripts/mutation_matrix.py`; `tests/test_mutation_matrix.py` runs every mistake again and compares.

Each row is a small training script (`tests/mutants.py`) whose conversion has one mistake. The columns of the two
optimizers name the levels of `ampify verify` that fail on the CPU, each with what differs first; scripts with two
optimizers, and the penalty, are run with Adam in the place of AdamW. "Rule" names the rules of `ampify check` that
report the mistake without running it. L3 is run only for mistakes that show only when autocast is on, in the dtype that
is given with them, on the CPU.

| mistake | loop | SGD with momentum | Adam or AdamW | rule |
| --- | --- | --- | --- | --- |
"""

EXACT = ("L1", "L2", "L2s")

HARMLESS: Mapping[str, str] = {
    "cross entropy by hand, in half": "harmless with logits of this size: L3 finds what rounding explains",
}
"""Changes that nothing catches, and why nothing has to."""


def verify(mutant: Mutant, optimizer: Optimizer, folder: Path, workers: Workers | None = None) -> Verdict:
    """Climb the ladder with a mutant in the place of the conversion."""
    script = folder / "train.py"
    original = optimizer.spell(mutant.original)
    script.write_text(original, "utf-8")
    sources = Sources({script: original}, {script: optimizer.spell(mutant.text)}, "given")
    request = Request(
        script=script, cwd=folder, device="cpu", numerics=mutant.precision is not None, dtype=mutant.precision
    )
    return climb(request, sources=sources, workers=workers)


def caught_by(verdict: Verdict) -> str:
    """The levels that fail, the exact ones with the channel of their first difference; empty where none does."""
    return ", ".join(_failure(level) for level in verdict.levels if level.status == "fails")


def _failure(level: Level) -> str:
    return f"{level.name} {level.differences[0].channel}" if level.name in EXACT else level.name


def rules(mutant: Mutant) -> str:
    """The codes that the mutant's text is reported for and the correct conversion is not."""
    reported, usual = ({f.code for f in check_text(text, Settings())} for text in (mutant.text, mutant.loop.converted))
    return ", ".join(sorted(reported - usual))


def row(mutant: Mutant, cells: Mapping[str, str]) -> str:
    """One line of the table; ``cells`` by optimizer. A mistake that nobody sees carries its excuse."""
    name = f"{mutant.name} ({mutant.precision})" if mutant.precision else mutant.name
    excuse = f"none: {HARMLESS[mutant.name]}" if mutant.name in HARMLESS else ""
    found = [cells[optimizer.name] or "-" for optimizer in mutant.loop.optimizers]
    return f"| {' | '.join((name, mutant.loop.name, *found, rules(mutant) or excuse or '-'))} |"


def table(workers: Workers, folder: Path) -> str:
    rows = []
    for mutant in MUTANTS:
        verdicts = {o.name: verify(mutant, o, folder, workers) for o in mutant.loop.optimizers}
        rows.append(row(mutant, {name: caught_by(verdict) for name, verdict in verdicts.items()}))
        print(rows[-1], file=sys.stderr)
    return HEAD + "".join(f"{line}\n" for line in rows)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, Workers(env={"OMP_NUM_THREADS": "1"}) as workers:
        TABLE.write_text(table(workers, Path(folder)), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
