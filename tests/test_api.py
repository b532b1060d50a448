"""The Python interface: what it returns, that it is typed, that it costs nothing until it is used."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ampify

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
EXAMPLE, SHOWN = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.S)[1] for kind in ("python", "text"))
STEP = re.search(r'"""\\\n(.*?)"""', EXAMPLE, re.S)[1]
OLD = "import torch\n\nscaler = torch.cuda.amp.GradScaler()\n"


def test_the_example_of_the_page_prints_what_it_says():
    assert subprocess.check_output([sys.executable, "-c", EXAMPLE], text=True, cwd=ROOT) == SHOWN


def test_the_example_of_the_page_is_typed(tmp_path):
    wrong = '\nconverted.source = ""\nprint(ampify.check_source(1), ampify.Verdict, ampify.verify_script("x").word)\n'
    (tmp_path / "good.py").write_text(EXAMPLE)
    (tmp_path / "wrong.py").write_text(EXAMPLE + wrong)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache"]
    result = subprocess.run(
        [*command, "good.py", "wrong.py"], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "MYPYPATH": str(ROOT)},
    )  # fmt: skip
    errors = [line for line in result.stdout.splitlines() if "error:" in line]
    assert [line.partition(":")[0] for line in errors] == ["wrong.py", "wrong.py"], result.stdout
    assert "[misc]" in errors[0]
    assert "[arg-type]" in errors[1]


def test_a_finding():
    (found,) = ampify.check_source(OLD)
    assert (found.code, found.severity, found.start) == ("AMP102", "warning", ampify.Position(3, 10))
    assert found.fix.applicability == "safe"
    assert found.fix.edits[0] == ampify.Edit(ampify.Position(3, 10), ampify.Position(3, 35), "torch.amp.GradScaler")


def test_options():
    assert ampify.check_source(OLD, ignore=["AMP1"]) == []
    assert ampify.convert_source(OLD, select=["AMP206"]).source == OLD
    assert "bfloat16" in ampify.convert_source(STEP, dtype="bfloat16").source
    for wrong in ({"select": ["X"]}, {"target_torch": "1.0"}, {"speed": 1}, {"select": ["AMP999"]}):
        with pytest.raises(ampify.AmpifyError):
            ampify.check_source(OLD, **wrong)


def test_a_source_that_does_not_parse_is_a_finding():
    assert [found.code for found in ampify.check_source("import torch\ndef (\n")] == ["AMP900"]
    assert ampify.convert_source("import torch\ndef (\n").changed is False
    with pytest.raises(ampify.AmpifyError):
        ampify.erase_source("import torch\ndef (\n")


def test_a_declared_encoding_is_that_of_the_file_not_of_the_text():
    source = "# -*- coding: latin-1 -*-\nname = '€'; " + OLD.replace("\n\n", "; ")
    assert "torch.amp.GradScaler" in ampify.convert_source(source).source


def test_a_notebook_and_a_page():
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": [OLD]}]
    book = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    (found,) = ampify.check_source(book, filename="a.ipynb")
    assert found.start == ampify.Position(3, 10, 1)
    after = json.loads(ampify.convert_source(book, filename="a.ipynb").source)
    assert "torch.amp.GradScaler" in "".join(after["cells"][0]["source"])
    page = ampify.convert_source(f"# Title\n\n```python\n{OLD}```\n", filename="a.md").source
    assert page == f"# Title\n\n```python\n{OLD}```\n".replace(
        "torch.cuda.amp.GradScaler()", 'torch.amp.GradScaler("cuda")'
    )
    with pytest.raises(ampify.AmpifyError):
        ampify.check_source("{", filename="a.ipynb")


def test_a_script_is_verified(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(STEP.replace(".cuda()", "").replace("in loader", "in [(torch.rand(2, 4), torch.rand(2, 1))] * 3"))
    verdict = ampify.verify_script(script, steps=2, device="cpu", cwd=tmp_path)
    assert isinstance(verdict, ampify.Verdict)
    with pytest.raises(ampify.AmpifyError):
        ampify.verify_script(tmp_path / "missing.py")


def test_names():
    assert {*ampify.__all__} <= {*dir(ampify)}
    assert all(hasattr(ampify, name) for name in ampify.__all__)
    with pytest.raises(AttributeError):
        _ = ampify.nothing
    assert (ROOT / "ampify" / "py.typed").is_file()
