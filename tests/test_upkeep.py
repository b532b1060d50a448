"""What people are told to do for this repository works: the page on how to add a rule, the issue templates."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding-a-rule.md").read_text("utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy in which somebody has followed the page."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("ampify", "rules", "docs", "scripts", "tests", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    files = re.findall(r"^## \d\. .*`(rules/\w+\.(?:py|md))`$", PAGE, re.M)
    check = re.search(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    page = re.search(r"^~~~markdown\n(.*?)^~~~", PAGE, re.M | re.S)
    assert check is not None
    assert page is not None
    for file, block in zip(files, (check, page), strict=True):
        (copy / file).write_text(block[1])
    assert run(copy, "scripts/rules_index.py").returncode == 0
    return copy


def run(checkout, *command):
    environment = {"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin"}
    return subprocess.run([sys.executable, *command], cwd=checkout, env=environment, capture_output=True, text=True)


def test_the_rule_of_the_page_passes_its_tests(checkout):
    words = re.search(r"-k \"(autocast[^\"]+)\"", PAGE)
    assert words is not None
    done = run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_rule_pages.py", "-k", words[1])
    assert done.returncode == 0, done.stdout
    assert re.search(r"[5-9]|\d\d passed", done.stdout)


def test_the_rule_of_the_page_is_explained_and_listed(checkout):
    assert run(checkout, "-m", "ampify", "explain", "AMP516").stdout.startswith("# AMP516 autocast-cache-disabled")
    assert "autocast_cache_disabled.md" in (checkout / "rules" / "README.md").read_text()
    assert "AMP516 autocast-cache-disabled\n" in (checkout / "docs" / "codes.txt").read_text()


def test_the_rule_of_the_page_has_the_style_of_the_house(checkout):
    for command in (["check"], ["format", "--check"]):
        done = run(checkout, "-m", "ruff", *command, "--no-cache", "rules/autocast_cache_disabled.py")
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda p: p.name)
def test_issue_templates_ask_for_the_file_and_the_diagnostic(path):
    text = path.read_text()
    fields = dict(re.findall(r"^    id: (\w+)\n(.*?)(?=^  - type|\Z)", text, re.M | re.S))
    assert {"file", "diagnostic"} <= fields.keys()
    assert all("required: true" in fields[name] for name in ("file", "diagnostic"))


def test_the_changelog_begins_with_what_is_not_released():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (.+)$", text, re.M)[0] == "Unreleased"
