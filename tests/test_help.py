"""The help of every command, its examples, which run, and the completion of a shell."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ampify.cli import main
from ampify.cli.examples import EXAMPLES

ROOT = Path(__file__).parents[1]
LINES = [line for rows in EXAMPLES.values() for line, _ in rows]


def shown(*words):
    return CliRunner().invoke(main, [*words, "--help"], terminal_width=80, prog_name="ampify").stdout


@pytest.mark.parametrize("name", ["", *main.commands])
def test_every_command_shows_its_examples(name):
    text = shown(*name.split())
    assert all(f"$ {line}" in text for line, _ in EXAMPLES[name])
    assert all(len(line) <= 80 for line in text.splitlines())


def test_no_example_is_of_a_command_that_is_not_there():
    assert {*EXAMPLES} == {"", *main.commands}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "src").mkdir()
    for folder in (tmp_path, tmp_path / "src"):
        shutil.copy(ROOT / "fixtures" / "quickstart" / "train.py", folder)
    return tmp_path


@pytest.mark.parametrize("line", LINES)
def test_the_example_runs(project, line):
    program, *words = shlex.split(line)
    assert program == "ampify"
    command, environment = [sys.executable, "-m", "ampify", *words], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=project, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    assert (done.stdout + done.stderr).strip() or words[-1] in ("--statistics", "ampify.sarif", "server")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ampify ver", "plain,verify"),
        ("ampify check --fail-l", "plain,--fail-level"),
        ("ampify check --fail-level w", "plain,warning"),
        ("ampify src --diff-", "plain,--diff-base"),
    ],
)
def test_a_shell_completes(typed, offered):
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_AMPIFY_COMPLETE": "bash_complete"}
    code = "from ampify.cli import main; main(prog_name='ampify')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **words}, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert offered in done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell):
    variable = {"_AMPIFY_COMPLETE": f"{shell}_source"}
    code = "from ampify.cli import main; main(prog_name='ampify')"
    script = subprocess.check_output([sys.executable, "-c", code], env={**os.environ, **variable}, text=True, cwd=ROOT)
    assert "_AMPIFY_COMPLETE" in script
    assert f"_AMPIFY_COMPLETE={shell}_source" in (ROOT / "docs" / "commands.md").read_text("utf-8")
