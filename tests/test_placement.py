"""Where `unscale_` and `update` go in: whole scripts in, the lines around the scaler out."""

from __future__ import annotations

from textwrap import dedent, indent

import pytest

from ampify.config import Settings
from ampify.engine import fix_text

MADE = """
import torch
from torch import nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
gen = nn.Linear(3, 3).to(device)
disc = nn.Linear(3, 1).to(device)
opt_d = torch.optim.SGD({disc}, lr=0.1)
opt_g = torch.optim.SGD(gen.parameters(), lr=0.1)
"""


def _scaler_lines(text: str, kept: tuple[str, ...] = ()) -> list[str]:
    """The lines of the conversion that call the scaler, or contain one of ``kept``."""
    after, _ = fix_text(text, Settings())
    words = ("scaler.unscale_", "scaler.step", "scaler.update", *kept)
    return [line.strip() for line in after.splitlines() if any(word in line for word in words)]


ALTERNATING = """
opt_d.zero_grad()
loss_d = disc(x).mean()
loss_d.backward()
nn.utils.clip_grad_norm_(disc.parameters(), 0.5)
opt_d.step()
opt_g.zero_grad()
loss_g = disc(gen(x)).mean()
loss_g.backward()
nn.utils.clip_grad_norm_(gen.parameters(), 0.5)
opt_g.step()
"""


@pytest.mark.parametrize("names", ["gen, disc, opt_g, opt_d, x", "x, disc, gen, opt_d, opt_g"])
@pytest.mark.parametrize("disc", ["disc.parameters()", '[{"params": disc.parameters(), "lr": 0.3}]'])
def test_unscales_the_optimizer_of_the_clipped_model_where_both_are_parameters(names: str, disc: str):
    train = f"def train({names}):" + indent(ALTERNATING, "    ")
    text = f"{MADE.format(disc=disc)}\n{train}\nfor _ in range(5):\n    x = torch.randn(4, 3, device=device)\n"
    arguments = ", ".join(f"{name}={name}" for name in names.split(", "))
    assert _scaler_lines(f"{text}    train({arguments})\n") == [
        "scaler.unscale_(opt_d)",
        "scaler.step(opt_d)",
        "scaler.unscale_(opt_g)",
        "scaler.step(opt_g)",
        "scaler.update()",
    ]


def test_updates_before_a_jump_out_of_the_branch_of_the_last_step():
    loop = """
    for i in range(6):
        x = torch.randn(4, 3, device=device)
        opt_d.zero_grad()
        loss_d = disc(x).mean()
        loss_d.backward()
        opt_d.step()
        if i % 2 == 0:
            opt_g.zero_grad()
            loss_g = disc(gen(x)).mean()
            loss_g.backward()
            norm = nn.utils.clip_grad_norm_(gen.parameters(), 0.5)
            if norm > 0.1:
                continue
            opt_g.step()
    """
    text = MADE.format(disc="disc.parameters()") + dedent(loop)
    assert _scaler_lines(text, ("continue",)) == [
        "scaler.step(opt_d)",
        "scaler.unscale_(opt_g)",
        "scaler.update()",
        "continue",
        "scaler.step(opt_g)",
        "scaler.update()",
    ]


def test_no_update_before_a_jump_that_no_step_can_precede():
    loop = """
    for i in range(6):
        x = torch.randn(4, 3, device=device)
        loss_d = disc(x).mean()
        if not torch.isfinite(loss_d):
            continue
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()
        opt_g.zero_grad()
        loss_g = disc(gen(x)).mean()
        loss_g.backward()
        opt_g.step()
    """
    text = MADE.format(disc="disc.parameters()") + dedent(loop)
    assert _scaler_lines(text, ("continue",)) == [
        "continue",
        "scaler.step(opt_d)",
        "scaler.step(opt_g)",
        "scaler.update()",
    ]


def test_refuses_a_jump_after_a_step_that_may_not_have_been():
    loop = """
    for i in range(6):
        x = torch.randn(4, 3, device=device)
        opt_d.zero_grad()
        opt_g.zero_grad()
        loss = disc(gen(x)).mean()
        loss.backward()
        if i % 2 == 0:
            opt_d.step()
        if i == 3:
            continue
        opt_g.step()
    """
    text = MADE.format(disc="disc.parameters()") + dedent(loop)
    after, diagnostics = fix_text(text, Settings())
    assert after == text
    assert [diagnostic.code for diagnostic in diagnostics] == ["AMP017"]


GUARDED = """
for i in range(6):
    {first}
    loss = disc(torch.randn(4, 3, device=device)).mean()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(disc.parameters(), 0.5)
    if norm > 0.1:
        {guard}
        continue
    opt_d.step()
    {last}
"""


@pytest.mark.parametrize("place", ["first", "guard"])
def test_updates_before_a_jump_whose_gradients_are_cleared(place: str):
    lines = {"first": "pass", "guard": "pass", "last": "opt_d.zero_grad()", place: "opt_d.zero_grad()"}
    text = MADE.format(disc="disc.parameters()") + GUARDED.format(**lines)
    assert _scaler_lines(text, ("continue",)) == [
        "scaler.unscale_(opt_d)",
        "scaler.update()",
        "continue",
        "scaler.step(opt_d)",
        "scaler.update()",
    ]


def test_refuses_a_jump_that_leaves_unscaled_gradients_behind():
    lines = {"first": "pass", "guard": "pass", "last": "opt_d.zero_grad()"}
    text = MADE.format(disc="disc.parameters()") + GUARDED.format(**lines)
    after, diagnostics = fix_text(text, Settings())
    assert after == text
    assert [diagnostic.code for diagnostic in diagnostics] == ["AMP017"]
