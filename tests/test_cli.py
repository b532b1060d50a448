"""Options, output and exit statuses of the command line, over fake rules."""

import json
import subprocess

import pytest
from click.testing import CliRunner
from conftest import NEEDLE

from ampify.cli import main

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


def run(*arguments, source=None):
    return CliRunner().invoke(main, arguments, input=source, catch_exceptions=False)


def write(folder, text, name="train.py"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(NEEDLE + text)
    return path


class TestCheck:
    def test_is_the_default_command(self, folder):
        write(folder, "old\n")
        assert run(".").output == run("check", ".").output
        assert run("--select", "AMP802", ".").exit_code == 0

    def test_a_word_that_is_a_command_is_the_command(self, folder):
        write(folder, "old\n", "rules/a.py")
        assert "AMP806" in run("rules").output
        assert run("./rules").exit_code == 1

    def test_text(self, folder):
        write(folder, "if x:\n\told(x)\n")
        assert run("train.py").stdout == (
            "AMP801 [*] `old` is old\n"
            "  --> train.py:3:2\n"
            "  |\n"
            "1 | import torch\n"
            "2 | if x:\n"
            "3 | \told(x)\n"
            "  | \t^^^\n"
            "  |\n"
            "note: The file begins here\n"
            "  --> train.py:1:1\n"
            "  |\n"
            "1 | import torch\n"
            "  | ------\n"
            "  |\n"
            "help: Use `new`\n"
            "\n"
            "Found 1 finding\n"
            "[*] 1 fixable with `--fix`\n"
        )

    def test_concise(self, folder):
        write(folder, "sick; risky\n")
        assert run("--output-format", "concise", "--ignore", "AMP803", ".").stdout == (
            "train.py:2:7: AMP802 [-] `risky` is old\nFound 1 finding\n[-] 1 fixable with `--fix --unsafe-fixes`\n"
        )

    def test_json(self, folder):
        write(folder, "old\n")
        assert json.loads(run("--output-format", "json", ".").stdout) == {
            "checked": 1,
            "diagnostics": [
                {
                    "path": "train.py",
                    "start": {"line": 2, "column": 1},
                    "end": {"line": 2, "column": 4},
                    "code": "AMP801",
                    "name": "old-name",
                    "severity": "warning",
                    "message": "`old` is old",
                    "notes": [
                        {
                            "message": "The file begins here",
                            "start": {"line": 1, "column": 1},
                            "end": {"line": 1, "column": 7},
                        }
                    ],
                    "fix": {
                        "title": "Use `new`",
                        "applicability": "safe",
                        "edits": [{"start": {"line": 2, "column": 1}, "end": {"line": 2, "column": 4}, "text": "new"}],
                    },
                }
            ],
            "fixed": [],
            "errors": [],
        }
        assert json.loads(run("--output-format", "json", "--fix", ".").stdout)["fixed"][0]["title"] == "Use `new`"

    def test_statistics(self, folder):
        write(folder, "old; old; risky; sick\n")
        assert run("--statistics", ".").stdout == (
            "2  AMP801  [*] old-name\n1  AMP802  [-] risky-name\n1  AMP803  [*] sick-name\n"
        )

    def test_fix(self, folder):
        file = write(folder, "old\n")
        result = run("--fix", ".")
        assert (result.exit_code, result.stdout) == (0, "Fixed 1 finding, 0 left\n")
        assert file.read_text() == NEEDLE + "new\n"
        assert run("--fix", ".").stdout == "Nothing to report in 1 file\n"

    def test_unsafe_fixes(self, folder):
        file = write(folder, "risky\n")
        assert run("--fix", ".").exit_code == 1
        assert run("--fix", "--unsafe-fixes", ".").exit_code == 0
        assert file.read_text() == NEEDLE + "safe\n"

    def test_diff_writes_nothing_and_can_be_applied(self, folder):
        file = write(folder, "old\r\nx")
        before = file.read_bytes()
        result = run("--fix", "--diff", "train.py")
        assert result.exit_code == 1
        assert result.stderr == "Would fix 1 finding, 0 left\n"
        assert file.read_bytes() == before
        subprocess.run(["git", "apply", "-p0", "-"], input=result.stdout_bytes, check=True, cwd=folder)
        assert file.read_bytes() == NEEDLE.encode() + b"new\r\nx"

    def test_step(self, folder):
        file = write(folder, "def step_a():\n    old\n\ndef step_b():\n    old\n")
        assert run(".", "--step", "train.py:5", "--fix").exit_code == 0
        assert file.read_text() == NEEDLE + "def step_a():\n    old\n\ndef step_b_done():\n    old\n    old_scaler\n"

    def test_options_from_a_file(self, folder):
        write(folder, "old; risky\n")
        (folder / "ampify.toml").write_text('select = ["AMP801"]\nfail-level = "error"\n')
        assert run(".").exit_code == 0
        assert run(".", "--fail-level", "warning").exit_code == 1
        (folder / "other.toml").write_text('ignore = ["AMP8"]\n')
        assert run(".", "--config", "other.toml").stdout == "Nothing to report in 1 file\n"

    def test_exit_zero(self, folder):
        write(folder, "old\n")
        assert run("--exit-zero", ".").exit_code == 0
        assert run("--exit-zero", "missing.py").exit_code == 2


class TestStdin:
    def test_check(self):
        result = run("-", "--stdin-filename", "src/net.py", source=NEEDLE + "old\n")
        assert result.exit_code == 1
        assert "src/net.py:2:1" in result.stdout

    def test_fix_keeps_every_byte_it_does_not_mend(self):
        source = b"\xef\xbb\xbfimport torch\r\nold\r\nrisky\r\n"
        result = run("-", "--fix", source=source)
        assert result.stdout_bytes == source.replace(b"old", b"new")
        assert "AMP802" in result.stderr

    @pytest.mark.parametrize("source", [b"", b"x\n", b"torch crash", b"torch \xff", b"torch ("])
    def test_what_cannot_be_mended_comes_out_as_it_went_in(self, source):
        assert run("-", "--fix", source=source).stdout_bytes == source

    def test_stands_alone(self):
        assert run("-", "a.py").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-such-option", "."),
        ("check",),
        (".", "--select", "E501"),
        (".", "--select", "AMP7"),
        (".", "--target-torch", "1.8"),
        (".", "--dtype", "half"),
        (".", "--output-format", "xml"),
        (".", "--output-file", "."),
        (".", "--quiet", "--verbose"),
        (".", "--diff", "--show-fixes"),
        (".", "--step", "train.py"),
        (".", "--step", "train.py:99"),
        (".", "--step", "other.py:1"),
        (".", "--config", "missing.toml"),
        ("missing.py",),
        ("explain", "AMP999"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_says_why(folder, arguments):
    write(folder, "old\n")
    result = run(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output


def test_a_bad_config_names_the_nearest_key(folder):
    write(folder, "old\n")
    (folder / "ampify.toml").write_text("ignor = []\n")
    assert "did you mean `ignore`?" in run(".").stderr


def test_steps(folder):
    write(folder, "def step_a():\n    loss.backward()\n")
    assert run("steps", ".").stdout == (
        "LINE  IN      MODEL  OPTIMIZER  LOSS  DECISION\n"
        "train.py\n"
        "2     step_a  model  optimizer  loss  convert (AMP806)\n"
        "    It is a float32 training step\n"
        "1 training step\n"
    )
    assert json.loads(run("steps", ".", "--output-format", "json").stdout)[0]["optimizers"] == ["optimizer"]


def test_erase(folder):
    file = write(folder, "scaler.step()\n")
    result = run("erase", ".", "--diff")
    assert (result.exit_code, "+step()" in result.stdout) == (1, True)
    assert file.read_text() == NEEDLE + "scaler.step()\n"
    assert run("erase", ".").exit_code == 0
    assert file.read_text() == NEEDLE + "step()\n"


def test_explain(monkeypatch, tmp_path):
    (tmp_path / "page.md").write_text("# AMP801 old-name\n")
    monkeypatch.setattr("ampify.rule.Rule.page", property(lambda _: tmp_path / "page.md"))
    assert run("explain", "amp801").stdout == run("explain", "old-name").stdout == "# AMP801 old-name\n"
    assert run("explain", "AMP904").stdout.startswith("# AMP904 fix-withdrawn\n")


def test_rules():
    lines = run("rules").stdout.splitlines()
    assert "AMP801  warning  old-name" in lines
    assert "AMP900  error    syntax-error" in lines


def test_help_and_version():
    assert run().exit_code == 2 or "Usage" in run().output
    assert "check" in run("--help").stdout
    assert run("--version").stdout.startswith("ampify ")


@pytest.mark.parametrize(("variable", "coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_colours(folder, monkeypatch, variable, coloured):
    write(folder, "old\n")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(variable, "1")
    for form in ("text", "concise"):
        result = run(".", "--output-format", form)
        assert ("\x1b[" in result.stdout) == coloured
        assert "[*]" in result.stdout


def test_a_line_too_long_for_the_terminal_is_not_wrapped(folder, monkeypatch):
    write(folder, "old; " + "x" * 300 + "\n")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "x" * 300 in run(".").stdout
