"""Training steps inside tests: what is asserted of them was measured in float32, so they are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampify.config import Settings
from ampify.engine import Run, check

STEP = """\
import torch
from torch import nn
{imports}

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


{body}
"""
LOOP = """\
def {name}({first}):
    model = nn.Linear(4, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in data:
        optimizer.zero_grad()
        loss = model(x.to(device)).square().sum()
        loss.backward()
        optimizer.step()
    return loss
"""
TEST = LOOP.format(name="test_loss", first="data")
HELPED = LOOP.format(name="train", first="data") + "\n\ndef test_loss(data):\n    assert train(data) < 1\n"
METHOD = "class LossTest(unittest.TestCase):\n" + "    ".join(
    ["", *LOOP.format(name="test_loss", first="self, data=()").splitlines(True)]
)


def found(folder: Path, name: str, body: str, **settings: bool) -> list[tuple[str, str]]:
    path = folder / name
    path.write_text(STEP.format(imports="import unittest", body=body), "utf-8")
    report = check([path], Run(lambda _: Settings(**settings)))
    return [(d.code, d.message) for file in report.files for d in file.diagnostics if d.code.startswith("AMP0")]


@pytest.mark.parametrize("body", [TEST, HELPED, METHOD])
@pytest.mark.parametrize("name", ["test_loss.py", "loss_test.py"])
def test_a_step_in_a_test_is_left_alone(tmp_path: Path, name: str, body: str) -> None:
    [(code, message)] = found(tmp_path, name, body)
    assert code == "AMP017"
    assert "part of a test" in message


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("loss.py", TEST),
        ("test.py", HELPED),
        ("test_speed.py", LOOP.format(name="train", first="data")),
        ("tests.py", METHOD),
    ],
)
def test_a_script_is_no_test_by_its_name_alone(tmp_path: Path, name: str, body: str) -> None:
    assert [code for code, _ in found(tmp_path, name, body)] == ["AMP001"]


def test_unsafe_fixes_convert_it_all_the_same(tmp_path: Path) -> None:
    assert [code for code, _ in found(tmp_path, "test_loss.py", TEST, unsafe_fixes=True)] == ["AMP001"]


@pytest.mark.parametrize(
    ("folder", "marked", "code"),
    [("tests/parity", True, "AMP017"), ("test", True, "AMP017"), ("tests", False, "AMP001"), ("src", True, "AMP001")],
)
def test_what_lies_among_the_tests_of_a_project_is_part_of_them(tmp_path: Path, folder: str, marked: bool, code: str):
    (tmp_path / folder).mkdir(parents=True)
    if marked:
        (tmp_path / "pyproject.toml").touch()
    assert [found_code for found_code, _ in found(tmp_path / folder, "reference.py", HELPED)] == [code]


@pytest.mark.parametrize(
    ("name", "refused"), [("benchmark_fp32.py", True), ("float32-run.py", True), ("fp32x.py", False)]
)
def test_a_file_that_says_by_its_name_that_it_trains_in_float32(tmp_path: Path, name: str, refused: bool) -> None:
    body = LOOP.format(name="train", first="data")
    [(code, message)] = found(tmp_path, name, body)
    assert (code == "AMP017" and "by its name" in message) == refused
    assert (code == "AMP001") != refused
    [(code, _)] = found(tmp_path, name, body, unsafe_fixes=True)
    assert code == "AMP001"
