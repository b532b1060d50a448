"""The rows of the protocol: each mistake is found at its place, and what is next to it is not."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest
from test_protocol import FORWARD, GAN, HEAD, LOOPS, SCALER, WHOLE, loop

from ampify.config import Settings
from ampify.diagnostic import Diagnostic, Severity
from ampify.inspection import Inspection
from ampify.rule import load

FAMILY = tuple(rule for code, rule in load().items() if code.startswith("AMP2") and code not in ("AMP201", "AMP222"))


def look(text: str) -> tuple[Diagnostic, ...]:
    return Inspection("train.py", Settings(), FAMILY).look(text).diagnostics


def found(text: str) -> list[tuple[str, str]]:
    """The codes with the lines that they are at."""
    lines = text.splitlines()
    return [(d.code, lines[text.count("\n", 0, d.span.start)].strip()) for d in look(text)]


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_what_is_right_for_one_row_is_right_for_all(text: str) -> None:
    assert found(text) == []


CLIP = "clip_grad_norm_(model.parameters(), 1.0)"
END = "scaler.step(optimizer)\nscaler.update()\n"
LAST = "if (i + 1) % 4 == 0:\n    scaler.step(optimizer)\n    scaler.update()\n    optimizer.zero_grad()\n"
WRONG = {
    "the scaled loss is thrown away": (
        f"scaler.scale(loss)\nloss.backward()\n{END}",
        [("AMP203", "scaler.scale(loss)")],
    ),
    "its name is never used": (
        f"scaled = scaler.scale(loss)\nloss.backward()\n{END}",
        [("AMP203", "scaled = scaler.scale(loss)")],
    ),
    "a plain step after the scaler's": (
        f"scaler.scale(loss).backward()\n{END}optimizer.step()\n",
        [("AMP205", "optimizer.step()")],
    ),
    "a plain step before the scaler's": (
        f"scaler.scale(loss).backward()\noptimizer.step()\n{END}",
        [("AMP205", "optimizer.step()")],
    ),
    "norms of scaled gradients": (
        f"scaler.scale(loss).backward()\nnorms = [p.grad.norm() for p in model.parameters()]\n{END}",
        [("AMP207", "norms = [p.grad.norm() for p in model.parameters()]")],
    ),
    "limits of scaled gradients": (
        f"scaler.scale(loss).backward()\nfor p in model.parameters():\n    p.grad.clamp_(-1, 1)\n{END}",
        [("AMP207", "p.grad.clamp_(-1, 1)")],
    ),
    "noise on scaled gradients": (
        f"scaler.scale(loss).backward()\nfor p in model.parameters():\n    p.grad += torch.randn_like(p)\n{END}",
        [("AMP207", "p.grad += torch.randn_like(p)")],
    ),
    "unscaled for every part of a batch": (
        f"scaler.scale(loss / 4).backward()\nscaler.unscale_(optimizer)\n{LAST}",
        [("AMP208", "scaler.unscale_(optimizer)")],
    ),
    "unscaled twice": (
        f"scaler.scale(loss).backward()\nscaler.unscale_(optimizer)\n{CLIP}\nscaler.unscale_(optimizer)\n{END}",
        [("AMP208", "scaler.unscale_(optimizer)")],
    ),
    "unscaled between two backwards": (
        (
            "scaler.scale(loss).backward()\nscaler.unscale_(optimizer)\n"
            f"scaler.scale(criterion(model(x), y)).backward()\n{END}"
        ),
        [("AMP208", "scaler.unscale_(optimizer)")],
    ),
    "unscaled after the step": (
        "scaler.scale(loss).backward()\nscaler.step(optimizer)\nscaler.unscale_(optimizer)\nscaler.update()\n",
        [("AMP209", "scaler.unscale_(optimizer)")],
    ),
    "update for every part of a batch": (
        "scaler.scale(loss / 4).backward()\nif (i + 1) % 4 == 0:\n    scaler.step(optimizer)\nscaler.update()\n",
        [("AMP211", "scaler.update()")],
    ),
    "update twice": (
        f"scaler.scale(loss).backward()\n{END}scaler.update()\n",
        [("AMP211", "scaler.update()")],
    ),
    "update between unscale_ and step": (
        (
            f"scaler.scale(loss).backward()\nscaler.unscale_(optimizer)\n{CLIP}\nscaler.update()\n"
            "scaler.step(optimizer)\nscaler.update()\n"
        ),
        [("AMP212", "scaler.update()")],
    ),
    "update before the step": (
        f"scaler.scale(loss).backward()\nscaler.update()\n{END}",
        [("AMP212", "scaler.update()")],
    ),
    "a large norm is skipped": (
        (
            f"scaler.scale(loss).backward()\nscaler.unscale_(optimizer)\nnorm = {CLIP}\nif norm > 100:\n"
            f"    continue\n{END}"
        ),
        [("AMP213", "continue")],
    ),
    "the plain loss goes backward too": (
        f"loss.backward()\nscaler.scale(loss).backward()\n{END}",
        [("AMP220", "loss.backward()")],
    ),
    "the loss goes backward once more": (
        f"scaler.scale(loss).backward()\nscaler.scale(loss).backward()\n{END}",
        [("AMP220", "scaler.scale(loss).backward()")],
    ),
    "cleared before the step": (
        f"scaler.scale(loss).backward()\noptimizer.zero_grad()\n{END}",
        [("AMP221", "optimizer.zero_grad()")],
    ),
    "the model clears them before the step": (
        f"scaler.scale(loss).backward()\nmodel.zero_grad()\n{END}",
        [("AMP221", "model.zero_grad()")],
    ),
    "the scale is set before the step": (
        f"scaler.scale(loss).backward()\nscaler.update(1024.0)\n{END}",
        [("AMP226", "scaler.update(1024.0)")],
    ),
}


@pytest.mark.parametrize(("body", "expected"), WRONG.values(), ids=WRONG)
def test_reported(body: str, expected: list[tuple[str, str]]) -> None:
    assert found(loop(body)) == expected


SAFE = {"AMP203", "AMP205", "AMP207", "AMP209", "AMP212"}
UNSAFE = SAFE | {"AMP213"}


@pytest.mark.parametrize("body", [body for body, _ in WRONG.values()], ids=WRONG)
@pytest.mark.parametrize("unsafe", [False, True])
def test_a_fix_leaves_nothing_to_report(body: str, unsafe: bool) -> None:
    text = loop(body)
    codes = {code for code, _ in found(text)}
    report = Inspection("train.py", Settings(unsafe_fixes=unsafe), FAMILY).mend(text)
    assert report.after == text or report.diagnostics == ()
    assert report.after != text or not codes <= (UNSAFE if unsafe else SAFE)


RIGHT = {
    "the test stands around both": (
        "scaler.scale(loss / 4).backward()\nif i % 4 == 3:\n    scaler.unscale_(optimizer)\n"
        f"if i % 4 == 3:\n    {CLIP}\nif i % 4 == 3:\n    scaler.step(optimizer)\n    scaler.update()\n"
    ),
    "two tests that may be one": (
        f"scaler.scale(loss).backward()\nif full:\n    scaler.unscale_(optimizer)\n    {CLIP}\n"
        "if ready:\n    scaler.step(optimizer)\n    scaler.update()\n    optimizer.zero_grad()\n"
    ),
    "cleared where it will not step": (
        "scaler.scale(loss).backward()\nif first:\n    optimizer.zero_grad()\nif ready:\n"
        "    scaler.step(optimizer)\nif ready:\n    scaler.update()\n"
    ),
    "update in a branch, the step in another": (
        "scaler.scale(loss).backward()\nif ready:\n    scaler.step(optimizer)\nif full:\n    scaler.update()\n"
    ),
    "the skip has its update": (
        f"scaler.scale(loss).backward()\nscaler.unscale_(optimizer)\nnorm = {CLIP}\nif norm > 100:\n"
        f"    scaler.update()\n    optimizer.zero_grad()\n    continue\n{END}"
    ),
    "a bad norm ends it": (
        f"scaler.scale(loss).backward()\nscaler.unscale_(optimizer)\nnorm = {CLIP}\nif norm > 100:\n"
        f"    raise ValueError(norm)\n{END}"
    ),
    "several optimizers one after the other": (
        "scaler.scale(loss).backward()\nfor o in optimizers:\n    scaler.unscale_(o)\n    scaler.step(o)\n"
        "scaler.update()\n"
    ),
    "a list of optimizers by index": (
        "scaler.scale(loss).backward()\nscaler.unscale_(optimizers[0])\nscaler.unscale_(optimizers[1])\n"
        "scaler.step(optimizers[0])\nscaler.step(optimizers[1])\nscaler.update()\n"
    ),
    "scaled gradients are looked at for infinities": (
        "scaler.scale(loss).backward()\nbad = any(torch.isinf(p.grad).any() for p in model.parameters())\n"
        f"if any(p.grad.abs().sum() == 0 for p in model.parameters()):\n    print(bad)\n{END}"
    ),
    "scaled gradients are masked": (
        f"scaler.scale(loss).backward()\nfor p in model.parameters():\n    p.grad *= mask\n    p.grad.mul_(2)\n{END}"
    ),
    "a norm that the scale divides": (
        "scaler.scale(loss).backward()\nnorm = sum(p.grad.norm() for p in model.parameters())\n"
        f"norm = norm / scaler.get_scale()\n{END}"
    ),
    "the gradient of an input": (f"scaler.scale(loss).backward()\nsign = x.grad.sign()\nlength = x.grad.norm()\n{END}"),
    "norms after the step": (
        "scaler.scale(loss).backward()\nscaler.step(optimizer)\nn = [p.grad.norm() for p in model.parameters()]\n"
        "scaler.update()\n"
    ),
    "a graph that is kept": (
        f"loss.backward(retain_graph=True)\noptimizer.zero_grad()\nscaler.scale(loss).backward()\n{END}"
    ),
    "a loss that is made anew": (
        f"scaler.scale(loss).backward()\nloss = criterion(model(x), y)\nscaler.scale(loss).backward()\n{END}"
    ),
    "one loss in each branch": (
        "if i % 2:\n    scaler.scale(loss).backward()\nelse:\n    scaler.scale(loss).backward(retain_graph=True)\n"
        + END
    ),
    "the scale is set after the step": "scaler.scale(loss).backward()\nscaler.step(optimizer)\nscaler.update(1024.0)\n",
    "cleared after the step": (
        "scaler.scale(loss).backward()\nscaler.step(optimizer)\noptimizer.zero_grad()\nscaler.update()\n"
    ),
    "another model is cleared": f"scaler.scale(loss).backward()\nteacher.zero_grad()\n{END}",
    "the scaled loss has a name": f"scaled = scaler.scale(loss)\nscaled.backward()\n{END}",
    "steps in a helper that cannot be seen": "scaler.scale(loss).backward()\nstep_all(scaler)\nscaler.update()\n",
    "a plain step where amp is off": (
        "if args.amp:\n    scaler.scale(loss).backward()\n    scaler.step(optimizer)\n    scaler.update()\n"
        "if not args.amp:\n    loss.backward()\n    optimizer.step()\n"
    ),
}


@pytest.mark.parametrize("body", RIGHT.values(), ids=RIGHT)
def test_the_nearest_right_code_is_silent(body: str) -> None:
    assert found(loop(body)) == []


def test_the_path_is_named() -> None:
    body, _ = WRONG["a large norm is skipped"]
    [finding] = look(loop(body))
    assert finding.message.endswith("before `update`, where `norm > 100` holds")
    assert [note.message for note in finding.notes] == ["this raises in the next iteration"]


def test_an_update_between_two_optimizers_is_too_early() -> None:
    early = GAN.replace("    scaler.step(opt_d)\n", "").replace(
        "    scaler.step(opt_g)\n", "    scaler.step(opt_g)\n    scaler.update()\n    scaler.step(opt_d)\n"
    )
    assert ("AMP212", "scaler.update()") in found(early)


def test_an_update_after_each_phase_is_right() -> None:
    assert found(GAN.replace("    scaler.step(opt_d)\n", "    scaler.step(opt_d)\n    scaler.update()\n")) == []


TWO = SCALER + 'other = torch.amp.GradScaler("cuda")\n'


def test_the_scaler_of_the_loss_must_step() -> None:
    body = "scaler.scale(loss).backward()\nother.step(optimizer)\nother.update()\n"
    assert found(loop(body, TWO)) == [("AMP215", "other.step(optimizer)")]
    assert found(loop(body, SCALER + "other = scaler\n")) == []
    assert found(loop(body, SCALER + "other = make_scaler()\n")) == []


def test_each_optimizer_may_have_its_scaler() -> None:
    apart = GAN.replace('scaler = torch.amp.GradScaler("cuda")\n', TWO)
    for line in ("scale(loss_g).backward()", "step(opt_g)"):
        apart = apart.replace(f"scaler.{line}", f"other.{line}")
    assert found(apart.replace("    scaler.update()\n", "    scaler.update()\n    other.update()\n")) == []


def test_a_jump_before_unscale_is_not_to_blame() -> None:
    body = f"if len(x) != 8:\n    continue\nscaler.scale(loss / 4).backward()\nscaler.unscale_(optimizer)\n{LAST}"
    assert found(loop(body)) == [("AMP208", "scaler.unscale_(optimizer)")]


def test_a_clip_that_is_configured_is_no_accumulation_test() -> None:
    clip = f"if config.clip:\n    scaler.unscale_(optimizer)\n    {CLIP}\n"
    assert found(loop(f"scaler.scale(loss / 4).backward()\n{clip}{LAST}")) == [("AMP208", "scaler.unscale_(optimizer)")]


def test_an_optimizer_that_a_library_gives_back_may_unscale_by_itself() -> None:
    made = SCALER + "model, optimizer = msamp.initialize(model, optimizer)\n"
    assert found(loop("scaler.scale(loss).backward()\noptimizer.step()\n", made)) == []


EPOCHS = (
    HEAD
    + SCALER
    + """\

def train(config):
    for i, (x, y) in enumerate(loader):
        with torch.autocast("cuda"):
            loss = criterion(model(x), y)
        if config.parts > 1:
            scaler.scale(loss).backward()
            if config.clip:
                scaler.unscale_(optimizer)
            if (i + 1) % config.parts == 0:
                scaler.step(optimizer)
                scaler.update()
        else:
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            if config.clip:
                scaler.unscale_(optimizer)  # right
            scaler.step(optimizer)
            scaler.update()


for epoch in range(3):
    train(config)
"""
)


def test_a_configuration_is_the_same_in_all_epochs() -> None:
    assert found(EPOCHS) == [("AMP208", "scaler.unscale_(optimizer)")]


FROZEN = """\
import torch

one_model = torch.nn.Linear(4, 2).cuda()
other_model = torch.nn.Linear(2, 2).cuda()
one = torch.optim.SGD(one_model.parameters())
other = torch.optim.SGD(other_model.parameters())
scaler = torch.amp.GradScaler("cuda")


def update():
    if not frozen:
        scaler.step(one)
    scaler.step(other)
    scaler.update()


for x in loader:
    clear()
    with torch.autocast("cuda"):
        loss = other_model(one_model(x)).mean()
    scaler.scale(loss).backward()
    update()
"""


def test_gradients_of_a_frozen_model_do_not_wait_for_the_next_iteration() -> None:
    assert found(FROZEN) == []


def test_a_configuration_in_which_nothing_is_trained_is_not_meant() -> None:
    assert found(FROZEN.replace("    scaler.step(other)\n", "    if train_other:\n        scaler.step(other)\n")) == []


@pytest.mark.parametrize("path", sorted(LOOPS.glob("*.amp.py")), ids=lambda path: path.stem)
def test_converted_loops_follow_the_protocol(path: Path) -> None:
    report = Inspection(str(path), Settings(), FAMILY).look(path.read_text("utf-8"))
    assert not [d for d in report.diagnostics if d.severity >= Severity.WARNING]


CALLABLE = """\
import torch
from torch.nn.utils import clip_grad_norm_


class LossScaler:
    def __init__(self):
        self._scaler = torch.amp.GradScaler("cuda")

    def __call__(self, loss, optimizer, parameters, update_grad=True):
BODY

def train(model, loader, optimizer, loss_scaler):
    for i, (x, y) in enumerate(loader):
        with torch.autocast("cuda"):
            loss = model(x, y)
        loss_scaler(loss, optimizer, model.parameters(), update_grad=i % 4 == 3)
        if i % 4 == 3:
            optimizer.zero_grad()
"""
BACKWARD = "self._scaler.scale(loss).backward()\n"
UNSCALE = "self._scaler.unscale_(optimizer)\n"
NORM = "clip_grad_norm_(parameters, 1.0)\n"
STEP = "self._scaler.step(optimizer)\n"
UPDATE = "self._scaler.update()\n"


def in_callable(always: str, last: str, after: str = "") -> str:
    """What each call does, what the last one of a batch does, and what each does then."""
    body = BACKWARD + always + "if update_grad:\n" + indent(last, "    ") + after
    return CALLABLE.replace("BODY\n", indent(body, "        "))


def test_a_scaler_in_a_callable_is_right() -> None:
    assert found(in_callable("", UNSCALE + NORM + STEP + UPDATE)) == []


IN_CALLABLE = {
    "AMP206": ("", NORM + STEP + UPDATE),
    "AMP208": (UNSCALE + NORM, STEP + UPDATE),
    "AMP209": ("", STEP + UNSCALE + UPDATE),
    "AMP211": ("", UNSCALE + NORM + STEP, UPDATE),
    "AMP212": ("", UNSCALE + UPDATE + STEP + UPDATE),
}


@pytest.mark.parametrize(("code", "parts"), IN_CALLABLE.items(), ids=IN_CALLABLE)
def test_a_scaler_in_a_callable_is_wrong(code: str, parts: tuple[str, ...]) -> None:
    assert [c for c, _ in found(in_callable(*parts))] == [code]


METHOD = HEAD + SCALER + "def training_step(i, x, y):\n" + indent(FORWARD, "    ")


def test_a_step_whose_loop_is_not_seen_is_gone_through_twice() -> None:
    body = (
        f"scaler.scale(loss).backward()\nscaler.unscale_(optimizer)\nnorm = {CLIP}\nif norm > 100:\n    return\n{END}"
    )
    assert found(METHOD + indent(body, "    ")) == [("AMP213", "return")]
    assert found(METHOD + indent(body.replace("    return\n", "    scaler.update()\n    return\n"), "    ")) == []
