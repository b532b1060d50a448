"""What one arm of an experiment runs, and how; `worker/job.py` reads what is written here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of the script."""

    out: Path
    """The folder of this arm; it exists and is empty."""
    script: Path | None = None
    module: str | None = None
    """Dotted, as after `python -m`; either this or `script`."""
    argv: tuple[str, ...] = ()
    cwd: Path
    overlay: Mapping[Path, Path] = field(default_factory=dict)
    """A file of the project, and the UTF-8 file whose text it has in this run."""
    watch: Mapping[Path, tuple[int, ...]] = field(default_factory=dict)
    """Lines whose execution is recorded."""
    roots: tuple[Path, ...]
    """Folders of the project's own files."""
    seed: int = 0
    steps: int = 8
    """Attempts of an optimizer's step after which the run stops."""
    timeout: float = 600.0
    """Seconds."""
    threads: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    autocast: Literal["asis", "off", "on"] = "asis"
    dtype: Literal["float16", "bfloat16"] | None = None
    """What every region uses; only where autocast is forced on."""
    scaler: Literal["asis", "off", "walk"] = "asis"
    """`walk`: enabled, from 2**12, times 2 at growth, times 0.5 after an overflow."""
    skip: tuple[Mapping[str, int], ...] = ()
    """`{"optimizer": o, "attempt": n}` each; with `"hold": 1` its learning-rate scheduler rests as well."""
    skip_by: Literal["suppress", "overflow"] = "suppress"
    bite: Mapping[str, float] | None = None
    """`{"norm": limit, "value": limit}`: what clipping is held to at most."""
    strict: bool = False
    keep: tuple[tuple[str, int | None, int, int], ...] = ()
    """Kind, optimizer, attempt and index of a tensor that is saved."""
    unfused: bool = False
    sketch: bool = False
    rounding: Mapping[str, Any] | None = None
    """`{"dtype": ..., "seed": ..., "guard": 0 or 2}`."""
    masks: bool = False
    count: bool = False
    record: bool = True
    bench: Mapping[str, int] | None = None
    """`{"warmup": iterations, "iterations": iterations}`."""
    tf32: bool | None = None
    deterministic: bool = True
    compile: bool = False
    fake_cuda: bool = False
    synthetic_data: bool = False

    def dump(self, path: Path) -> None:
        """Write the job for the worker."""
        path.write_text(json.dumps(_plain({each.name: getattr(self, each.name) for each in fields(self)})), "utf-8")


def _plain(value: Any) -> Any:
    match value:
        case Path():
            return str(value)
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case tuple() | list():
            return [_plain(each) for each in value]
    return value
