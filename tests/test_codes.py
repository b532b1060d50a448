"""Codes are promises: none is used again, and those that are renamed go on to work."""

import json
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import NEEDLE

from ampify.cli import main
from ampify.diagnostic import TOOL_CODES
from ampify.rule import load
from ampify.source.codes import RENAMED

ROOT = Path(__file__).parents[1]
LISTED = [line.split() for line in (ROOT / "docs" / "codes.txt").read_text().splitlines() if not line.startswith("#")]


def test_the_list_holds_every_code_once_and_by_its_name():
    names = {code: row.name for table in (load(), TOOL_CODES) for code, row in table.items()}
    listed = {code: name for code, name, *_ in LISTED}
    assert len(listed) == len(LISTED)
    assert {code: name for code, name in names.items() if listed.get(code) != name} == {}, "run scripts/rules_index.py"


def test_a_code_that_is_gone_is_renamed_or_removed():
    now = {*load(), *TOOL_CODES}
    for code, _, *mark in LISTED:
        assert (code in now) + (code in RENAMED) + (mark == ["removed"]) == 1, code


def test_renamed_codes_lead_to_codes_of_today():
    assert {*RENAMED.values()} <= {*load(), *TOOL_CODES}
    assert not RENAMED.keys() & {*load(), *TOOL_CODES}
    assert RENAMED.keys() <= {code for code, *_ in LISTED}


def test_the_script_adds_codes_and_takes_none_out():
    codes = runpy.run_path(str(ROOT / "scripts" / "rules_index.py"))["codes"]
    text = "# a\nAMP000 gone-rule removed\nAMP001 another-name\n"
    lines = codes(text).splitlines()
    assert lines[:3] == text.splitlines()
    assert {line.split()[0] for line in lines[1:]} == {"AMP000", *load(), *TOOL_CODES}


@pytest.mark.usefixtures("fakes")
class TestRenamed:
    """AMP799 is what AMP801 was called once."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setitem(RENAMED, "AMP799", "AMP801")
        (tmp_path / "a.py").write_text(NEEDLE + "old\nrisky\n")
        return tmp_path

    def found(self, *arguments):
        result = CliRunner().invoke(main, [".", "--output-format", "json", *arguments], catch_exceptions=False)
        return [each["code"] for each in json.loads(result.stdout)["diagnostics"]]

    def test_on_the_command_line(self):
        assert self.found("--select", "AMP799") == ["AMP801"]
        assert self.found("--ignore", "amp799") == ["AMP802"]
        assert self.found("--per-file-ignores", "*.py:AMP799") == ["AMP802"]

    def test_in_config_files(self, folder):
        (folder / "ampify.toml").write_text('ignore = ["AMP799"]\n')
        assert self.found() == ["AMP802"]

    @pytest.mark.parametrize("comment", ["ampify: ignore[AMP799]", "noqa: AMP799", "noqa: AMP799, F401"])
    def test_in_comments(self, folder, comment):
        (folder / "a.py").write_text(NEEDLE + f"old  # {comment}\n")
        assert self.found() == []

    def test_in_comments_that_hide_nothing(self, folder):
        (folder / "a.py").write_text(NEEDLE + "x  # ampify: ignore[AMP799]\n")
        assert self.found("--fix") == []
        assert (folder / "a.py").read_text() == NEEDLE + "x\n"

    def test_in_baselines(self, folder):
        CliRunner().invoke(main, [".", "--write-baseline", "known.json"], catch_exceptions=False)
        text = (folder / "known.json").read_text()
        (folder / "known.json").write_text(text.replace("AMP801", "AMP799"))
        assert self.found("--baseline", "known.json") == []


def test_explain_knows_renamed_codes(monkeypatch):
    monkeypatch.setitem(RENAMED, "AMP799", "AMP206")
    assert CliRunner().invoke(main, ["explain", "amp799"]).stdout.startswith("# AMP206 ")
