"""The same numbers in every run: seeds, deterministic algorithms, threads."""

from __future__ import annotations

import random
from typing import Any

import torch

from .job import Job


def install(job: Job, recorder: Any) -> None:
    """Seed every generator; the script's own seeding comes after it and wins."""
    random.seed(job.seed)
    torch.manual_seed(job.seed)
