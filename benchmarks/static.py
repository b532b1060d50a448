"""What checks and fixes cost against the peers on the PATH, as ratios from interleaved runs. Fetches nothing.

``python benchmarks/static.py --large TREE --dense TREE --idle TREE... --scripts TREE... --fix TREE --tenfold TREE
--jobs TREE [--rounds 3]`` prints Markdown tables: by tree and program the medians of CPU seconds (children included),
wall seconds and peak memory; then the ratios, each with its goal (`startup.py` counts the instructions of starts). The
trees: a library with some mixed precision (`transformers`), one with much of it
(`diffusers`), those without any, training scripts, one to mend copies of, one to copy ten times.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

AMPIFY = [sys.executable, "-m", "ampify"]
BARE = [sys.executable, "-c", "pass"]
RUFF = ["ruff", "check", "--no-cache", "--silent"]
TORCHFIX = ["torchfix", "--select=ALL"]
PYUPGRADE = ["pyupgrade", "--py311-plus"]
TEN = 10
_OFF = ("PYTHONDONTWRITEBYTECODE", "AMPIFY_NO_CACHE")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in _OFF}
"""What is installed is compiled, so a checkout is to be as well; and the cache is measured."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command on a tree; one that changes the tree gets a copy of it each time."""

    command: Sequence[str]
    changes: bool = False
    lists: bool = False
    """It wants files, not a folder."""

    @property
    def there(self) -> bool:
        return shutil.which(self.command[0]) is not None

    def on(self, tree: Path) -> list[str]:
        return [*self.command, *(map(str, sorted(tree.rglob("*.py"))) if self.lists else [str(tree)])]


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU and wall seconds, and megabytes of the largest of the processes."""

    cpu: float
    wall: float
    memory: float

    @staticmethod
    def median(costs: Sequence[Cost]) -> Cost:
        cpu, wall, memory = zip(*((cost.cpu, cost.wall, cost.memory) for cost in costs), strict=True)
        return Cost(statistics.median(cpu), statistics.median(wall), max(memory))


def run(program: Program, tree: Path) -> Cost:
    if program.changes:
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copytree(tree, Path(folder, tree.name), symlinks=True)
            return timed(program.on(copy))
    return timed(program.on(tree))


def timed(command: list[str]) -> Cost:
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # it has been waited for
    return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - began, usage.ru_maxrss / 1000)


def compile_all() -> None:
    """Have Python compile what ampify imports to look at a training step."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.py").write_text("import torch\n\ntorch.ones(1).sum().backward()\n", "utf-8")
        timed([*AMPIFY, folder, "--cache-dir", f"{folder}/cache"])


def compared(tree: Path, programs: Mapping[str, Program], rounds: int) -> dict[str, Cost]:
    """The medians of each program that is on the PATH, which take turns; printed, too."""
    costs: dict[str, list[Cost]] = {name: [] for name, program in programs.items() if program.there}
    for _ in range(rounds):
        for name, found in costs.items():
            found.append(run(programs[name], tree))
    medians = {name: Cost.median(found) for name, found in costs.items()}
    for name, cost in medians.items():
        print(f"| {tree.name} | {name} | {cost.cpu:.3f} | {cost.wall:.3f} | {cost.memory:.0f} |", flush=True)
    return medians


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio, and how large it may be."""

    what: str
    ratio: float
    most: float

    @property
    def row(self) -> str:
        return f"| {self.what} | {self.ratio:.3g} | {self.most:.3g} | {'yes' if self.ratio <= self.most else 'no'} |"


def ratios(tree: Path, found: Mapping[str, Cost], goals: Mapping[tuple[str, str], float]) -> list[Goal]:
    """The CPU time of one program against that of another, where both were there."""
    return [
        Goal(f"{tree.name}: {one} / {other}", found[one].cpu / found[other].cpu, most)
        for (one, other), most in goals.items()
        if one in found and other in found
    ]


COLD = Program([*AMPIFY, "--no-cache", "-q", "-j1"])


def large(tree: Path, rounds: int, most: float = 1.5) -> list[Goal]:
    with tempfile.TemporaryDirectory() as folder:
        warm = Program([*AMPIFY, "--cache-dir", folder, "-q", "-j1"])
        run(warm, tree)
        programs = {"cold": COLD, "ruff": Program(RUFF), "warm": warm, "bare Python": Program(BARE)}
        found = compared(tree, programs, rounds)
    goals = {("cold", "ruff"): most, ("warm", "cold"): 1 / 8, ("warm", "bare Python"): 8}
    return ratios(tree, found, goals)


def idle(tree: Path, rounds: int) -> list[Goal]:
    cold = Program([*AMPIFY, "--no-cache", "-q"])  # no process is started where there is nothing to do
    return ratios(tree, compared(tree, {"cold": cold, "ruff": Program(RUFF)}, rounds), {("cold", "ruff"): 0.5})


def scripts(tree: Path, rounds: int) -> list[Goal]:
    programs = {"cold": COLD, "ruff": Program(RUFF), "torchfix": Program(TORCHFIX)}
    found = compared(tree, programs, rounds)
    return ratios(tree, found, {("cold", "ruff"): 40, ("cold", "torchfix"): 1 / 12})


def processes(tree: Path, rounds: int) -> list[Goal]:
    """Wall time, which says something only while nothing else uses the cores."""
    two = Program([*AMPIFY, "--no-cache", "-q", "-j2"])
    found = compared(tree, {"one process": COLD, "two processes": two}, rounds)
    ratio = found["two processes"].wall / found["one process"].wall
    return [Goal(f"{tree.name}: wall, two processes / one", ratio, 0.75)]


def fixes(tree: Path, rounds: int) -> list[Goal]:
    mend = Program([*AMPIFY, "--fix", "--no-cache", "-q", "-j1"], changes=True)
    pyupgrade = Program(PYUPGRADE, changes=True, lists=True)
    found = compared(tree, {"--fix": mend, "pyupgrade": pyupgrade}, rounds)
    return ratios(tree, found, {("--fix", "pyupgrade"): 3})


def tenfold(tree: Path, rounds: int) -> list[Goal]:
    with tempfile.TemporaryDirectory() as folder:
        copies = Path(folder, f"{tree.name} x {TEN}")
        for number in range(TEN):
            shutil.copytree(tree, copies / f"copy{number}", symlinks=True, ignore=shutil.ignore_patterns(".git"))
        one, ten = compared(tree, {"cold": COLD}, rounds)["cold"], compared(copies, {"cold": COLD}, rounds)["cold"]
    return [
        Goal(f"{tree.name}: ten times the tree / once", ten.cpu / one.cpu, 11),
        Goal(f"{tree.name}: MB at ten times the tree", ten.memory, 150),
    ]


KINDS: Mapping[str, Callable[[Path, int], list[Goal]]] = {
    "large": large,
    "dense": partial(large, most=3),
    "idle": idle,
    "scripts": scripts,
    "fix": fixes,
    "tenfold": tenfold,
    "jobs": processes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", nargs="*", type=Path, default=[])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    compile_all()
    print("| tree | program | CPU s | wall s | peak MB |\n| --- | --- | --- | --- | --- |")
    goals = []
    for kind, measure in KINDS.items():
        goals += [goal for tree in getattr(options, kind) for goal in measure(tree, options.rounds)]
    print("\n| what | measured | at most | |\n| --- | --- | --- | --- |")
    print("\n".join(goal.row for goal in goals))


if __name__ == "__main__":
    main()
