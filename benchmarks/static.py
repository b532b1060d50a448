"""What a check costs against the peers on the PATH, as ratios of CPU time from interleaved runs. Fetches nothing.

``python benchmarks/static.py TREE... [--rounds 3] [--peers ruff,torchfix,pyupgrade]`` prints a Markdown table: medians
of CPU seconds (children included), the ratio of each peer, and peak memory; then the instructions of the start-up,
where `valgrind` is there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

AMPIFY = [sys.executable, "-m", "ampify"]
PEERS = {
    "ruff": ["ruff", "check", "--no-cache", "--silent"],
    "torchfix": ["torchfix", "--select=ALL"],
    "pyupgrade": ["pyupgrade", "--py311-plus"],
}


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds and megabytes of one run."""

    cpu: float
    memory: float


def run(command: list[str]) -> Cost:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # it has been waited for
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def commands(tree: Path, cache: Path, peers: list[str]) -> dict[str, list[str]]:
    files = [str(path) for path in sorted(tree.rglob("*.py"))]
    own = {
        "ampify, cold": [*AMPIFY, str(tree), "--no-cache", "-q"],
        "ampify, warm": [*AMPIFY, str(tree), "--cache-dir", str(cache), "-q"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    given = {"pyupgrade": files}
    return own | {peer: [*PEERS[peer], *given.get(peer, [str(tree)])] for peer in peers}


def table(tree: Path, rounds: int, peers: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        asked = commands(tree, Path(folder), peers)
        run(asked["ampify, warm"])
        costs: dict[str, list[Cost]] = {name: [] for name in asked}
        for _ in range(rounds):
            for name, command in asked.items():
                costs[name].append(run(command))
    cold = statistics.median(cost.cpu for cost in costs["ampify, cold"])
    rows = []
    for name, found in costs.items():
        cpu, memory = statistics.median(c.cpu for c in found), max(c.memory for c in found)
        rows.append(f"| {tree.name} | {name} | {cpu:.3f} | {cold / cpu:.2f} | {memory:.0f} |")
    return rows


def instructions(*arguments: str) -> float:
    """Millions of instructions of a Python process, which do not depend on how busy a machine is."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    found = re.search(r"refs:\s+([\d,]+)", said)
    assert found is not None, said
    return int(found[1].replace(",", "")) / 1e6


def start_up() -> list[str]:
    """The instructions of starts, and of one file with nothing to look at in it."""
    if shutil.which("valgrind") is None:
        return ["valgrind is not on the PATH: no instructions are counted"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.py")
        file.write_text("import torch\n\n\ndef double(x):\n    return 2 * x\n", "utf-8")
        bare = instructions("-c", "pass")
        counts = {
            "python -c pass": bare,
            "ampify --version": instructions("-m", "ampify", "--version"),
            "ampify, one file without a candidate": instructions("-m", "ampify", str(file), "--no-cache"),
        }
    return [f"| {name} | {count:.0f} | {count / bare:.1f} |" for name, count in counts.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(PEERS))
    options = parser.parse_args()
    asked = [peer for peer in options.peers.split(",") if peer]
    there = [peer for peer in asked if shutil.which(peer)]
    for peer in sorted({*asked} - {*there}):
        print(f"{peer} is not on the PATH")
    print("| tree | program | CPU s | ampify, cold, against it | peak MB |\n| --- | --- | --- | --- | --- |")
    for tree in options.trees:
        print("\n".join(table(tree, options.rounds, there)), flush=True)
    print("\n| start | million instructions | of bare Python |\n| --- | --- | --- |")
    print("\n".join(start_up()))


if __name__ == "__main__":
    main()
