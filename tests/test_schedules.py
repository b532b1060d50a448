"""AMP222: where a scheduler runs ahead of an optimizer whose steps may be skipped, and where that is looked after."""

import textwrap

import pytest

from ampify.config import Settings
from ampify.engine import check_text, fix_text
from ampify.rewrite.erase import erase_text

HEAD = """\
import torch
from torch import nn
from torch.optim import lr_scheduler

model = nn.Linear(4, 2).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cuda")
"""
STEP = """\
with torch.autocast("cuda"):
    loss = nn.functional.cross_entropy(model(x), y)
scaler.scale(loss).backward()
scaler.step(optimizer)
scaler.update()
optimizer.zero_grad()
"""
WARMUP = "warmup = lr_scheduler.LinearLR(optimizer)\n"
COSINE = "scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 100)\n"


def loop(rest: str, head: str = "for i, (x, y) in enumerate(loader):\n", made: str = COSINE, step: str = STEP) -> str:
    return HEAD + made + head + textwrap.indent(step + rest, "    ")


def lines(text: str) -> list[str]:
    """The scheduler steps that are reported."""
    return [text[d.span.start : d.span.end] for d in check_text(text, Settings(select=("AMP222",)))]


def guarded(text: str) -> str:
    return fix_text(text, Settings(select=("AMP222",), unsafe_fixes=True))[0]


@pytest.mark.parametrize(
    ("text", "guard"),
    [
        (loop("scheduler.step()\n"), "    if scaler.get_scale() >= scale:\n        scheduler.step()\n"),
        (
            loop("if scheduler is not None:\n    scheduler.step()\n"),
            "        if scaler.get_scale() >= scale:\n            scheduler.step()\n",
        ),
        (
            loop("for s in schedulers:\n    s.step()\n", made=COSINE + "schedulers = [scheduler]\n"),
            "        if scaler.get_scale() >= scale:\n            s.step()\n",
        ),
        (
            loop("scheduler.step()\nscale = 1\n"),
            "    if scaler.get_scale() >= scale_1:\n        scheduler.step()\n",
        ),
        (
            loop("scheduler.step()\nprint(i)\nwarmup.step()\n", made=COSINE + WARMUP),
            "        scheduler.step()\n    print(i)\n    if scaler.get_scale() >= scale:\n        warmup.step()\n",
        ),
        (
            loop("schedule.step()\n", made="from transformers import get_linear_schedule_with_warmup\n"
                 "schedule = get_linear_schedule_with_warmup(optimizer, 10, 100)\n"),
            "    if scaler.get_scale() >= scale:\n        schedule.step()\n",
        ),
        (
            loop("scheduler.step()\n", "for epoch in range(9):\n", COSINE.replace("CosineAnnealing", "OneCycle")),
            "    if scaler.get_scale() >= scale:\n        scheduler.step()\n",
        ),
    ],
)  # fmt: skip
def test_is_held_back(text, guard):
    after = guarded(text)
    assert lines(text)
    assert guard in after
    assert lines(after) == []
    assert guarded(after) == after
    assert erase_text(after) == erase_text(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            loop("", step=STEP.replace("scaler.update()\n", "scheduler.step()\nscaler.update()\n")), id="above"
        ),
        pytest.param(
            loop("scheduler.step()\n", step=STEP.replace("scaler.update()", "if i % 2:\n    scaler.update()")),
            id="update-in-a-branch",
        ),
        pytest.param(loop("i = 1; scheduler.step()\n"), id="shared-line"),
        pytest.param(loop("rate = scheduler.step()\n"), id="result-is-kept"),
    ],
)
def test_is_reported_without_a_fix(text):
    assert lines(text) == ["scheduler.step()"]
    assert guarded(text) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(loop("if i % 100 == 0:\n    scheduler.step()\n"), id="now-and-then"),
        pytest.param(loop("scheduler.step(i)\n"), id="told-where-it-is"),
        pytest.param(loop("scheduler.step()\n", "for epoch in range(9):\n"), id="epoch-of-one-batch"),
        pytest.param(loop("").replace("for i", "scheduler.step()\nfor i"), id="before-the-loop"),
        pytest.param(loop("") + "scheduler.step()\n", id="after-the-loop"),
        pytest.param(loop("", step="scheduler.step()\n" + STEP), id="before-the-step"),
        pytest.param(loop("scheduler.step()\n").replace('GradScaler("cuda")', "GradScaler(enabled=False)"), id="off"),
        pytest.param(
            loop("if not skipped():\n    scheduler.step()\ndone = scaler.get_scale() < 1\n"), id="knows-scales"
        ),
        pytest.param(
            loop(
                "scheduler.step()\n", made="scheduler = lr_scheduler.ConstantLR(other)\nother = torch.optim.SGD([w])\n"
            ),
            id="another-optimizer",
        ),
    ],
)
def test_is_silent(text):
    assert lines(text) == []


def test_two_optimizers_leave_it_open_which_was_skipped():
    step = STEP.replace("scaler.update()", "scaler.step(other)\nscaler.update()")
    text = loop("scheduler.step()\n", made=COSINE + "other = torch.optim.SGD(model.parameters(), lr=0.1)\n", step=step)
    assert lines(text) == ["scheduler.step()"]
    assert guarded(text) == text
