"""What the script finds around it, and what it does to it: environment, files, network, processes."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from .job import Job


def prepare(job: Job) -> None:
    """Set the environment and the working folder, before torch is imported where it is not yet."""
    scratch = os.path.join(job.out, "tmp")
    os.makedirs(scratch, exist_ok=True)  # the other ranks of a launch do the same
    os.environ.update(_environment(job), TMPDIR=scratch)
    tempfile.tempdir = None
    sys.dont_write_bytecode = True
    os.chdir(job.cwd)


def _environment(job: Job) -> dict[str, str]:
    return {}


def install(job: Job, recorder: Any) -> None:
    """Nothing yet."""
