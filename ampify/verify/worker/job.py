"""What one arm of an experiment runs, and how: the worker's half of `ampify.verify.job`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OTHERS = tuple(os.path.join(os.path.dirname(path), "") for path in (os.path.realpath(__file__), os.__file__))
"""The folders of the worker and of the standard library."""


@dataclass(frozen=True)
class Job:
    """One run of the script; `ampify.verify.job.Job` says what each field means."""

    out: str
    script: str | None
    module: str | None
    argv: list[str]
    cwd: str
    overlay: dict[str, str]
    watch: dict[str, list[int]]
    roots: list[str]
    seed: int
    steps: int
    timeout: float
    threads: int | None
    device: str
    autocast: str
    dtype: str | None
    scaler: str
    skip: list[dict[str, int]]
    skip_by: str
    bite: dict[str, float] | None
    strict: bool
    keep: list[list[str | int | None]]
    unfused: bool
    sketch: bool
    rounding: dict[str, Any] | None
    masks: bool
    count: bool
    record: bool
    bench: dict[str, int] | None
    tf32: bool | None
    deterministic: bool
    compile: bool
    fake_cuda: bool
    synthetic_data: bool

    @staticmethod
    def load(path: str) -> Job:
        """Read what the host wrote; raises TypeError for a key that is missing or unknown."""
        return Job(**json.loads(Path(path).read_text("utf-8")))

    @property
    def rank(self) -> int:
        """Which of the processes of a distributed launch this is, 0 without one."""
        return int(os.environ.get("RANK", "0"))

    def file(self, stem: str, suffix: str) -> str:
        """A file of this rank in the arm's folder: ``stem.suffix``, ``stem.1.suffix`` for rank 1."""
        return str(Path(self.out, f"{stem}.{self.rank}{suffix}" if self.rank else f"{stem}{suffix}"))

    def owns(self, path: str) -> bool:
        """Whether the file belongs to the project: below a root, but not installed in an environment inside of it."""
        if not os.path.isabs(path) or _is_installed(path):
            return False
        real = os.path.realpath(path)
        if real in self.overlay or real == self.script:
            return True
        return not _is_installed(real) and any(real.startswith(os.path.join(root, "")) for root in self.roots)


def _is_installed(path: str) -> bool:
    """Seen from the path alone: links are followed for the few files that may be the project's."""
    return (
        f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path or path.startswith(_OTHERS)
    )
