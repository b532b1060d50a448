"""`--fix --verified-only SCRIPT`, with scripts that run on the CPU."""

import pytest
from click.testing import CliRunner

from ampify.cli import main

STEP = """
def {name}(steps):
    model = nn.Linear(8, 3).to(device)
    {hook}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        x, y = torch.randn(4, 8, device=device), torch.randint(0, 3, (4,), device=device)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
"""
HEAD = """import sys

import torch
from torch import nn

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
"""
HIDDEN = 'getattr(model.weight, "register" + "_hook")(lambda grad: grad.clamp(-0.01, 0.01))'
"""Clamps what it takes for gradients, in a way that no reader of the code can see."""
GOOD, BAD = STEP.format(name="good", hook="model.train()"), STEP.format(name="bad", hook=HIDDEN)


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def write(text):
        (tmp_path / "train.py").write_text(HEAD + text)
        return tmp_path / "train.py"

    return write


def run(*arguments):
    return CliRunner().invoke(main, ["--fix", "--verified-only", "train.py", ".", *arguments], catch_exceptions=False)


def test_a_conversion_that_holds_is_written(script):
    file = script(GOOD + "\ngood(int(sys.argv[1]))\n")
    result = run("--", "6")
    assert "scaler.scale(loss).backward()" in file.read_text()
    assert "wrote train.py as it was verified; held: L0, L1, L2, L2s, ledger; not run: L3, L4" in result.stderr
    assert (result.exit_code, "no CUDA device" in result.stderr or "CUDA" in result.stderr) == (0, True)
    assert run("--", "6").exit_code == 0


def test_one_that_does_not_hold_is_not(script):
    file = script(BAD + "\nbad(6)\n")
    before = file.read_text()
    result = run()
    assert file.read_text() == before
    assert "no conversion is written: the verdict is NOT EQUIVALENT" in result.stderr
    assert result.exit_code == 1
    assert "AMP901 `ampify verify train.py` does not hold for this step" in result.stdout


def test_of_two_the_one_that_holds_is_written(script):
    file = script(GOOD + BAD + "\ngood(6)\nbad(6)\n")
    result = run()
    good, bad = file.read_text().split("\ndef bad")
    assert "scaler.step(optimizer)" in good
    assert "scaler" not in bad
    assert result.exit_code == 1


def test_what_does_not_run_is_not_verified(script):
    file = script(GOOD + BAD + "\ngood(6)\n")
    assert run().exit_code == 0
    good, bad = file.read_text().split("\ndef bad")
    assert ("scaler" in good, "scaler" in bad) == (True, False)


def test_a_script_that_fails_is_not_verified(script):
    file = script(GOOD + "\nraise OSError('there is no data')\n")
    before = file.read_text()
    result = run()
    assert (result.exit_code, file.read_text()) == (2, before)
    assert "there is no data" in result.stderr


def test_other_fixes_are_written_as_ever(script):
    file = script("from torch.cuda.amp import GradScaler\n" + GOOD + "\nraise OSError\n\nGradScaler()\n")
    run()
    assert "torch.cuda.amp" not in file.read_text()
    assert "autocast" not in file.read_text()


def test_all_files_that_change_are_to_be_given(script, tmp_path):
    (tmp_path / "steps.py").write_text(HEAD + GOOD)
    script("from steps import good\n\ngood(6)\n")
    before = (tmp_path / "steps.py").read_text()
    command = ["--fix", "--verified-only", "train.py", "train.py"]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert (result.exit_code, (tmp_path / "steps.py").read_text()) == (2, before)
    assert "steps.py would change too" in result.stderr
