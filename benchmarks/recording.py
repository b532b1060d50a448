"""What recording costs: time per step of a GPT with and without it, in one run on one machine, as a ratio.

On CUDA the model has 162M parameters in mixed precision, on the CPU it is a small one in float32. Plain and recorded
runs take turns, so that a machine that warms up or is shared slows both. ``python benchmarks/recording.py``
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from ampify.config import Settings
from ampify.engine import fix_text
from ampify.verify.job import Job
from ampify.verify.workers import Workers

GPT = Path(__file__).parents[1] / "fixtures" / "verify" / "gpt.py"
WARMUP = 5
LARGE = ("--batch-size", "8", "--accumulate", "1")
SMALL = tuple(shlex.split("--layers 2 --width 128 --heads 4 --vocabulary 512 --context 64 --accumulate 1"))


def times(workers: Workers, folder: Path, arguments: tuple[str, ...], steps: int, *, record: bool) -> list[float]:
    """Milliseconds of each step of one run: from end to end of a step on CUDA, else as the script prints them."""
    job = Job(
        out=workers.arm("recorded" if record else "plain"),
        script=GPT,
        argv=(*arguments, "--steps", "100000"),
        cwd=folder,
        overlay={GPT: folder / "converted.py"},
        roots=(GPT.parent,),
        steps=100000,
        record=record,
        bench={"warmup": WARMUP, "iterations": steps},
        deterministic=False,
    )
    outcome = workers.run(job)
    found = outcome.record.named("bench")
    if not found:
        raise RuntimeError(f"the run ended before it was measured:\n{outcome.output}")
    printed = [float(line.split()[-2]) for line in outcome.output.splitlines() if line.endswith(" ms")]
    return list(found[0]["times_ms"]) or printed[WARMUP:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of each run, after five to warm up")
    options = parser.parse_args()
    arguments = LARGE if torch.cuda.is_available() else SMALL
    plain, recorded = [], []
    with tempfile.TemporaryDirectory() as name, Workers(sys.executable) as workers:
        folder = Path(name)
        (folder / "converted.py").write_text(fix_text(GPT.read_text("utf-8"), Settings())[0], "utf-8")
        for _ in range(options.rounds):
            plain += times(workers, folder, arguments, options.steps, record=False)
            recorded += times(workers, folder, arguments, options.steps, record=True)
    before, after = statistics.median(plain), statistics.median(recorded)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(
        f"{device}, torch {torch.__version__}: {before:.1f} ms a step, {after:.1f} ms recorded, x{after / before:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
