"""Instructions of the start of ampify, in starts of Python: `python benchmarks/startup.py [SCRIPT...]`.

Callgrind counts them, so they do not depend on how busy the machine is; it comes with `valgrind`. Scripts that are
given are counted as well. Exits with 1 where a start costs more than its bound, as `tests/test_startup.py` asks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLAIN = "def double(x):\n    return 2 * x\n"
IDLE = f"import torch\n\n\n{PLAIN}"
"""Where a name is that could lead to mixed precision, and no more."""
STARTS = {
    "ampify --version": (["--version"], 2.5),
    "a file without torch": (["plain/a.py"], 3),
    "a file without a candidate": (["idle/a.py"], 3),
    "the same with settings": (["set/a.py"], 6),
}
"""Arguments, and the bound: the goal of `docs/performance.md`, or half as much again as was measured."""


def counts(scripts: list[str]) -> Iterator[tuple[str, float, float | None]]:
    """What is started, what it costs in starts of Python, and its bound."""
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder))
        bare = _instructions(["-c", "pass"], folder)
        asked = {**STARTS, **{script: ([os.path.abspath(script), "--no-cache"], None) for script in scripts}}  # noqa: PTH100
        for name, (words, bound) in asked.items():
            command = ["-m", "ampify", *words]
            yield name, _instructions(command, folder) / bare, bound


def _write(folder: Path) -> None:
    texts = {"plain/a.py": PLAIN, "idle/a.py": IDLE, "set/a.py": IDLE, "set/ampify.toml": "select = ['AMP2']\n"}
    for name, text in texts.items():
        Path(folder, name).parent.mkdir(exist_ok=True)
        Path(folder, name).write_text(text, "utf-8")


def _instructions(arguments: list[str], folder: str) -> int:
    _python(arguments, folder)  # compiles what is imported
    counted = _python(arguments, folder, "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null").stderr
    found = re.search(r"Collected : (\d+)", counted)
    assert found is not None, counted
    return int(found[1])


def _python(arguments: list[str], folder: str, *before: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AMPIFY", "COV"))}
    environment = kept | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": f"{folder}/pycache", "PYTHONHASHSEED": "0"}
    command = [*before, sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def main() -> None:
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not on the PATH: no instructions are counted")
    failed = False
    print("| start | starts of Python | bound |\n| --- | --- | --- |")
    for name, cost, bound in counts(sys.argv[1:]):
        failed |= bound is not None and cost > bound
        print(f"| {name} | {cost:.2f} | {'' if bound is None else bound} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
