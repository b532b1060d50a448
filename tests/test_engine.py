"""The story of the engine, told with fake rules over a fake model."""

from pathlib import Path

import pytest
from conftest import NEEDLE

from ampify.config import ConfigError, Settings
from ampify.engine import Mode, Run, Wanted, check, check_bytes, erase, steps

pytestmark = pytest.mark.usefixtures("fakes")


def run_on(text, mode=Mode.REPORT, step=None, name="train.py", **settings):
    run = Run(lambda _: Settings(**settings), mode, Wanted(Path(name), step) if step else None)
    report, new = check_bytes(Path(name), (NEEDLE + text).encode(), run)
    assert not report.errors
    return report, new.decode().removeprefix(NEEDLE)


def codes(report):
    return [d.code for file in report.files for d in file.diagnostics]


def test_findings_come_in_the_order_of_the_text():
    report, _ = run_on("risky\nold\nold\n")
    assert codes(report) == ["AMP802", "AMP801", "AMP801"]
    assert report.status == 1


def test_a_report_changes_nothing():
    assert run_on("old\n")[1] == "old\n"


def test_fixes_are_applied_and_a_second_run_changes_nothing():
    report, text = run_on("old  # kept\nold\n", Mode.WRITE)
    assert text == "new  # kept\nnew\n"
    assert codes(report) == []
    assert [d.code for d in report.files[0].fixed] == ["AMP801", "AMP801"]
    assert report.status == 0
    assert run_on(text, Mode.WRITE)[1] == text


def test_fixes_run_until_none_is_left():
    """The conversion inserts a name; the next round sees it."""
    _, text = run_on("def step_a():\n    old\n", Mode.WRITE)
    assert text == "def step_a_done():\n    new\n    old_scaler\n"


def test_unsafe_fixes_wait_to_be_asked_for():
    assert run_on("risky\n", Mode.WRITE)[1] == "risky\n"
    assert run_on("risky\n", Mode.WRITE, unsafe_fixes=True)[1] == "safe\n"


def test_a_fix_that_fails_its_proof_is_withdrawn_and_the_others_are_applied():
    report, text = run_on("old; sick; old\n", Mode.WRITE)
    assert text == "new; sick; new\n"
    assert codes(report) == ["AMP803", "AMP904"]
    message = report.files[0].diagnostics[1].message
    assert "the comment of line 1 was lost" in message
    assert "a bug in ampify, please report it" in message


def test_fixes_that_never_end_are_withdrawn_as_a_whole():
    report, text = run_on("old; tick\n", Mode.WRITE)
    assert text == "old; tick\n"
    assert sorted(codes(report)) == ["AMP801", "AMP804", "AMP904"]
    assert not report.files[0].fixed


def test_select_and_ignore_take_beginnings_of_codes():
    assert codes(run_on("old; risky; sick\n", select=("AMP8",), ignore=("AMP802", "AMP803"))[0]) == ["AMP801"]


def test_a_code_that_no_rule_has_is_an_error():
    with pytest.raises(ConfigError, match="no code begins with `AMP7`"):
        run_on("old\n", select=("AMP7",))


@pytest.mark.parametrize(("level", "status"), [("info", 1), ("warning", 0), ("error", 0)])
def test_only_findings_at_the_fail_level_fail(level, status):
    assert run_on("sick\n", fail_level=level)[0].status == status


def test_a_diff_that_would_change_something_fails():
    report, _ = run_on("old\n", Mode.DIFF)
    assert (codes(report), report.status) == ([], 1)


class TestIgnores:
    def test_hides_on_its_line_only(self):
        assert codes(run_on("old  # ampify: ignore[AMP801]\nold\n")[0]) == ["AMP801"]

    def test_without_codes_hides_all(self):
        assert codes(run_on("old; risky  # ampify: ignore\n")[0]) == []

    def test_stands_anywhere_in_the_statement(self):
        assert codes(run_on("f(\n    old,\n    x,\n)  # ampify: ignore[AMP801]\n")[0]) == []

    def test_keeps_the_fix_away(self):
        text = "old  # ampify: ignore[AMP801] a reason\n"
        assert run_on(text, Mode.WRITE)[1] == text

    def test_that_hides_nothing_is_reported(self):
        report, _ = run_on("old  # ampify: ignore[AMP801, AMP802]\nx  # ampify: ignore\n")
        assert codes(report) == ["AMP903", "AMP903"]
        assert "`AMP802`" in report.files[0].diagnostics[0].message
        assert report.status == 0

    def test_of_a_rule_that_was_not_asked_is_not_reported(self):
        assert codes(run_on("x  # ampify: ignore[AMP802]\n", ignore=("AMP802",))[0]) == []

    def test_in_a_string_is_none(self):
        assert codes(run_on("old, '# ampify: ignore'\n")[0]) == ["AMP801"]

    def test_skip_file(self):
        assert codes(run_on("old\n# ampify: skip-file\n")[0]) == []
        assert codes(run_on("old, '# ampify: skip-file'\n")[0]) == ["AMP801"]


class TestStep:
    TEXT = "def step_a():\n    x\n\ndef step_b():\n    old\n"

    def test_only_this_one_is_looked_at_and_converted(self):
        report, text = run_on(self.TEXT, Mode.WRITE, step=5)
        assert text == "def step_a():\n    x\n\ndef step_b_done():\n    old\n    old_scaler\n"
        assert codes(report) == []

    def test_there_must_be_one(self):
        with pytest.raises(ConfigError, match=r"no training step at train\.py:4"):
            run_on(self.TEXT, step=4)
        with pytest.raises(ConfigError, match="has no code at line 99"):
            run_on(self.TEXT, step=99)

    def test_its_file_must_be_given(self, tmp_path):
        with pytest.raises(ConfigError, match="not among the files"):
            check([tmp_path], Run(step=Wanted(Path("other.py"), 1)))


def test_stub_files_are_only_looked_at():
    report, text = run_on("old\n", Mode.WRITE, name="train.pyi")
    assert (codes(report), text) == (["AMP801"], "old\n")


def test_a_bug_in_one_file_costs_only_that_file(tmp_path):
    (tmp_path / "a.py").write_text(NEEDLE + "crash\n")
    (tmp_path / "b.py").write_text(NEEDLE + "old\n")
    report = check([tmp_path], Run(mode=Mode.WRITE))
    assert (tmp_path / "b.py").read_text() == NEEDLE + "new\n"
    assert report.status == 2
    (error,) = report.errors
    assert error.startswith(f"{tmp_path}/a.py: ampify failed: KeyError at conftest.py:")


def test_files_without_torch_are_not_parsed(tmp_path):
    (tmp_path / "a.py").write_text("crash\n")
    report = check([tmp_path], Run())
    assert (report.checked, report.files, report.errors) == (1, (), ())


def test_steps(tmp_path):
    (tmp_path / "a.py").write_text(NEEDLE + TestStep.TEXT + "    loss.backward()\n")
    rows, report = steps([tmp_path], Run())
    assert [(row.line, row.where, row.decision, row.code) for row in rows] == [
        (2, "step_a", "convert", "AMP806"),
        (5, "step_b", "convert", "AMP806"),
    ]
    assert report.status == 0


def test_steps_does_not_read_what_can_begin_none_but_says_what_does_not_parse(tmp_path):
    (tmp_path / "a.py").write_text(NEEDLE + TestStep.TEXT + "    backward = 1\n")
    (tmp_path / "b.py").write_text(NEEDLE + "f(\n")
    rows, report = steps([tmp_path], Run())
    assert rows == []
    assert [d.code for file in report.files for d in file.diagnostics] == ["AMP900"]


def test_erase(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(NEEDLE + "scaler.step(optimizer)\n")
    assert erase([tmp_path], Run(mode=Mode.DIFF)).files[0].after == NEEDLE + "step(optimizer)\n"
    erase([tmp_path], Run(mode=Mode.WRITE))
    assert file.read_text() == NEEDLE + "step(optimizer)\n"


@pytest.mark.parametrize(("text", "code", "status"), [("stuck\n", "AMP905", 0), ("f(\n", "AMP900", 1)])
def test_what_cannot_be_erased_is_a_finding(tmp_path, text, code, status):
    (tmp_path / "a.py").write_text(NEEDLE + text)
    report = erase([tmp_path], Run(mode=Mode.WRITE))
    assert (codes(report), report.status) == ([code], status)
    assert (tmp_path / "a.py").read_text() == NEEDLE + text
