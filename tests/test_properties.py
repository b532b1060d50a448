"""What holds for every float32 training script, shown on random ones: converted or refused, once, and the same program."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import torch
from execution import Trace, assert_same, run
from hypothesis import HealthCheck, Phase, given, settings
from programs import programs

from ampify.config import Settings
from ampify.diagnostic import Diagnostic, Severity
from ampify.engine import Run, fix_text
from ampify.rewrite.cut import comments
from ampify.rewrite.erase import erase_text

settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)  # fmt: skip
