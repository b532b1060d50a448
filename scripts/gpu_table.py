"""Makes the table of ``scripts/gpu_check.sh`` from the folder of its results: ``gpu_table.py FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

LEVELS = ("L0", "L1", "L2", "L2s", "ledger", "L3")
HEAD = """\
# On a CUDA device

Written by `scripts/gpu_check.sh CHECKOUTS WHEELS OUT`, which puts `scripts/gpu_table.py OUT` into `OUT/gpu-results.md`.
The scripts are those of pytorch/examples, eriklindernoren/PyTorch-GAN and weiaicunzai/pytorch-cifar100 as they were
checked out, and those of `fixtures/verify`.

"""
NOTES = """
`dcgan-logits` is the script of `dcgan` with `BCEWithLogitsLoss` in the place of a sigmoid and `BCELoss`. The levels are
those of `ampify verify --numerics`, of `ddp` without L3. Times are medians in milliseconds for each step of the first
optimizer, as `ampify verify --bench` takes them; a script whose data loading takes longer than its training gains
nothing. Memory is the peak with AMP in parts of that in float32. "Low precision" is the share of the matrix work done
in float16 or bfloat16.
"""


def main(folder: Path) -> str:
    names = sorted(path.name.removesuffix(".json") for path in folder.glob("*.json") if ".bench" not in path.name)
    rows = [row(name, verdict(folder / f"{name}.json"), read(folder / f"{name}.bench.json")) for name in names]
    columns = ("script", "verdict", *LEVELS, "float32", "TF32", "AMP", "speed-up", "memory", "low precision")
    table = [columns, ("---",) * len(columns), *rows]
    reasons = [f"- {name}: {why}" for name in names if (why := reason(verdict(folder / f"{name}.json")))]
    parts = [HEAD, said(folder / "device"), "\n", *(f"| {' | '.join(cells)} |\n" for cells in table), NOTES]
    parts += ["\n", "\n".join(reasons), "\n"] if reasons else []
    parts += ["\nTests marked `gpu`: ", last_line(folder / "tests.log"), "\n"]
    parts += ["\nRecording (`benchmarks/recording.py`): ", last_line(folder / "recording.log"), "\n"]
    return "".join(parts)


def verdict(path: Path) -> dict[str, Any]:
    """The only verdict of a report."""
    return dict(next(iter(read(path).get("verdicts", ())), {}))


def read(path: Path) -> dict[str, Any]:
    """Empty where the run was cut off."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def row(name: str, ladder: dict[str, Any], bench: dict[str, Any]) -> tuple[str, ...]:
    levels = {level["name"]: level["status"] for level in ladder.get("levels", ())}
    ms = {run["setting"]: median(run["times_ms"]) for run in bench.get("runs", ())}
    peak = {run["setting"]: run["peak_bytes"] for run in bench.get("runs", ())}
    against = [f"x{ms[other] / ms['AMP']:.2f}" for other in ("float32", "TF32") if ms.keys() >= {other, "AMP"}]
    share = bench.get("share")
    return (
        name,
        ladder.get("word", "did not end"),
        *(levels.get(level, "-") for level in LEVELS),
        *(f"{ms[setting]:.1f}" if setting in ms else "-" for setting in ("float32", "TF32", "AMP")),
        ", ".join(against) or "-",
        f"x{peak['AMP'] / peak['float32']:.2f}" if peak.get("float32") and "AMP" in peak else "-",
        "-" if share is None else f"{share:.0%}",
    )


def reason(ladder: dict[str, Any]) -> str:
    """Why there is no better word: the verdict's reason, else what the first level that fails says."""
    failing = [level["summary"] for level in ladder.get("levels", ()) if level["status"] == "fails"]
    return " ".join((ladder.get("reason") or next(iter(failing), "")).split())


def said(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def last_line(path: Path) -> str:
    """The last line that a program printed, which is what it found."""
    return next((line for line in reversed(said(path).splitlines()) if line.strip()), "not run")


if __name__ == "__main__":
    sys.stdout.write(main(Path(sys.argv[1])))
