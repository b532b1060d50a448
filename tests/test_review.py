"""What narrows a report or asks before a fix: baselines, changed lines, `--interactive`, and what excludes what."""

import json
import subprocess

import pytest
from click.testing import CliRunner
from conftest import NEEDLE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ampify.cli import main

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


def run(*arguments, answers=None):
    return CliRunner().invoke(main, arguments, input=answers, catch_exceptions=False)


def write(folder, text, name="train.py"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(NEEDLE + text)
    return path


def found(*arguments):
    """Line and code of all findings."""
    data = json.loads(run("--output-format", "json", *arguments).stdout)
    return [(d["start"]["line"], d["code"]) for d in data["diagnostics"]]


SOURCE = """\
class A:
    def f(self):
        return old(
            1,
        )


def g():
    old; old
    x = f'{old!r} {old}' if risky else 0
"""


class TestBaseline:
    def test_keeps_quiet_what_is_known(self, folder):
        write(folder, SOURCE)
        result = run("--write-baseline", "known.json", ".")
        assert (result.exit_code, result.stderr) == (0, "ampify: wrote 6 findings to known.json\n")
        known = run("--baseline", "known.json", ".")
        assert (known.exit_code, known.stdout, known.stderr) == (0, "Nothing to report in 1 file\n", "")
        assert run(".").exit_code == 1

    def test_knows_rule_file_scope_statement_and_number(self, folder):
        write(folder, SOURCE, "src/train.py")
        run("--write-baseline", "known.json", ".")
        data = json.loads((folder / "known.json").read_text())
        assert data["version"] == 1
        assert [tuple(row.values()) for row in data["findings"]] == [
            ("src/train.py", "AMP801", "A.f", "return old(1)", 1),
            ("src/train.py", "AMP801", "g", "old;old", 1),
            ("src/train.py", "AMP801", "g", "old;old", 2),
            ("src/train.py", "AMP801", "g", "x=f'{old!r} {old}'if risky else 0", 1),
            ("src/train.py", "AMP801", "g", "x=f'{old!r} {old}'if risky else 0", 2),
            ("src/train.py", "AMP802", "g", "x=f'{old!r} {old}'if risky else 0", 1),
        ]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("old(\n            1,\n        )", "old(1)  # better"),
            ("class A:\n    def f", "class A:\n    x = 1\n\n    def f"),
            ("    old; old\n", "    old;  old\n"),
        ],
    )
    def test_survives_another_layout(self, folder, old, new):
        assert old in SOURCE
        write(folder, SOURCE)
        run("--write-baseline", "known.json", ".")
        write(folder, SOURCE.replace(old, new))
        assert found("--baseline", "known.json", ".") == []

    def test_what_is_new_is_reported(self, folder):
        write(folder, SOURCE)
        run("--write-baseline", "known.json", ".")
        write(folder, SOURCE.replace("old; old", "old; old\n    old").replace("class A", "class B"))
        assert found("--baseline", "known.json", ".") == [(4, "AMP801"), (11, "AMP801")]

    def test_one_more_of_the_same_is_new(self, folder):
        write(folder, "old\n")
        run("--write-baseline", "known.json", ".")
        write(folder, "old\nx\nold\n")
        assert found("--baseline", "known.json", ".") == [(4, "AMP801")]

    def test_entries_that_are_no_longer_found_are_said(self, folder):
        write(folder, SOURCE)
        write(folder, "old\n", "gone.py")
        write(folder, "old\n", "other/b.py")
        run("--write-baseline", "known.json", ".")
        write(folder, SOURCE.replace("old; old", "old"))
        (folder / "gone.py").unlink()
        result = run("--baseline", "known.json", "train.py", "--ignore", "AMP802")
        assert "ampify: 2 findings of known.json are there no longer" in result.stderr
        result = run("--baseline", "known.json", ".")
        assert "ampify: 3 findings of known.json are there no longer" in result.stderr
        assert "ampify:   gone.py: AMP801: old\n" in result.stderr
        assert "there no longer" not in run("--baseline", "known.json", "other").stderr
        assert "there no longer" not in run("--baseline", "known.json", ".", "-q").stderr

    def test_of_the_config_file_lies_beside_it(self, folder):
        write(folder, "old\n", "src/a.py")
        (folder / "ampify.toml").write_text('baseline = "known.json"\n')
        assert run("src", "--write-baseline", "known.json").exit_code == 0
        assert run("src").exit_code == 0
        assert run("src", "--isolated").exit_code == 1
        assert run(".", "--write-baseline", "known.json").stderr == "ampify: wrote 1 finding to known.json\n"

    def test_fixes_are_written_all_the_same(self, folder):
        file = write(folder, "old\n")
        run("--write-baseline", "known.json", ".")
        assert run("--baseline", "known.json", "--fix", ".").exit_code == 0
        assert file.read_text() == NEEDLE + "new\n"

    @pytest.mark.parametrize("text", [None, "{", "[]", '{"version": 1}', '{"version": 9, "findings": []}',
                                      '{"version": 1, "findings": [{"path": 1}]}'])  # fmt: skip
    def test_what_is_none_is_said(self, folder, text):
        write(folder, "old\n")
        if text is not None:
            (folder / "known.json").write_text(text)
        result = run("--baseline", "known.json", ".")
        assert result.exit_code == 2
        assert "known.json" in result.stderr.splitlines()[-1]

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(
            st.tuples(
                st.integers(0, SOURCE.count("\n")),
                st.sampled_from(
                    ["\n", "# a comment\n", "y = 1\n", "z = '''\naged words\n'''\n", "def h():\n    pass\n"]
                ),
            ),
            max_size=6,
        )
    )
    def test_lines_that_come_in_above_change_nothing(self, folder, inserted):
        lines = SOURCE.splitlines(keepends=True)
        tops = [n for n, line in enumerate(lines) if not line.startswith((" ", "\n"))]
        write(folder, SOURCE)
        run("--write-baseline", "known.json", ".")
        for place, text in inserted:
            at = max(n for n in tops if n <= place)
            lines[at] = text + lines[at]
        write(folder, "".join(lines))
        assert [code for _, code in found("--baseline", "known.json", ".")] == []


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(folder):
    """A file with a finding in each line is committed on `main`; the work goes on in a branch."""
    write(folder, "old\nx\nold\ny\nold\n")
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "first")
    git("switch", "-qc", "work")
    return folder


class TestDiffBase:
    def test_reports_what_changed_lines_touch(self, repository):
        assert found("--diff-base", "main", ".") == []
        write(repository, "old\nx\nold + 1\ny\nold\nold\n")
        assert found("--diff-base", "main", ".") == [(4, "AMP801"), (7, "AMP801")]
        git("commit", "-qam", "second")
        assert found("--diff-base", "main", ".") == [(4, "AMP801"), (7, "AMP801")]
        assert found("--diff-base", "HEAD", ".") == []

    def test_compares_with_where_the_branches_part(self, repository):
        git("switch", "-q", "main")
        write(repository, "x\nold\ny\nold\n")
        git("commit", "-qam", "elsewhere")
        git("switch", "-q", "work")
        assert found("--diff-base", "main", ".") == []

    def test_lines_that_went_touch_those_around_them(self, repository):
        write(repository, "old\nold\ny\nold\n")
        assert found("--diff-base", "main", ".") == [(2, "AMP801"), (3, "AMP801")]

    def test_renamed_files(self, repository):
        git("mv", "train.py", 'näh "t".py')
        assert found("--diff-base", "main", ".") == []
        write(repository, "old\nx\nold\ny\nold and x\n", 'näh "t".py')
        assert found("--diff-base", "main", ".") == [(6, "AMP801")]

    def test_untracked_files_are_new_as_a_whole(self, repository):
        write(repository, "old\n\nold\n", "new.py")
        assert found("--diff-base", "main", ".") == [(2, "AMP801"), (4, "AMP801")]

    def test_hunks_that_look_like_headers(self, repository):
        write(repository, "old\nx = '''\n++ a\n++ b/x.py\n@@ -1 +1 @@\n'''\nold + 1\n")
        git("config", "diff.noprefix", "true")
        git("config", "diff.external", "false")
        git("config", "color.ui", "always")
        assert found("--diff-base", "main", ".") == [(8, "AMP801")]

    def test_from_a_folder_below(self, repository, monkeypatch):
        write(repository, "old\n", "sub/a.py")
        monkeypatch.chdir(repository / "sub")
        assert found("--diff-base", "main", ".") == [(2, "AMP801")]

    def test_notebooks(self, repository):
        def book(*cells):
            rows = [{"cell_type": "code", "source": [line + "\n" for line in cell]} for cell in cells]
            data = {"cells": rows, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
            (repository / "a.ipynb").write_text(json.dumps(data, indent=1))

        book(["import torch", "old"], ["x", "old"])
        git("add", ".")
        git("commit", "-qm", "book")
        book(["import torch", "old"], ["x", "old; y", "old + 1"])
        data = json.loads(run("--diff-base", "HEAD", "a.ipynb", "--output-format", "json").stdout)
        assert [(d["start"]["cell"], d["start"]["line"]) for d in data["diagnostics"]] == [(2, 2), (2, 3)]

    @pytest.mark.parametrize("base", ["nonsense", "--help", ""])
    def test_a_revision_that_git_does_not_know(self, repository, base):
        result = run(f"--diff-base={base}", ".")
        assert result.exit_code == 2
        assert "is not a revision" in result.stderr

    def test_without_a_repository(self, folder, monkeypatch):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
        write(folder, "old\n")
        result = run("--diff-base", "main", ".")
        assert result.exit_code == 2
        assert result.stderr == f"ampify: `--diff-base` needs git, and {folder} is not in a repository\n"

    def test_without_git(self, folder, monkeypatch):
        monkeypatch.setenv("PATH", str(folder))
        write(folder, "old\n")
        assert "ampify: git cannot be run" in run("--diff-base", "main", ".").stderr


class TestInteractive:
    TEXT = "old\nold\nsick\n"

    @pytest.mark.parametrize(
        ("answers", "after"),
        [
            ("y\ny\nn\n", "new\nnew\nsick\n"),
            ("n\ny\nn\n", "old\nnew\nsick\n"),
            ("y\nq\n", "new\nold\nsick\n"),
            ("a\n", "new\nnew\nsick\n"),
            ("d\n", "old\nold\nsick\n"),
            ("?\nwhat\nyes\nno\nno\n", "new\nold\nsick\n"),
            ("", "old\nold\nsick\n"),
            ("y\n", "new\nold\nsick\n"),
        ],
    )
    def test_writes_what_is_wanted(self, folder, answers, after):
        file = write(folder, self.TEXT)
        run("--fix", "--interactive", ".", answers=answers)
        assert file.read_text() == NEEDLE + after

    def test_shows_the_finding_and_the_diff(self, folder):
        write(folder, "x\nold\n")
        result = run("--fix", "--interactive", ".", answers="y\n")
        assert result.stderr.splitlines()[:11] == [
            "",
            "AMP801 [*] `old` is old",
            "  --> train.py:3:1",
            "help: Use `new`",
            "--- train.py",
            "+++ train.py",
            "@@ -1,3 +1,3 @@",
            " import torch",
            " x",
            "-old",
            "+new",
        ]
        assert "Apply this fix [y,n,q,a,d,?]? " in result.stderr
        assert result.stdout == "Fixed 1 finding, 0 left\n"

    def test_a_and_d_are_for_one_file(self, folder):
        one, two = write(folder, self.TEXT, "1.py"), write(folder, self.TEXT, "2.py")
        run("--fix", "--interactive", ".", answers="d\na\n")
        assert (one.read_text(), two.read_text()) == (NEEDLE + self.TEXT, NEEDLE + "new\nnew\nsick\n")

    def test_what_was_declined_is_not_asked_again_when_places_move(self, folder):
        file = write(folder, "old\n\ndef step_a():\n    x\n")
        result = run("--fix", "--interactive", ".", answers="n\ny\n")
        assert file.read_text() == NEEDLE + "old\n\ndef step_a_done():\n    x\n    old_scaler\n"
        assert result.stderr.count("Apply this fix") == 2

    def test_cells_of_a_notebook(self, folder):
        cells = [{"cell_type": "code", "source": ["import torch\n"]}, {"cell_type": "code", "source": ["%time old\n"]}]
        data = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (folder / "a.ipynb").write_text(json.dumps(data))
        result = run("--fix", "--interactive", "a.ipynb", answers="y\n")
        assert "  --> a.ipynb:cell 2:1:7\n" in result.stderr
        assert "-%time old\n+%time new\n" in result.stderr
        assert json.loads((folder / "a.ipynb").read_text())["cells"][1]["source"] == ["%time new\n"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--interactive"], "`--interactive` needs `--fix`"),
        (["--fix", "--add-ignore"], "`--fix` and `--add-ignore` exclude each other"),
        (["--fix", "--diff-base", "main"], "`--fix` and `--diff-base` exclude each other"),
        (["--fix", "--diff", "--interactive"], "`--diff` and `--interactive` exclude each other"),
        (["--baseline", "a", "--write-baseline", "b"], "`--baseline` and `--write-baseline` exclude each other"),
        (["--verified-only", "train.py"], "`--verified-only` needs `--fix`"),
        (["--show-files", "--show-settings"], "`--show-files` and `--show-settings` exclude each other"),
        (["--isolated", "--config", "train.py"], "`--isolated` reads no config file"),
        (["--config", "a.toml", "--config", "b.toml"], "names two files"),
        (["--select", "AMP7"], "no code begins with `AMP7`, did you mean `AMP"),
        (["--per-file-ignores", "AMP8"], "`AMP8` is not of the form PATTERN:CODE"),
        (["--config", "dtype=half"], "`dtype` must be one of float16, bfloat16"),
        (["--config", "dtyp='float16'"], "unknown key `dtyp`, did you mean `dtype`?"),
        (["--config", "select=[1"], "is not TOML"),
        (["--config", "extend='x.toml'"], "`extend` counts in config files only"),
    ],
)
def test_contradictions_and_flaws_are_one_line(folder, options, message):
    write(folder, "old\n")
    result = run(*options, ".")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert (folder / "train.py").read_text() == NEEDLE + "old\n"


@pytest.mark.parametrize(
    "options", [["--fix", "--interactive"], ["--add-ignore"], ["--write-baseline", "x"], ["--diff-base", "main"]]
)
def test_what_standard_input_excludes(folder, options):
    result = run("-", *options, answers="import torch\nold\n")
    assert result.exit_code == 2
    assert "`-`" in result.stderr.splitlines()[-1]
