"""Runs ampify over checkouts of real repositories: ``corpus.py CHECKOUTS OUT [--jobs N] [NAME …]``.

``corpus.toml`` names the repositories and their commits; ``CHECKOUTS/NAME`` holds each. What was found is kept as JSON
in ``OUT``, and all that is there becomes the table ``docs/corpus.md``, so that a later run shows what moved. What
``--fix`` did is kept beside it as a diff, to be read. The checkouts are copied and never changed.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TABLE = HERE.parent / "docs" / "corpus.md"
READ = {".py", ".ipynb", ".md", ".toml", ".cfg", ".txt", ".yml", ".yaml"}
TARGET = "2.5"
"""Of many repositories the own requirement is older than what is converted for."""
LIMIT = 1800
"""Seconds of CPU for one run of ampify."""
HEAD = """\
# On real repositories

Written by `python scripts/corpus.py CHECKOUTS OUT`, of the repositories and commits in `scripts/corpus.toml`, with
`--target-torch 2.5`. Nothing of them is part of this one.

"Found" are training steps; "mixed" of them use AMP already or are a framework's. "Withdrawn" are fixes that their proof
took back (AMP904), "again" files that a second `--fix` changes, "broken" files that compile no more. Seconds are of
CPU, for `ampify steps`, `ampify --fix` and `ampify --fix` once more.

"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one repository."""

    name: str
    commit: str
    files: int
    steps: dict[str, int]
    """By decision."""
    refused: dict[str, int]
    """By code."""
    findings: dict[str, int]
    """By code, those that were fixed included."""
    again: list[str]
    broken: list[str]
    crashes: list[str]
    seconds: int
    places: dict[str, list[str]]
    decided: list[tuple[str, int, str]]
    """File, line and decision of every step."""


def examine(name: str, commit: str, checkout: Path) -> tuple[Outcome, str]:
    """Run ampify over a copy of a checkout; what came of it, and the diff."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / checkout.name
        shutil.copytree(checkout, tree, ignore=_unread, ignore_dangling_symlinks=True)
        before = {path: path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}
        steps = _ampify("steps", tree)
        fixing = _ampify("check", "--exit-zero", "--jobs", "1", "--fix", tree)
        after = {path: path.read_bytes() for path in before}
        again = _ampify("check", "--exit-zero", "--jobs", "1", "--fix", tree)
        runs = (steps, fixing, again)
        found = [*fixing.report["diagnostics"], *fixing.report["fixed"]] if fixing.report else []
        decided = steps.report or []
        outcome = Outcome(
            name,
            commit,
            files=sum(path.suffix in (".py", ".ipynb") for path in before),
            steps=dict(Counter(step["decision"] for step in decided)),
            refused=dict(Counter(step["code"] for step in decided if step["decision"] == "refuse")),
            findings=dict(Counter(finding["code"] for finding in found)),
            again=[str(path.relative_to(tree)) for path in before if path.read_bytes() != after[path]],
            broken=[str(p.relative_to(tree)) for p in before if compiles(p, before[p]) and not compiles(p, after[p])],
            crashes=[run.failure for run in runs if run.failure],
            seconds=round(sum(run.seconds for run in runs)),
            places=_places(found, tree),
            decided=[(os.path.relpath(step["path"], tree), step["line"], step["decision"]) for step in decided],
        )
        return outcome, "".join(_diff(path.relative_to(tree), raw, after[path]) for path, raw in before.items())


def _diff(path: Path, before: bytes, after: bytes) -> str:
    old, new = ([*raw.decode("utf-8", "replace").splitlines(keepends=True)] for raw in (before, after))
    return "".join(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}")) if before != after else ""


def _unread(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name.startswith(".git") or _is_other_file(Path(folder, name))}


def _is_other_file(path: Path) -> bool:
    return "." in path.name and path.suffix not in READ and not path.is_dir()


@dataclass(frozen=True, slots=True)
class Run:
    report: Any
    """What it printed, as JSON; None where it failed."""
    seconds: float
    failure: str


def _ampify(*arguments: object) -> Run:
    """One run of ampify. A process of its own, so that its CPU time can be told from that of others."""
    command = [
        sys.executable,
        "-m",
        "ampify",
        *map(str, arguments),
        "--target-torch",
        TARGET,
        "--output-format",
        "json",
    ]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        started = subprocess.Popen(command, stdout=out, stderr=said, preexec_fn=_limit, cwd=tempfile.gettempdir())
        _, status, usage = os.wait4(started.pid, 0)
        code = started.returncode = os.waitstatus_to_exitcode(status)
        seconds = usage.ru_utime + usage.ru_stime
        out.seek(0)
        said.seek(0)
        if code not in (0, 1):
            return Run(None, seconds, f"exit {code}: {(said.read().decode().strip().splitlines() or [''])[-1]}")
        return Run(json.load(out), seconds, "")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 10))


def compiles(path: Path, raw: bytes) -> bool:
    """Whether a file of Python code compiles, or a notebook is one."""
    try:
        match path.suffix:
            case ".py":
                compile(raw, str(path), "exec", dont_inherit=True)
            case ".ipynb":
                json.loads(raw)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True


def _places(found: Iterable[dict[str, Any]], tree: Path) -> dict[str, list[str]]:
    """By code: ``path:line message`` of every finding that is left, to be looked at."""
    places: dict[str, list[str]] = {}
    for finding in found:
        where = os.path.relpath(finding["path"], tree)
        line = f":{finding['start']['line']} {finding['message']}" if "start" in finding else " (fixed)"
        places.setdefault(finding["code"], []).append(where + line)
    return places


# ---------------------------------------------------------------------- the table


def table(outcomes: Sequence[dict[str, Any]]) -> str:
    """The table, its sums, and what is not as it should be, one line each."""
    columns = (
        "repository", "files", "found", "converted", "refused", "mixed", "withdrawn", "again", "broken", "crashes",
        "seconds",
    )  # fmt: skip
    rows = [_row(o) for o in outcomes]
    sums = ("all", *(sum(row[i] for row in rows) for i in range(1, len(columns))))
    lines = [columns, ("---", *["---:"] * (len(columns) - 1)), *rows, sums]
    parts = ["".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)]
    for title, key in (("Refused, by reason", "refused"), ("Findings, by rule", "findings")):
        counts = sum((Counter(o[key]) for o in outcomes), Counter[str]())
        parts.append(f"\n## {title}\n\n| code | count | repositories |\n| --- | ---: | ---: |\n")
        parts += [f"| {code} | {counts[code]} | {_holding(outcomes, key, code)} |\n" for code in sorted(counts)]
    wrong = [f"- {o['name']}: {said}\n" for o in outcomes for said in (*o["crashes"], *o["again"], *o["broken"])]
    return HEAD + "".join(parts) + ("\n## Not as it should be\n\n" + "".join(wrong) if wrong else "")


def _row(o: dict[str, Any]) -> tuple[Any, ...]:
    steps = Counter(o["steps"])
    converted, refused = steps["convert"], steps["refuse"]
    return (
        o["name"], o["files"], steps.total(), converted, refused, steps.total() - converted - refused,
        o["findings"].get("AMP904", 0), len(o["again"]), len(o["broken"]), len(o["crashes"]), o["seconds"],
    )  # fmt: skip


def _holding(outcomes: Sequence[dict[str, Any]], key: str, code: str) -> int:
    return sum(code in o[key] for o in outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_intermixed_args()
    args.out.mkdir(parents=True, exist_ok=True)
    known = tomllib.loads(HERE.joinpath("corpus.toml").read_text("utf-8"))["repositories"]

    def one(name: str) -> None:
        checkout = args.checkouts / name
        if not checkout.is_dir():
            print(f"{name}: no such folder", flush=True)
            return
        outcome, diff = examine(name, known[name], checkout)
        kept = args.out / f"{name.replace('/', '+')}.json"
        kept.write_text(json.dumps(asdict(outcome), indent=1), "utf-8")
        kept.with_suffix(".diff").write_text(diff, "utf-8")
        print(f"{name}: {outcome.seconds} s", flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(one, args.names or known))
    kept = [json.loads(path.read_text("utf-8")) for path in sorted(args.out.glob("*.json"))]
    TABLE.write_text(table(kept), "utf-8")


if __name__ == "__main__":
    main()
