"""Gradients that a step leaves behind: a backward that adds scaled ones to them is no longer the same program."""

from __future__ import annotations

import pytest
from execution import assert_same, run
from test_traps import HEAD

from ampify.config import Settings
from ampify.engine import fix_text

POLICY = """\
for phase in range(2):
    for x, y in data:
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        opt.step()
        log.append(loss.item())
    {between}
    for i, (x, y) in enumerate(data):
        loss = model(x).pow(2).mean() / 4
        loss.backward()
        if (i + 1) % 4 == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            opt.step()
            opt.zero_grad()
        log.append(loss.item())
"""

FUNCTIONS = """\
def first(x, y):
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    return loss.item()


def second(x):
    loss = model(x).pow(2).mean()
    loss.backward()
    opt.step()
    return loss.item()


for x, y in data:
    log.append(first(x, y))
    {between}
    log.append(second(x))
    opt.zero_grad()
"""

SHARED = """\
slow = torch.optim.SGD(model.parameters(), lr=0.01)
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    {between}
    loss = model(x).pow(2).mean()
    loss.backward()
    slow.step()
    slow.zero_grad()
    log.append(loss.item())
"""

HELPER = (
    """\
def forget():
    opt.zero_grad()


"""
    + FUNCTIONS
)

SHAPES = {"two loops": POLICY, "two functions": FUNCTIONS, "two optimizers": SHARED}


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_a_step_that_a_later_backward_adds_to(shape: str):
    before = HEAD + SHAPES[shape].format(between="pass")
    after, left = fix_text(before, Settings())
    assert after == before
    assert [d.code for d in left] == ["AMP017"]
    assert "left behind unscaled" in left[0].message


def test_what_scaling_would_make_of_them():
    """By hand, as it would be converted: the first step of the second loop is not that of the original."""
    original = HEAD + POLICY.format(between="pass")
    scaled = original.replace("log = []", 'log = []\nscaler = torch.amp.GradScaler("cuda", enabled=False)')
    scaled = scaled.replace("loss.backward()", "scaler.scale(loss).backward()")
    scaled = scaled.replace("nn.utils.clip", "scaler.unscale_(opt)\nnn.utils.clip").replace(
        "opt.step()", "scaler.step(opt)\nscaler.update()"
    )
    lines, indent = [], ""
    for line in scaled.splitlines():
        indent = (
            line[: len(line) - len(line.lstrip())] if not line.startswith(("nn.utils", "scaler.update")) else indent
        )
        lines.append(line if line.startswith(indent) else indent + line)
    with pytest.raises(AssertionError):
        assert_same(run(original, "original"), run("\n".join(lines), "scaled"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("between", ["opt.zero_grad()", "model.zero_grad()"])
def test_gradients_that_are_cleared_in_between(shape: str, between: str):
    before = HEAD + SHAPES[shape].format(between=between)
    after, left = fix_text(before, Settings())
    assert left == []
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert_same(original, run(after, "scaled"))


def test_gradients_that_a_function_clears():
    before = HEAD + HELPER.format(between="forget()")
    after, left = fix_text(before, Settings())
    assert left == []
    assert_same(run(before, "original"), run(after, "scaled"))


def test_gradients_of_another_network_that_are_cleared_before_they_are_stepped_with():
    before = f"""{HEAD}
critic = nn.Linear(4, 1).to(device)
opt_c = torch.optim.SGD(critic.parameters(), lr=0.1)
for x, y in data:
    loss_c = F.mse_loss(critic(model(x).detach()), torch.ones(6, 1, device=device))
    opt_c.zero_grad()
    loss_c.backward()
    opt_c.step()
    loss = F.mse_loss(critic(model(x)), torch.zeros(6, 1, device=device))
    opt.zero_grad()
    loss.backward()
    opt.step()
    log.append(loss.item())
"""
    after, left = fix_text(before, Settings())
    assert left == []
    assert_same(run(before, "original"), run(after, "scaled"))
