"""What is read is somebody else's: it is not run, does not lead out of its tree, and gives no orders when quoted."""

import io
import json
import os
import subprocess
import sys
import unicodedata
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt

from ampify.cli import main
from ampify.cli.output import FORMATS, PROSE
from ampify.config import OPTIONS
from ampify.diagnostic import Diagnostic, Severity
from ampify.engine import Mode, Report
from ampify.inspection import FileReport
from ampify.report.paint import visible
from ampify.schema import schema
from ampify.source.text import Span
from ampify.unit import Change
from ampify.verify.report import html, markdown
from ampify.verify.verdict import Verdict

ROOT = Path(__file__).parents[1]
OLD = "import torch\n\nscaler = torch.cuda.amp.GradScaler()\n"
NEW = 'import torch\n\nscaler = torch.amp.GradScaler("cuda")\n'
TRAPPED = (
    "conftest.py", "setup.py", "__init__.py", "sitecustomize.py", "usercustomize.py", "__main__.py", "torch.py",
    "libcst.py", "click.py", "rich.py", "pathspec.py", "ampify.py", "ampify/__init__.py", "ampify_plugin.py",
    "rules/amp001.py", "package/__init__.py", "numpy/__init__.py", "helper.py",
)  # fmt: skip
TABLES = """
[project]
name = "trapped"
[project.entry-points."ampify.rules"]
trap = "ampify_plugin:load"
[project.entry-points.pytest11]
trap = "ampify_plugin"
[build-system]
requires = []
build-backend = "setup"
backend-path = ["."]
[tool.pytest.ini_options]
addopts = "-p ampify_plugin"
"""
STEP = """
import torch
import helper
from package import anything

model = torch.nn.Linear(4, 1).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def train(loader):
    for x, y in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x.cuda()), y.cuda())
        loss.backward()
        optimizer.step()


train(helper.loader)
"""
DECODED = ("github", "junit")
"""Read by programs, which undo the escapes; `test_formats.py` holds them to that."""
ESCAPES = "\x1b]0;owned\x07\x1b[31m\x9b31m\r\u202e"


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    """The console script, as an installer writes it."""
    script = tmp_path_factory.mktemp("bin") / "ampify"
    script.write_text("import sys\nfrom ampify.cli import main\nsys.exit(main())\n")
    return [sys.executable, str(script)]


@pytest.fixture
def trapped(tmp_path):
    """A tree in which whatever is imported or run writes a file."""
    tree, sprung = tmp_path / "tree", tmp_path / "sprung"
    sprung.mkdir()
    for name in TRAPPED:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(sprung)!r} + '/' + __name__, 'w').close()\n{OLD}")
    (tree / "pyproject.toml").write_text(TABLES)
    (tree / "train.py").write_text(STEP)
    return tree


def sprung(tree):
    return sorted(path.name for path in (tree.parent / "sprung").iterdir())


def called(command, *arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def run(*arguments):
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


class TestNothingThatIsReadIsRun:
    @pytest.mark.parametrize(
        "arguments",
        [["check"], ["check", "--fix", "--unsafe-fixes"], ["check", "--diff"], ["steps"], ["erase"]],
        ids=" ".join,
    )
    def test_the_console_script_within_the_tree(self, trapped, console, arguments):
        done = called(console, *arguments, ".", cwd=trapped)
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        assert sprung(trapped) == []

    def test_the_module_without_the_working_directory(self, trapped):
        done = called([sys.executable, "-P", "-m", "ampify"], ".", cwd=trapped)
        assert "AMP102" in done.stdout
        assert sprung(trapped) == []

    def test_the_module_from_elsewhere(self, trapped):
        done = called([sys.executable, "-m", "ampify"], str(trapped), cwd=ROOT)
        assert "AMP102" in done.stdout
        assert sprung(trapped) == []

    def test_the_trap_springs(self, trapped):
        """As `python -m` imports from the working directory first, whatever the module is."""
        called([sys.executable, "-m", "ampify"], ".", cwd=trapped)
        assert "ampify" in sprung(trapped)

    def test_the_files_were_looked_at(self, trapped, console):
        for name in ("torch.py", "ampify.py", "ampify/__init__.py"):  # what is named so is not PyTorch
            (trapped / name).unlink()
        done = called(console, ".", "--fix", "--output-format", "json", cwd=trapped)
        assert done.returncode in (0, 1)
        assert 'GradScaler("cuda")' in (trapped / "conftest.py").read_text()
        assert "autocast" in (trapped / "train.py").read_text()
        assert sprung(trapped) == []


class TestConfiguration:
    @pytest.mark.parametrize("key", ["plugins", "plugin", "rules", "require", "hooks", "python", "script"])
    def test_a_key_for_code_is_an_error(self, tmp_path, monkeypatch, key):
        monkeypatch.chdir(tmp_path)
        Path("a.py").write_text(OLD)
        Path("trap.py").write_text("open('sprung', 'w')\n")
        Path("pyproject.toml").write_text(f"[tool.ampify.{key}]\nmine = 'trap'\n")
        result = run("a.py")
        assert result.exit_code == 2
        assert f"unknown key `{key}`" in result.stderr
        assert not Path("sprung").exists()

    def test_every_option_is_plain_data(self):
        kinds = {
            each
            for option in OPTIONS.values()
            for each in (option.schema.get("type"), *("enum" for _ in option.schema.get("enum", ())[:1]))
            if each
        }
        assert kinds <= {"array", "object", "string", "boolean", "integer", "number", "enum"}
        paths = {key for key, option in OPTIONS.items() if option.wanted == "a path"}
        assert paths == {"extend", "baseline"}  # read as TOML and as JSON
        assert schema()["additionalProperties"] is False

    @pytest.mark.parametrize("key", ["extend", "baseline"])
    def test_a_path_to_code_is_read_and_not_run(self, tmp_path, monkeypatch, key):
        monkeypatch.chdir(tmp_path)
        Path("a.py").write_text(OLD)
        Path("trap.py").write_text("open('sprung', 'w')\n")
        Path("ampify.toml").write_text(f'{key} = "trap.py"\n')
        assert run("a.py").exit_code == 2
        assert Path("trap.py").read_text() == "open('sprung', 'w')\n"
        assert not Path("sprung").exists()

    def test_scripts_to_verify_are_not_run_by_a_check(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("a.py").write_text(OLD)
        Path("trap.py").write_text("open('sprung', 'w')\n")
        Path("ampify.toml").write_text('[[verify]]\nscript = "trap.py"\nlaunch = "touch sprung"\n')
        assert run("a.py", "--fix").exit_code == 0
        assert not Path("sprung").exists()

    def test_verify_says_that_it_runs_the_script(self):
        text = " ".join(run("verify", "--help").stdout.split())
        assert "This runs your script" in text
        assert "`python` and `launch` that stand there" in text


class TestLinks:
    @pytest.fixture
    def tree(self, tmp_path, monkeypatch):
        (tree := tmp_path / "tree").mkdir()
        (tmp_path / "outside.py").write_text(OLD)
        (tree / "inside.py").write_text(OLD)
        (tree / "out.py").symlink_to("../outside.py")
        (tree / "folder").symlink_to(tmp_path, target_is_directory=True)
        monkeypatch.chdir(tmp_path)
        return tree

    @pytest.mark.parametrize("command", [["--fix"], ["erase"]])
    def test_what_lies_outside_is_not_written_through_a_link(self, tree, command):
        run(*command, "tree")
        assert Path("outside.py").read_text() == OLD
        assert (tree / "inside.py").read_text() != OLD
        assert (tree / "out.py").is_symlink()

    def test_nor_quoted(self, tree):
        report = json.loads(run("tree", "--output-format", "json").stdout)
        assert [found["path"] for found in report["diagnostics"]] == ["tree/inside.py"]

    def test_a_link_within_the_tree_leads_to_its_file_once(self, tree):
        (tree / "again.py").symlink_to("inside.py")
        assert "Fixed 1 finding" in run("--fix", "tree").stdout
        assert (tree / "again.py").is_symlink()
        assert (tree / "inside.py").read_text() == NEW

    def test_a_link_that_is_named_is_the_users_own_wish(self, tree):
        run("--fix", "tree/out.py")
        assert Path("outside.py").read_text() == NEW
        assert (tree / "out.py").is_symlink()

    def test_a_link_out_of_one_tree_into_another_that_is_given(self, tree):
        (other := tree.parent / "other").mkdir()
        (other / "a.py").write_text(OLD)
        (tree / "other.py").symlink_to("../other/a.py")
        run("--fix", "tree", "other")
        assert (other / "a.py").read_text() == NEW


def report(path, message, source="one\ntwo\n"):
    finding = Diagnostic(path, Span(0, 3), "AMP903", "unused-ignore", Severity.WARNING, message)
    file = FileReport(path, source, source, (finding,))
    changed = Change(path, source, source + "more\n")
    return Report((file,), (f"{path}: {message}",), 1, Mode.REPORT, (changed,))


def rendered(form, *arguments):
    out = io.StringIO()
    import_module(f"ampify.report.{form.replace('-', '_')}").render(report(*arguments), out)
    return out.getvalue()


def obeyed(text):
    """What a terminal or an editor would act upon."""
    return [c for c in text if (unicodedata.category(c) in ("Cc", "Zl", "Zp") and c not in "\n\t") or c == "\u202e"]


class TestQuoting:
    @pytest.mark.parametrize("form", [*(form for form in FORMATS if form not in DECODED), "statistics"])
    def test_no_control_character_reaches_a_terminal(self, form):
        text = rendered(form, f"a{ESCAPES}.py", f"x{ESCAPES}", f"one # {ESCAPES}\ntwo\n")
        assert obeyed(text) == []

    @pytest.mark.parametrize("form", [*PROSE, "github", "markdown"])
    def test_nothing_that_is_quoted_begins_a_line(self, form):
        text = rendered(form, "a\n::error::x\n.py", "m\n::add-mask::x\n::stop-commands::y")
        commands = [line for line in text.splitlines() if line.lstrip().startswith("::")]
        assert len(commands) == (form == "github")
        assert all(line.startswith("::warning ") for line in commands)

    def test_a_diff_is_exact_in_a_pipe_but_for_its_title(self):
        text = rendered("diff", "a\x1b\n.py", "", "one \x1b[31m\n")
        assert "--- a\\x1b\\x0a.py\n" in text
        assert " one \x1b[31m\n" in text

    def test_a_diff_on_a_terminal_is_visible(self, monkeypatch):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        for name in ("NO_COLOR", "CLICOLOR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm")
        import_module("ampify.report.diff").render(report("a.py", "", "one \x1b]0;owned\x07\n"), out := Terminal())
        assert "\x1b]0" not in out.getvalue()
        assert "\\x1b]0;owned\\x07" in out.getvalue()

    def test_errors_are_lines(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        name = "a\x1b[31m\n::error::x.py"
        Path(name).mkdir()
        (Path(name) / "b.py").write_text("import torch\nx = (\n")
        missing = run(f"{name}/gone.py")
        assert missing.stderr.splitlines() == [
            "ampify: a\\x1b[31m\\x0a::error::x.py/gone.py: No such file or directory"
        ]
        assert obeyed(run(".").output) == []
        assert obeyed(run(".", "--show-files").output) == obeyed(run(".", "-v").output) == []

    def test_html_is_text(self):
        hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
        page = html.page([Verdict(title=hostile, word="CANNOT RUN", reason=hostile, details=hostile)])
        assert "<script" not in page
        assert "<img" not in page
        assert "&lt;script&gt;" in page

    def test_the_markdown_of_verify_holds_no_html(self):
        hostile = "`<script>alert(1)</script>` | ![x](http://x)"
        markdown.render([Verdict(title=hostile, word="CANNOT RUN", reason=hostile)], out := io.StringIO())
        tokens = MarkdownIt("commonmark").enable("table").parse(out.getvalue())
        kinds = {child.type for token in tokens for child in (token, *(token.children or ()))}
        assert kinds & {"html_block", "html_inline", "image", "link_open"} == set()
        assert "alert(1)" in "".join(token.content for token in tokens)

    def test_plain_text_stays(self):
        assert visible("é 模型 \t x") == "é 模型 \t x"
