"""One run of one program under stated conditions: an arm becomes a job, and each job is run once. Judges nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ampify.verify.job import Job
from ampify.verify.record import Outcome
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.verdict import Timing
from ampify.verify.workers import Workers

Side = Literal["reference", "candidate"]
Track = Callable[[str], None]
"""Is told what runs next."""

EXACT: Mapping[str, Any] = {"autocast": "off", "scaler": "off", "unfused": True}
"""What all exact arms have in common: mixed precision is off, and so is what is known not to be exact."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A program, and the fields of the job that tell this run from others."""

    name: str
    side: Side
    fields: Mapping[str, Any] = field(default_factory=dict)

    def but(self, name: str, **fields: Any) -> Arm:
        """This arm under other conditions."""
        return replace(self, name=name, fields={**self.fields, **fields})


class Runs:
    """The runs of one request; ``sources`` is set once it is known what is compared."""

    def __init__(self, request: Request, workers: Workers, track: Track) -> None:
        self.request, self.sources = request, Sources()
        self.timings: list[Timing] = []
        self._workers, self._track = workers, track
        self._done: dict[str, Outcome] = {}
        self._texts: dict[str, Path] = {}

    def run(self, arm: Arm, again: int = 0) -> Outcome:
        """The outcome of an arm. The same program under the same conditions runs once; ``again`` asks for a rerun."""
        key = repr((self._side(arm.side), sorted(arm.fields.items()), again))
        if key not in self._done:
            self._track(arm.name)
            self._done[key] = self._workers.run(self._job(arm))
            self.timings.append(Timing(arm.name, self._done[key].seconds))
        return self._done[key]

    @property
    def outcomes(self) -> list[Outcome]:
        """All runs so far."""
        return list(self._done.values())

    def compare(self, pairs: list[tuple[Path, Path]]) -> list[dict[str, Any]]:
        """How kept tensors differ, as `worker/keep.py` tells it."""
        spec = self._workers.arm("compare") / "spec.json"
        spec.write_text(json.dumps({"pairs": pairs}, default=str), "utf-8")
        found: list[dict[str, Any]] = self._workers.compare(spec)["pairs"]
        return found

    def _job(self, arm: Arm) -> Job:
        request = self.request
        job = Job(
            out=self._workers.arm(arm.name.replace(" ", "-").replace("/", "-")),
            script=request.path,
            module=request.module,
            argv=request.args,
            cwd=request.cwd.resolve(),
            roots=request.roots,
            overlay={path: self._file(text) for path, text in self._side(arm.side).items()},
            seed=request.seed,
            steps=request.steps,
            timeout=request.timeout,
            device=_device(request),
            fake_cuda=request.fake_cuda,
            synthetic_data=request.synthetic_data,
        )
        return replace(job, **arm.fields)

    def _side(self, side: Side) -> Mapping[Path, str]:
        return self.sources.reference if side == "reference" else self.sources.candidate

    def _file(self, text: str) -> Path:
        """A file in the scratch folder that holds ``text``."""
        if text not in self._texts:
            path = self._workers.arm("text") / "text.py"
            path.write_text(text, "utf-8", newline="")
            self._texts[text] = path
        return self._texts[text]


def _device(request: Request) -> Literal["auto", "cpu", "cuda"]:
    match request.device:
        case "cpu" | "cuda":
            return request.device
    return "auto"
