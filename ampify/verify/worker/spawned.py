"""Processes that multiprocessing starts afresh find the same overlay and mirror; what they do is not recorded."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

from . import files, overlay
from .hooks import after_import
from .job import Job
from .scratch import Mirror

_START = os.path.join(os.path.dirname(os.path.realpath(__file__)), "start.py")
_JOIN = (
    "import importlib.util as u; s = u.spec_from_file_location('_ampify_start', {!r}); m = u.module_from_spec(s); "
    "s.loader.exec_module(m); m.load('spawned').join({!r}); "
)


def install(job: Job, recorder: Any) -> None:
    """Let such processes call `join` before anything else."""
    util: Any = importlib.import_module("multiprocessing.util")
    real = util.spawnv_passfds  # of both ways, `spawn` and `forkserver`

    @functools.wraps(real)
    def spawn(path: Any, args: Any, fds: Any) -> Any:
        code = args.index("-c") + 1 if "-c" in args else 0
        if not code or "resource_tracker" in args[code]:
            return real(path, args, fds)
        recorder.emit("touched", what="process", name="multiprocessing")
        joined = _JOIN.format(_START, os.path.join(job.out, "job.json")) + args[code]
        return real(path, [*args[:code], joined, *args[code + 1 :]], fds)

    util.spawnv_passfds = spawn


def join(path: str) -> None:
    """See the files of the run whose job is written at ``path``."""
    job = Job.load(path)
    overlay.serve(job)
    mirror = Mirror(job.out)
    files.install(mirror)
    after_import("torch", functools.partial(files.install_torch, mirror))
