"""What is installed: the wheel holds the rules inside the package, a checkout finds them beside it."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ampify
from ampify.rule import load
from ampify.rules import FOLDER

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of what it is made of."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("ampify", "rules"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    return next((copy / "dist").glob("*.whl"))


def test_the_wheel_holds_package_and_rules_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    rules = {f"ampify/rules/{path.name}" for path in (ROOT / "rules").iterdir() if path.is_file()}
    assert rules <= names
    assert {"ampify/rules/__init__.py", "ampify/py.typed"} <= names
    assert {name.split("/")[0] for name in names} == {"ampify", f"ampify-{ampify.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_finds_its_rules(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "from ampify.rule import load; from ampify.rules import FOLDER; print(FOLDER, *load())"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    folder, *codes = subprocess.check_output(command, text=True, cwd=tmp_path).split()
    assert folder == str(tmp_path / "ampify" / "rules")
    assert codes == list(load())


def test_a_checkout_finds_its_rules():
    assert ROOT / "rules" == FOLDER
    assert load()
    assert all(rule.page.is_file() for rule in load().values())


def test_the_version_is_told():
    code = "from ampify.cli import main; main(['--version'])"
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert output == f"ampify {ampify.__version__}\n"


def test_the_constraints_pin_every_dependency():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    names = {re.split(r"[>\[]", line)[0] for line in (*project["dependencies"], *extras)} - {"ampify"}
    assert names <= set(pins)
    assert pins["torch"] == "2.13.0"


def test_torch_is_not_a_dependency_of_the_static_half():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [line for line in project["dependencies"] if line.startswith("torch")]
