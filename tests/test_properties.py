"""What holds for every float32 training script, shown on random ones: converted or refused, once, and the same program.

`AMPIFY_HUNT=2000` looks at that many other scripts instead of at the same few.
"""

from __future__ import annotations

import ast
import dataclasses
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from execution import Trace, assert_same, run
from hypothesis import HealthCheck, given, settings
from programs import programs

from ampify.config import Settings
from ampify.diagnostic import Diagnostic, Severity
from ampify.engine import Run, fix_text
from ampify.rewrite.cut import comments
from ampify.rewrite.erase import erase_text

FLOATS_OR_NAMES = (".float()", "output = ", "output_1 = ", "loss_1 = ")
"""What a conversion may add besides AMP: without its plan, erasing leaves it there."""

LEFT_TO_THE_OWNER = {"AMP222"}
"""Warnings about converted code whose fix is unsafe."""


def _examples(number: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    if hunted := os.environ.get("AMPIFY_HUNT"):
        return settings(max_examples=int(hunted), deadline=None, suppress_health_check=checks)
    return settings(max_examples=number, deadline=None, suppress_health_check=checks, derandomize=True, database=None)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models of some twenty weights: threads only get in each other's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def _fixed(text: str) -> tuple[str, list[Diagnostic]]:
    return fix_text(text, Settings())


@cache
def _original(text: str) -> Trace:
    return run(text)


def _converted(text: str) -> bool:
    return _fixed(text)[0] != text


# The scripts


@_examples(30)
@given(programs())
def test_scripts_train_and_repeat_themselves(text: str):
    trace = _original(text)
    assert trace.finite
    assert_same(trace, run(text))


# Fixing


@_examples(100)
@given(programs())
def test_a_step_is_converted_or_refused_with_a_reason(text: str):
    inspection = Run(settings=lambda _: Settings()).inspection(Path("train.py"))
    after, diagnostics = _fixed(text)
    decisions = [decision for _, decision in inspection.decisions(after)]
    assert decisions
    assert {decision.word for decision in decisions} <= {"already mixed", "refuse"}
    refused = [decision for decision in decisions if decision.word == "refuse"]
    assert all(decision.code and decision.reason for decision in refused)
    codes = [diagnostic.code for diagnostic in diagnostics]
    assert all(decision.code in codes for decision in refused)
    assert "AMP904" not in codes


@_examples(60)
@given(programs())
def test_fixing_twice_is_fixing_once(text: str):
    after, _ = _fixed(text)
    compile(after, "train.py", "exec")
    assert fix_text(after, Settings())[0] == after


@_examples(60)
@given(programs())
def test_nothing_hazardous_is_left_in_converted_code(text: str):
    after, diagnostics = _fixed(text)
    if _converted(text):
        hazards = [d for d in diagnostics if d.severity >= Severity.WARNING and d.code not in LEFT_TO_THE_OWNER]
        assert hazards == [], after


@_examples(40)
@given(programs())
def test_unsafe_fixes_of_converted_code_keep_the_program(text: str):
    if not _converted(text):
        return
    after, diagnostics = _fixed(text)
    further, left = fix_text(after, dataclasses.replace(Settings(), unsafe_fixes=True))
    assert fix_text(further, dataclasses.replace(Settings(), unsafe_fixes=True)) == (further, left)
    assert erase_text(further) == erase_text(after)
    assert (further == after) == (not any(d.fix for d in diagnostics))
    assert_same(_original(text), run(further, "scaled"))


# The same program


@_examples(60)
@given(programs())
def test_erasing_gives_back_the_original(text: str):
    after, _ = _fixed(text)
    erased = erase_text(after)
    assert ".autocast(" not in erased
    assert "GradScaler(" not in erased
    if ast.dump(ast.parse(erased)) == ast.dump(ast.parse(text)):
        assert _comments(erased) == _comments(text)
    else:
        assert any(after.count(added) > text.count(added) for added in FLOATS_OR_NAMES)
        assert_same(_original(text), run(erased))


def _comments(text: str) -> list[str]:
    return [text[comment.start : comment.end] for comment in comments(text)]


@_examples(60)
@given(programs())
def test_switched_off_it_is_the_same_program(text: str):
    if _converted(text):
        assert_same(_original(text), run(_fixed(text)[0], "off"))


@_examples(100)
@given(programs())
def test_scaled_it_is_the_same_program(text: str):
    if _converted(text):
        assert_same(_original(text), run(_fixed(text)[0], "scaled"))


@_examples(40)
@given(programs())
def test_switched_on_autocast_is_engaged(text: str):
    if _converted(text):
        assert run(_fixed(text)[0], "full").regions
