"""Options, output and exit statuses of `ampify verify`; nothing is run."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ampify.cli import main
from ampify.verify.report import html
from ampify.verify.verdict import Verdict


@pytest.fixture
def climbed(tmp_path, monkeypatch):
    """The requests that would have been run; every verdict is the word in the script's name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    found = []

    def climb(request, track):
        track("reference")
        found.append(request)
        words = {"bad": "NOT EQUIVALENT", "stuck": "CANNOT RUN"}
        return Verdict(title=request.title, word=words.get(Path(request.title.split()[0]).stem, "EQUIVALENT"))

    monkeypatch.setattr("ampify.verify.ladder.climb", climb)
    for name in ("good", "bad", "stuck"):
        (tmp_path / f"{name}.py").write_text("import torch\n", "utf-8")
    return found


def run(*arguments):
    return CliRunner().invoke(main, ["verify", *arguments], catch_exceptions=False)


@pytest.mark.parametrize(("script", "status"), [("good.py", 0), ("bad.py", 1), ("stuck.py", 2)])
def test_exit_statuses(climbed, script, status):
    assert run(script).exit_code == status
    assert len(climbed) == 1


def test_what_is_not_said_has_its_default(climbed, tmp_path):
    run("good.py")
    (request,) = climbed
    assert request.script == tmp_path / "good.py"
    assert request.title == "good.py"
    assert (request.args, request.cwd, request.python) == ((), tmp_path, sys.executable)
    assert (request.steps, request.seed, request.timeout, request.device) == (8, 0, 600.0, "auto")
    assert request.launch == ()
    flags = (request.numerics, request.bench, request.fake_cuda, request.synthetic_data)
    assert not any(flags)


def test_every_option_arrives(climbed):
    run(
        "good.py", "--steps", "4", "--seed", "3", "--timeout", "9.5", "--device", "cpu", "--dtype", "bfloat16",
        "--numerics", "--bench", "--fake-cuda", "--synthetic-data", "--launch", "torchrun --nproc-per-node 2",
        "--unsafe-fixes", "--target-torch", "2.4", "--python", "/opt/python", "--", "--epochs", "1", "-m", "x",
    )  # fmt: skip
    (request,) = climbed
    assert request.args == ("--epochs", "1", "-m", "x")
    assert (request.steps, request.seed, request.timeout, request.device) == (4, 3, 9.5, "cpu")
    assert (request.dtype, request.python) == ("bfloat16", "/opt/python")
    assert all((request.numerics, request.bench, request.fake_cuda, request.synthetic_data))
    assert request.launch == ("torchrun", "--nproc-per-node", "2")
    settings = request.settings(Path("good.py"))
    assert (settings.dtype, settings.unsafe_fixes, settings.target_torch) == ("bfloat16", True, (2, 4))


def test_a_module(climbed):
    run("-m", "package.train", "--", "--lr", "1")
    assert (climbed[0].module, climbed[0].script, climbed[0].args) == ("package.train", None, ("--lr", "1"))
    assert climbed[0].title == "-m package.train --lr 1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.py"], "there is no file `gone.py`"),
        (["good.py", "--epochs", "1"], "No such option"),
        (["good.py", "--steps", "1"], "Invalid value for '--steps'"),
        (["good.py", "--timeout", "0"], "Invalid value for '--timeout'"),
        (["good.py", "--target-torch", "two"], "not a torch version"),
        ([], "no script is given"),
    ],
)
def test_mistakes_are_usage_errors(climbed, arguments, words):
    result = run(*arguments)
    assert (result.exit_code, climbed) == (2, [])
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_all_scripts_of_the_project_and_the_worst_status(climbed, tmp_path):
    tables = "".join(f'[[tool.ampify.verify]]\nscript = "{name}.py"\n' for name in ("good", "bad"))
    (tmp_path / "pyproject.toml").write_text(tables, "utf-8")
    result = run("--steps", "4")
    assert [request.steps for request in climbed] == [4, 4]
    assert result.exit_code == 1
    assert result.stdout.endswith("EQUIVALENT      good.py\nNOT EQUIVALENT  bad.py\n")


def test_an_unknown_key_of_a_table(climbed, tmp_path):
    (tmp_path / "ampify.toml").write_text('[[verify]]\nscript = "good.py"\nstep = 3\n', "utf-8")
    result = run()
    assert result.exit_code == 2
    assert "unknown key `step`, did you mean `steps`?" in " ".join(result.stderr.split())


def test_a_config_file_that_is_named(climbed, tmp_path):
    (tmp_path / "other.toml").write_text('[[verify]]\nscript = "good.py"\n', "utf-8")
    assert run("--config", "other.toml").exit_code == 0
    assert climbed[0].script == tmp_path / "good.py"


@pytest.mark.parametrize(("form", "begins"), [("json", "{"), ("junit", "<?xml"), ("markdown", "| script |")])
def test_formats(climbed, form, begins):
    result = run("good.py", "--output-format", form)
    assert result.stdout.startswith(begins)
    assert form != "json" or json.loads(result.stdout)["verdicts"][0]["word"] == "EQUIVALENT"


def test_a_page(climbed, tmp_path):
    assert run("bad.py", "--report", "out.html").exit_code == 1
    assert "NOT EQUIVALENT" in (tmp_path / "out.html").read_text("utf-8")


def test_what_a_page_needs_is_told_before_anything_runs(climbed, monkeypatch):
    monkeypatch.setattr(html, "missing", lambda: "`jinja2`")
    result = run("good.py", "--report", "out.html")
    assert (result.exit_code, climbed) == (2, [])
    assert "pip install 'ampify[report]'" in " ".join(result.stderr.split())


def test_a_page_that_cannot_be_written(climbed):
    result = run("good.py", "--report", "gone/out.html")
    assert result.exit_code == 2
    assert "EQUIVALENT" in result.stdout
    assert "gone/out.html" in result.stderr


def test_an_interrupt_is_no_verdict(climbed, monkeypatch):
    def interrupted(request, track):
        raise KeyboardInterrupt

    monkeypatch.setattr("ampify.verify.ladder.climb", interrupted)
    result = run("good.py")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
