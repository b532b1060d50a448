"""The pytest plugin: it is idle unless asked, and holds scripts to the ladder when it is."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import ampify.verify.ladder
from ampify.verify.verdict import Level, Verdict


def climb(request, workers=None):
    word = "NOT EQUIVALENT" if "bad" in request.title else "EQUIVALENT"
    print("climbed", request.title, request.steps, workers is not None)
    return Verdict(title=request.title, word=word, levels=(Level("L1", "the same program", "fails", "a gradient"),))


ampify.verify.ladder.climb = climb
"""
TABLES = "".join(f'[[tool.ampify.verify]]\nscript = "{name}.py"\nsteps = 3\n' for name in ("good", "bad"))
SETTINGS = '[tool.pytest.ini_options]\nfilterwarnings = ["error"]\naddopts = ["--strict-markers", "--strict-config"]\n'


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").write_text(SETTINGS + TABLES, "utf-8")
    (tmp_path / "conftest.py").write_text(CONFTEST, "utf-8")
    for name in ("good", "bad"):
        (tmp_path / f"{name}.py").write_text("import torch\n", "utf-8")
    return tmp_path


def run(folder, *arguments, tests=""):
    (folder / "test_it.py").write_text(tests, "utf-8")
    plugin = ["-p", "no:cacheprovider", "-p", "ampify.verify.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", *plugin, "-s", *arguments]
    env = {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": ""}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_it_does_nothing_unasked(project):
    tests = """
        import sys

        def test_light():
            assert "ampify.engine" not in sys.modules
            assert "torch" not in sys.modules
    """
    (project / "conftest.py").unlink()
    result = run(project, tests="\n".join(line[8:] for line in tests.splitlines()))
    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout


def test_all_scripts_of_the_config_file_are_items(project):
    result = run(project, "--ampify")
    assert result.returncode == 1
    assert "1 failed, 1 passed" in result.stdout
    assert "climbed good.py 3" in result.stdout
    assert "L1  the same program  FAILS: a gradient" in result.stdout
    assert "Traceback" not in result.stdout


def test_they_can_be_chosen_by_name(project):
    result = run(project, "--ampify", "-k", "good.py")
    assert result.returncode == 0, result.stdout
    assert "1 passed, 1 deselected" in result.stdout


def test_a_mistake_in_the_config_file_is_a_usage_error(project):
    (project / "pyproject.toml").write_text('[[tool.ampify.verify]]\nscrip = "good.py"\n', "utf-8")
    result = run(project, "--ampify")
    assert result.returncode == 4
    assert "did you mean `script`?" in result.stderr


def test_the_fixture_gives_the_verdict_or_fails_with_the_report(project):
    tests = """
def test_good(amp_equivalence):
    assert amp_equivalence("good.py", ["--lr", "1"], steps=4).word == "EQUIVALENT"

def test_bad(amp_equivalence):
    amp_equivalence("bad.py")
"""
    result = run(project, tests=tests)
    assert result.returncode == 1
    assert "1 failed, 1 passed" in result.stdout
    assert "climbed good.py --lr 1 4 True" in result.stdout
    assert "L1  the same program  FAILS: a gradient" in result.stdout


def test_it_is_installed_as_a_plugin():
    from importlib.metadata import entry_points

    assert {entry.value for entry in entry_points(group="pytest11", name="ampify")} == {"ampify.verify.pytest_plugin"}
