"""Losses that are means of half-precision values: they are computed in float32, so that their gradients are finite."""

from __future__ import annotations

import pytest
from execution import assert_same, run
from test_traps import HEAD

from ampify.config import Settings
from ampify.engine import fix_text

STEP = """\
for x, y in data[:1]:
    opt.zero_grad()
    {loss}
    loss.backward()
    opt.step()
    log.append((str(loss.dtype), loss.item()))
"""
USUAL = 2.0**16
"""What `GradScaler` begins with."""

LOSSES = {
    "a function": "loss = -torch.mean(model(x))",
    "a method": "loss = model(x).mean()",
    "a name": "out = model(x)\n    loss = -out.mean()",
    "a difference": "loss = torch.mean(model(x)) - model(x + 1).mean()",
    "a hinge": "loss = F.relu(1.0 - model(x)).mean()",
    "squares": "loss = model(x).square().mean()",
    "a sum of parts": "a, b = model(x).mean(), model(-x).mean()\n    loss = (a + b) / 2",
    "added up": "loss = model(x).mean()\n    loss += 0.5 * model(-x).mean()",
    "a helper": "loss = score(model(x))",
    "inline": "loss = model(x).mean()",
}
HELPER = "def score(out):\n    return -torch.mean(out)\n\n\n"


@pytest.mark.parametrize("shape", LOSSES)
def test_a_mean_has_a_finite_gradient_at_the_usual_scale(shape: str):
    before = HEAD + HELPER + STEP.format(loss=LOSSES[shape])
    after, left = fix_text(before, Settings())
    assert left == []
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert_same(original, run(after, "scaled"))
    full = run(after, "full", scale=USUAL)
    assert full.log[0][0] == "torch.float32"
    assert len(full.steps) == 1, "the step was skipped"
    halved = run(after.replace(".float()", ""), "full", scale=USUAL)
    assert halved.steps == [], "without `.float()` it would not be skipped either"


def test_a_sum_behind_the_region_is_in_float32() -> None:
    step = "for x, y in data[:1]:\n    opt.zero_grad()\n    out = model(x)\n    out.sum().backward()\n    opt.step()\n"
    after, left = fix_text(HEAD + step, Settings())
    assert left == []
    assert "    scaler.scale(out.float().sum()).backward()\n" in after
    assert_same(run(HEAD + step, "original"), run(after, "off"))


def test_a_sum_in_a_function_that_a_region_calls_is_in_float32_already() -> None:
    helper = "def total(out):\n    return torch.sum(out) / 4\n\n\n"
    after, left = fix_text(HEAD + helper + STEP.format(loss="loss = total(model(x))"), Settings())
    assert left == []
    assert ".float()" not in after


@pytest.mark.parametrize(
    "loss",
    [
        "loss = F.mse_loss(model(x), torch.zeros(6, 4, device=device))",
        "loss = (model(x) - F.one_hot(y, 4).float()).abs().mean()",
        "loss = model(x).float().mean()",
        "loss = model(x).exp().mean()",
        "loss = (model(x) ** 2).mean()",
        "loss = model(x).sum()",
    ],
)
def test_what_is_in_float32_already_is_left_alone(loss: str):
    before = HEAD + STEP.format(loss=loss)
    after, left = fix_text(before, Settings())
    assert left == []
    assert after.count(".float()") == before.count(".float()")
    assert run(after, "full", scale=USUAL).log[0][0] == "torch.float32"


SURE = """\
with torch.no_grad():
    model.b.bias.fill_(12.0)
for x, y in data[:1]:
    opt.zero_grad()
    {loss}
    loss.backward()
    opt.step()
    log.append(model.b.bias.tolist())
"""
LOGARITHMS = [
    "loss = -torch.log(1 - torch.sigmoid(model(x)) + 1e-6).mean()",
    "loss = -(1 - model(x).sigmoid() + 1e-6).log().mean()",
    "p = torch.sigmoid(model(x))\n    loss = -torch.log(1 - p + 1e-6).mean()",
    "loss = surprise(model(x))",
]
SURPRISE = "def surprise(out):\n    return -torch.log(1 - torch.sigmoid(out) + 1e-6).mean()\n\n\n"


@pytest.mark.parametrize("loss", LOGARITHMS)
def test_the_logarithm_of_a_probability_keeps_its_gradient(loss: str):
    before = HEAD + SURPRISE + SURE.format(loss=loss)
    after, left = fix_text(before, Settings())
    assert left == []
    original = run(before, "original")
    assert_same(original, run(after, "scaled"))
    exact, half = original.log[0], run(after, "full").log[0]
    assert all(bias < 12.0 for bias in exact)
    assert half == pytest.approx(exact, rel=1e-3)
    assert run(after.replace(".float()", ""), "full").log[0] == [12.0] * 4


def test_a_softmax_is_in_float32_by_itself():
    text = HEAD + SURE.format(loss="loss = -torch.log(torch.softmax(model(x), 1)).mean()")
    assert ".float()" not in fix_text(text, Settings())[0]


def test_an_array_behind_a_region_stays_in_float32() -> None:
    step = STEP.replace("log.append((str(loss.dtype), loss.item()))", "log.append((str({}.dtype), loss.item()))")
    body = "out = model(x)\n    loss = F.mse_loss(out, torch.zeros(6, 4, device=device))"
    before = HEAD + step.format("out.detach().cpu().numpy()", loss=body)
    after, left = fix_text(before, Settings())
    assert left == []
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert run(after, "full", scale=1.0).log[0][0] == original.log[0][0] == "float32"
    assert run(after.replace(".float()", ""), "full", scale=1.0).log[0][0] == "float16"


REWARDS = """\
rewards = [1000.3, -2000.7, 0.1234567, 3000.9, 4.0, 5.0]
for x, y in data[:1]:
    opt.zero_grad()
    values = model(x).max(dim=1)[0]
    target = {0}
    loss = F.smooth_l1_loss(values, target)
    loss.backward()
    opt.step()
    log.append((str(target.dtype), target.tolist()))
"""
MADE = ["values.new_tensor(rewards)", "values.detach().new_tensor(rewards) + 1"]


@pytest.mark.parametrize("made", MADE)
def test_numbers_that_take_the_dtype_of_an_output_are_not_rounded(made: str) -> None:
    before = HEAD + REWARDS.format(made)
    after, left = fix_text(before, Settings())
    assert left == []
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert run(after, "full", scale=1.0).log == original.log
    assert run(after.replace(".float()", ""), "full", scale=1.0).log[0][0] == "torch.float16"


@pytest.mark.parametrize("made", ["values.new_tensor([0.5] * 6)", "values.new_tensor(rewards, dtype=torch.float32)"])
def test_what_is_exact_or_has_a_dtype_is_made_as_it_was(made: str) -> None:
    after, left = fix_text(HEAD + REWARDS.format(made), Settings())
    assert left == []
    assert ".float()" not in after
