"""Suppression, baselines and questions over real rules: several files, notebooks, Markdown."""

import ast
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from ampify.cli import main
from ampify.config import Settings
from ampify.engine import check_text, fix_text
from ampify.source.edits import splice
from ampify.source.formats import decode
from ampify.source.silence import silence

FIXTURES = Path(__file__).parents[1] / "fixtures"
ENGINE = """def train(model, loader, optimizer, criterion):
    for images, labels in loader:
        loss = criterion(model(images.cuda()), labels.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
MAIN = """import torch
from engine import train

model = torch.nn.Linear(4, 2).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train(model, loader, optimizer, torch.nn.CrossEntropyLoss())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


def run(*arguments, answers=None):
    return CliRunner().invoke(main, arguments, input=answers, catch_exceptions=False)


def found(*arguments):
    return [each["code"] for each in json.loads(run("--output-format", "json", *arguments).stdout)["diagnostics"]]


class TestOneStepInTwoFiles:
    @pytest.fixture(autouse=True)
    def project(self, folder):
        (folder / "engine.py").write_text(ENGINE)
        (folder / "main.py").write_text(MAIN)

    def texts(self, folder):
        return (folder / "engine.py").read_text(), (folder / "main.py").read_text()

    def test_is_one_question(self, folder):
        result = run("--fix", "--interactive", ".", answers="y\n")
        assert result.stderr.count("Apply this fix") == 1
        assert "--- engine.py\n" in result.stderr
        assert "--- main.py\n" in result.stderr
        engine, main = self.texts(folder)
        assert "scaler.scale(loss).backward()" in engine
        assert "GradScaler" in main

    def test_is_left_in_both_files(self, folder):
        assert run("--fix", "--interactive", ".", answers="n\n").exit_code == 0
        assert self.texts(folder) == (ENGINE, MAIN)

    def test_a_range_that_is_off_in_one_file_keeps_both_as_they_are(self, folder):
        text = MAIN.replace("optimizer =", "# ampify: off\noptimizer =")
        (folder / "main.py").write_text(text)
        assert run("--fix", ".").exit_code == 0
        assert self.texts(folder) == (ENGINE, text)

    def test_a_range_ends_with_its_file(self, folder):
        (folder / "engine.py").write_text(ENGINE + "\n\n# ampify: off\n")
        (folder / "main.py").write_text(MAIN + "scaler = torch.cuda.amp.GradScaler()\n")
        assert found(".") == ["AMP001", "AMP903", "AMP102"]

    def test_rules_that_are_off_for_one_file(self, folder):
        assert found(".") == ["AMP001"]
        assert found("--per-file-ignores", "main.py:AMP001", ".") == ["AMP001"]
        assert found("--per-file-ignores", "engine.py:AMP0", ".") == []

    def test_unused_comments_of_both_files_go(self, folder):
        (folder / "main.py").write_text(MAIN + "print()  # ampify: ignore[AMP206]\n")
        (folder / "engine.py").write_text(ENGINE.replace("loader:", "loader:  # noqa: AMP001, AMP206"))
        assert found(".") == ["AMP903", "AMP903"]
        run("--fix", ".")
        assert self.texts(folder) == (ENGINE.replace("loader:", "loader:  # noqa: AMP001"), MAIN + "print()\n")

    def test_comments_and_baselines(self, folder):
        assert run("--write-baseline", "known.json", ".").exit_code == 0
        (folder / "engine.py").write_text("# moved\n\n" + ENGINE)
        assert found("--baseline", "known.json", ".") == []
        assert run("--add-ignore", ".").exit_code == 0
        assert (folder / "main.py").read_text() == MAIN
        assert found(".") == []


@pytest.mark.parametrize("comment", ["ampify: ignore", "noqa: AMP206", "NOQA:E501,amp206", "ampify: on"])
def test_a_file_that_only_holds_an_unused_comment_is_looked_at(folder, comment):
    (folder / "a.py").write_text(f"import torch\n\nx = 1  # {comment}\n")
    assert found(".") == ["AMP903"]


def test_comments_in_notebooks_and_markdown(folder):
    """Comments are written into all of them; the code stays what it was, and nothing is left to say."""
    for name in ("notebooks", "markdown"):
        shutil.copytree(FIXTURES / name, folder / name)
    before = code_of_all(folder)
    assert run("--add-ignore=known", ".", "--fail-level", "error", "--ignore", "AMP9").exit_code == 0
    assert code_of_all(folder) == before
    assert found(".", "--ignore", "AMP9") == []


def code_of_all(folder):
    """What each part of each file says, without comments."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".ipynb", ".md"))
    parts = [(path.name, part.text) for path in files for part in decode(path, path.read_bytes()).parts]
    return [(name, said(text)) for name, text in parts]


def said(text):
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:
        return None


COMMENTS = [
    "",
    "",
    "  # ampify: ignore",
    "  # ampify: ignore[AMP101]",
    "  # ampify: ignore[AMP101, AMP102] why",
    "  # type: ignore # ampify: ignore[AMP102]",
    "  # noqa",
    "  # noqa: AMP102",
    "  # noqa: AMP101, F401",
]
LINES = [
    "x = 1",
    "with torch.cuda.amp.autocast():\n    y = 1",
    "s = torch.cuda.amp.GradScaler(\n    enabled=True,\n)",
    "z = '''\n# ampify: off\n'''",
    "# ampify: off",
    "# ampify: off[AMP101]",
    "# ampify: on",
    "if x:\n    pass",
]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(COMMENTS)), max_size=6))
def test_comments_come_and_go_and_the_code_stays(lines):
    text = "import torch\n" + "".join(
        line.replace("\n", f"{comment}\n", 1) + "\n" if "\n" in line and "'''" not in line else f"{line}{comment}\n"
        for line, comment in lines
    )
    kept = Settings(unfixable=("AMP1",))
    after, left = fix_text(text, kept)
    assert said(after) == said(text)
    assert "AMP903" not in [each.code for each in left]
    assert [(d.code, d.message) for d in left] == [
        (d.code, d.message) for d in check_text(text, kept) if d.code != "AMP903"
    ]
    assert fix_text(after, kept)[0] == after
    quiet = splice(after, silence(after, [(each.span.start, each.code) for each in left]))
    assert said(quiet) == said(text)
    assert check_text(quiet, kept) == []
