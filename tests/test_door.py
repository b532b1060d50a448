"""What is answered before the command line is loaded is what the command line would answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_rule_pages import PAGES, blocks

from ampify import cli, door, engine

ROOT = Path(__file__).parents[1]
TEXTS = {
    **{
        f"{path.stem}:{block.line}:{file.path}": file.text
        for path in PAGES
        for block in blocks(path)
        for file in block.files
    },
    **{str(path.relative_to(ROOT)): path.read_text("utf-8") for path in (ROOT / "fixtures").rglob("*.py")},
    **{str(path.relative_to(ROOT)): path.read_text("utf-8") for path in (ROOT / "ampify").rglob("*.py")},
}
IDLE = "import torch\n\n\ndef double(x):\n    return 2 * x\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AMPIFY_CACHE_DIR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)


def write(**texts: str) -> list[str]:
    for name, text in texts.items():
        Path(f"{name}.py").write_text(text, "utf-8")
    return [f"{name}.py" for name in texts]


def test_where_the_door_sees_nothing_a_check_finds_nothing() -> None:
    answered = {}
    for name, text in TEXTS.items():
        if (count := door._nothing_in(write(a=text))) is not None:
            report = engine.check([Path("a.py")], engine.Run())
            answered[name] = (count, report.checked, report.files, report.errors)
    assert {name for name, answer in answered.items() if answer != (1, 1, (), ())} == set()
    assert 50 < len(answered) < len(TEXTS) / 2


@pytest.mark.parametrize("words", [["a.py"], ["check", "a.py", "b.py"], ["."], ["a.py", ".", "--fix"], ["a.py", "-q"]])
def test_the_answer_is_that_of_the_command_line(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(a=IDLE, b="x = 1\n")
    assert door._nothing_in(words) is not None
    monkeypatch.setattr(sys, "argv", ["ampify", *words])
    door.main()
    result = CliRunner().invoke(cli.main, [*words, "--no-cache"])
    assert (capsys.readouterr().out, 0) == (result.output, result.exit_code)


@pytest.mark.parametrize(
    "words",
    [[], ["-"], ["--help"], ["a.py", "--select=AMP1"], ["a.py", "--diff"], ["missing.py"], ["rules"], ["a.py", "\0"]],
)
def test_what_is_not_plain_is_for_the_command_line(words: list[str]) -> None:
    write(a=IDLE)
    Path("rules").mkdir()
    assert door._nothing_in(words) is None


@pytest.mark.parametrize(
    ("name", "text", "answered"),
    [
        ("ampify.toml", "", True),
        ("ampify.toml", "select = ['AMP1']", True),
        ("ampify.toml", "extend = 'other.toml'", False),
        ("ampify.toml", "max-file-size = 0.00001", False),
        ("ampify.toml", "baseline = 'a.json'", False),
        ("pyproject.toml", "[tool.ampify]\nignore = ['AMP999']", False),
        ("pyproject.toml", "[tool.ampify]\nselct = []", False),
        ("pyproject.toml", "[tool.ampify", False),
        ("pyproject.toml", "[project]\n", True),
    ],
)
def test_settings_that_say_more_are_for_the_command_line(name: str, text: str, answered: bool) -> None:
    Path(name).write_text(text, "utf-8")
    write(a=IDLE)
    assert (door._nothing_in(["a.py"]) is not None) is answered


def test_a_tree_that_may_be_known_is_for_the_command_line() -> None:
    Path(".ampify_cache").mkdir()
    Path("deep").mkdir()
    Path("deep", "a.py").write_text(IDLE, "utf-8")
    assert door._nothing_in(["deep"]) is None
    assert door._nothing_in(["deep/a.py"]) == 1


@pytest.mark.parametrize(
    "raw", [b"import torch\nx = (", b"# \xff torch", b"# coding: latin-1\nimport torch", b"import torch\n\0"]
)
def test_a_named_file_that_may_not_parse_is_looked_at(raw: bytes) -> None:
    Path("a.py").write_bytes(raw)
    assert door._nothing_in(["a.py"]) is None


def test_files_that_may_be_a_step_together_are_looked_at() -> None:
    write(a="def step(loss):\n    loss.backward()\n", b="x = 1\n")
    assert door._nothing_in(["."]) == 2
    write(b="import torch\n")
    assert door._nothing_in(["."]) is None


def test_files_that_another_run_was_writing_are_for_the_command_line() -> None:
    write(a=IDLE)
    Path(".ampify-journal").touch()
    assert door._nothing_in(["a.py"]) is None


def test_the_commands_are_those_of_the_command_line() -> None:
    assert set(door.COMMANDS) == set(cli.main.commands)


@pytest.mark.parametrize("words", [["--version"], ["a.py"], ["."]])
def test_nothing_dear_is_loaded(words: list[str]) -> None:
    write(a=IDLE)
    code = f"import sys; from ampify.door import main; sys.argv = ['ampify', *{words}]; main(); print(*sys.modules)"
    command = [sys.executable, "-S", "-c", f"sys = __import__('sys'); sys.path.insert(0, {str(ROOT)!r}); {code}"]
    loaded = subprocess.check_output(command, text=True).splitlines()[-1].split()
    dear = {"click", "dataclasses", "libcst", "pathlib", "pathspec", "re", "rich", "torch", "typing"}
    assert dear.isdisjoint(loaded)
