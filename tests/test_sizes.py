"""Files that are too large are left alone, with AMP905; `max-file-size` lifts the limit, or lowers it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ampify.cli import main

OLD = "import torch\nwith torch.cuda.amp.autocast():\n    pass\n"
"""AMP101."""
STEP = "def step(model, optimizer, x):\n    model(x).backward()\n    optimizer.step()\n"
CALL = "import torch\nfrom m import step\nm = torch.nn.Linear(1, 1)\nstep(m, torch.optim.SGD(m.parameters()), 1)\n"
LONG = "# ----------------\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def codes(*words: str) -> list[str]:
    result = CliRunner().invoke(main, ["--no-cache", "--output-format", "json", ".", *words], catch_exceptions=False)
    return [found["code"] for found in json.loads(result.stdout)["diagnostics"]]


@pytest.mark.parametrize(
    ("words", "settings", "found"),
    [
        ([], "", ["AMP905"]),
        (["--max-file-size", "0"], "", ["AMP101"]),
        (["--max-file-size", "2.1"], "", ["AMP101"]),
        ([], "max-file-size = 0", ["AMP101"]),
        ([], "max-file-size = 3", ["AMP101"]),
        (["--max-file-size", "2"], "max-file-size = 3", ["AMP905"]),
        (["--ignore", "AMP905"], "", []),
    ],
)
def test_two_megabytes_unless_told_otherwise(words: list[str], settings: str, found: list[str]) -> None:
    Path("ampify.toml").write_text(settings, "utf-8")
    Path("a.py").write_text(f"{OLD}'''{' ' * 2_000_000}'''\n", "utf-8")
    assert codes(*words) == found


def test_the_limit_is_said_with_what_lifts_it() -> None:
    Path("a.py").write_text(OLD, "utf-8")
    result = CliRunner().invoke(main, ["a.py", "--no-cache", "--max-file-size", "0.00001"])
    assert "The file is larger than 1e-05 MB; `max-file-size` says how large one may be" in result.output


def test_what_a_notebook_stores_beside_its_code_does_not_count() -> None:
    cell = {"cell_type": "code", "source": OLD, "metadata": {}, "execution_count": None}
    image = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "A" * 2_000_000}}
    book = {"cells": [{**cell, "outputs": [image]}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    Path("a.ipynb").write_text(json.dumps(book), "utf-8")
    assert codes() == ["AMP101"]
    assert codes("--max-file-size", "0.00001") == ["AMP905"]


def test_a_large_file_is_no_part_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("m.py").write_text(STEP + LONG * 100, "utf-8")
    Path("train.py").write_text(CALL, "utf-8")
    assert "AMP905" not in codes()
    read = list[str]()
    monkeypatch.setattr("ampify.model.summary.summarize", lambda path, text: read.append(Path(path).name))
    codes("--max-file-size", "0.001")
    assert "m.py" not in read
    codes()
    assert "m.py" in read
