"""L4 alone, of many scripts one after the other: what `ampify verify --bench` times, without the levels below it.

``gpu_times.py LIST OUT`` reads lines of a name, a folder and the arguments of `ampify verify`, separated by tabs, and
writes ``OUT/NAME.bench.json`` as soon as each is known.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from ampify.cli.shared import given
from ampify.cli.verify import verify
from ampify.verify import bench
from ampify.verify.arms import EXACT, Arm, Runs
from ampify.verify.project import build
from ampify.verify.report.json import plain
from ampify.verify.request import Request
from ampify.verify.sources import Nothing, find
from ampify.verify.workers import Workers

LIMIT = 60.0
"""Seconds for each run."""


def requested(folder: Path, arguments: str) -> Request:
    """What the command line would make of the arguments, in that folder."""
    options = verify.make_context("verify", shlex.split(arguments)).params
    (script, *words), known = options["words"], ("synthetic_data", "target_torch")
    values = {name: value for name, value in given(options).items() if name in known}
    return build(
        {"script": Path(script), "args": tuple(words), "cwd": folder, "timeout": LIMIT, **values}, folder, None
    )


def measured(request: Request, workers: Workers) -> dict[str, Any]:
    """L4 as it is in a report; empty where there is nothing to convert."""
    runs = Runs(request, workers, lambda run: None)
    probe = runs.run(Arm("probe", "reference", {**EXACT, "steps": 1}))
    found = find(probe.record.loaded, request.settings)
    if isinstance(found, Nothing):
        return {}
    runs.sources = found
    return dict(plain(bench.measure(runs.run, request)))


def main(listed: Path, out: Path) -> None:
    with Workers() as workers:
        for line in listed.read_text("utf-8").splitlines():
            name, folder, arguments = line.split("\t")
            found = measured(requested(Path(folder), arguments), workers)
            (out / f"{name}.bench.json").write_text(json.dumps(found), "utf-8")
            print(name, found.get("summary", "nothing to measure"), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
