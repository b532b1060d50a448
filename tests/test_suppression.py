"""Comments that silence findings, those that silence nothing, and those that ampify writes."""

import json

import pytest
from click.testing import CliRunner
from conftest import NEEDLE

from ampify.cli import main
from ampify.config import Settings
from ampify.engine import check_text, fix_text

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def codes(text, **settings):
    return [found.code for found in check_text(NEEDLE + text, Settings(**settings))]


def fixed(text, **settings):
    return fix_text(NEEDLE + text, Settings(**settings))[0].removeprefix(NEEDLE)


@pytest.mark.parametrize(
    "text",
    [
        "old  # noqa: AMP801\n",
        "old  # noqa:AMP801\n",
        "old  # NOQA: F401, amp801 a reason\n",
        "old  # noqa: F401 AMP801\n",
        "old  # noqa\n",
        "old  # type: ignore # noqa: AMP801\n",
        "old  # ampify: ignore[amp801]\n",
        "# ampify: ignore[AMP801] of the statement below\nold\n",
        "# ampify: ignore[AMP801]\n\n# more\nf(\n    old,\n)\n",
        "f(old,  # ampify: ignore[AMP801]\n  x)\n",
        "f(\n    old, '''\n    ''')  # noqa: AMP801\n",
        "# ampify: off\nold\nold\n# ampify: on\n",
        "# ampify: off[AMP801] generated\nold\n# ampify: on[AMP801]\n",
        "x  # ampify: off\nold\n",
        "x = 1  # ampify: off\nold\n# ampify: on\n",
        "# ampify: off[AMP802]\n# ampify: off\nold; risky\n# ampify: on\n",
    ],
)
def test_what_hides(text):
    assert "AMP801" not in codes(text)


@pytest.mark.parametrize(
    "text",
    [
        "old  # noqa: AMP802\n",
        "old  # noqa: F401\n",
        "old  # noqa: because\n",
        "old  # noqa-this\n",
        "# noqa: AMP801\nold\n",
        "old  # ampify: ignore this\n",
        "old  # ampify: offline\n",
        "'# ampify: off'\nold\n",
        "# ampify: off\nx\n# ampify: on\nold\n",
        "# ampify: off[AMP802]\nold\n",
        "# ampify: off[AMP801]\n# ampify: off[AMP802]\n# ampify: on\nold\n",
    ],
)
def test_what_does_not_hide(text):
    assert "AMP801" in codes(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x  # ampify: ignore[AMP801]\n", "x\n"),
        ("x  # ampify: ignore[AMP801] as we know\n", "x\n"),
        ("x  # ampify: ignore\r\ny\n", "x\r\ny\n"),
        ("x  # why  # noqa: AMP801\n", "x  # why\n"),
        ("x  # noqa: AMP801  # type: ignore\n", "x  # type: ignore\n"),
        ("x  # noqa: F401, AMP801, E501 known\n", "x  # noqa: F401, E501 known\n"),
        ("x  # noqa: F401 AMP801\n", "x  # noqa: F401\n"),
        ("sick  # ampify: ignore[AMP801, AMP803]\n", "sick  # ampify: ignore[AMP803]\n"),
        ("# ampify: ignore[AMP801]\nx\n", "x\n"),
        ("if x:\n    # ampify: off\n    y\n    # ampify: on\n", "if x:\n    y\n"),
        ("x\n# ampify: off", "x\n"),
        ("# ampify: on\nx\n", "x\n"),
        ("# ampify: off[AMP801, AMP803]\nsick\n", "# ampify: off[AMP803]\nsick\n"),
        ("x  # noqa: AMP801  # ampify: ignore[AMP802]\n", "x\n"),
    ],
)
def test_unused_ones_are_reported_and_taken_out(before, after):
    assert "AMP903" in codes(before)
    assert fixed(before) == after
    assert codes(after) == []


@pytest.mark.parametrize("text", ["x  # noqa\n", "x  # noqa: F401\n", "# noqa: E501\nx\n", "x  # NOQA:E501,W291\n"])
def test_comments_for_other_tools_are_left_alone(text):
    assert codes(text) == []
    assert fixed(text) == text


def test_a_comment_is_judged_by_what_the_fixes_leave():
    assert fixed("old  # ampify: ignore[AMP802]\nrisky  # ampify: ignore[AMP802]\n") == (
        "new\nrisky  # ampify: ignore[AMP802]\n"
    )


def test_fixes_stay_out_of_a_range_that_is_off():
    text = "def step_a():\n    x\n    # ampify: off\n    y\n    # ampify: on\n"
    assert fixed(text) != text  # nothing is changed inside
    inside = "def step_a():\n    # ampify: off\n    x\n"
    assert fixed(inside) == inside


@pytest.mark.parametrize("settings", [{"ignore": ("AMP903",)}, {"unfixable": ("AMP903",)}])
def test_they_can_be_kept(settings):
    text = "x  # ampify: ignore[AMP801]\n"
    assert fixed(text, **settings) == text
    assert codes(text, **settings) == ([] if "ignore" in settings else ["AMP903"])


def notebook(*sources):
    cells = [{"cell_type": "code", "source": source.splitlines(keepends=True)} for source in sources]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def sources(file):
    return ["".join(cell["source"]) for cell in json.loads(file.read_text())["cells"]]


def test_in_notebooks_and_markdown(folder):
    book, page = folder / "a.ipynb", folder / "a.md"
    book.write_text(
        notebook("import torch\n%time old  # noqa: AMP801", "x  # ampify: ignore[AMP801]", "# ampify: off\nold")
    )
    page.write_text("```python\nimport torch\nx  # ampify: ignore[AMP801] so\n```\n\n    # ampify: ignore[AMP801]\n")
    assert run("--output-format", "concise", ".").stdout.splitlines()[:2] == [
        "a.ipynb:cell 2:1:4: AMP903 [*] This ignore of `AMP801` hides nothing",
        "a.md:3:4: AMP903 [*] This ignore of `AMP801` hides nothing",
    ]
    assert run("--fix", ".").exit_code == 0
    assert sources(book) == ["import torch\n%time old  # noqa: AMP801", "x", "# ampify: off\nold"]
    assert page.read_text() == "```python\nimport torch\nx\n```\n\n    # ampify: ignore[AMP801]\n"


class TestAddIgnore:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("old\n", "old  # ampify: ignore[AMP801]\n"),
            ("old   \r\nx\r\n", "old  # ampify: ignore[AMP801]\r\nx\r\n"),
            ("old", "old  # ampify: ignore[AMP801]"),
            ("risky; old; old\n", "risky; old; old  # ampify: ignore[AMP801, AMP802]\n"),
            ("f(\n    old,\n)\n", "f(\n    old,  # ampify: ignore[AMP801]\n)\n"),
            ("old + '''\n'''\n", "old + '''\n'''  # ampify: ignore[AMP801]\n"),
            ("x = old + \\\n    1\n", "x = old + \\\n    1  # ampify: ignore[AMP801]\n"),
            ("old  # type: ignore\n", "old  # type: ignore  # ampify: ignore[AMP801]\n"),
            ("old; risky  # ampify: ignore[AMP802]\n", "old; risky  # ampify: ignore[AMP802, AMP801]\n"),
            ("old; sick  # noqa: AMP803\n", "old; sick  # noqa: AMP803  # ampify: ignore[AMP801]\n"),
            ("if old:\n    x\n", "if old:  # ampify: ignore[AMP801]\n    x\n"),
        ],
    )
    def test_writes_where_a_comment_works(self, folder, before, after):
        file = folder / "a.py"
        file.write_bytes((NEEDLE + before).encode())
        result = run("--add-ignore", ".")
        assert file.read_bytes().decode() == NEEDLE + after
        assert (result.exit_code, result.stdout) == (0, "Nothing to report in 1 file\n")
        assert "by comments in 1 file\n" in result.stderr
        assert run("--fail-level", "info", ".").exit_code == 0

    def test_with_a_reason_and_only_what_is_selected(self, folder):
        file = folder / "a.py"
        file.write_text(NEEDLE + "old\nrisky\n")
        assert run("--add-ignore=legacy code", "--select", "AMP802", ".").exit_code == 0
        assert file.read_text() == NEEDLE + "old\nrisky  # ampify: ignore[AMP802] legacy code\n"
        assert run("--fix", "--unsafe-fixes", ".").exit_code == 0
        assert file.read_text() == NEEDLE + "new\nrisky  # ampify: ignore[AMP802] legacy code\n"

    def test_in_a_notebook_with_magics(self, folder):
        (book := folder / "a.ipynb").write_text(notebook("import torch\n", "%time old\n!ls\nrisky"))
        assert run("--add-ignore", ".").exit_code == 0
        assert sources(book)[1] == ("%time old  # ampify: ignore[AMP801]\n!ls\nrisky  # ampify: ignore[AMP802]")

    def test_shows_what_it_would_write(self, folder):
        (file := folder / "a.py").write_text(NEEDLE + "old\n")
        assert "+old  # ampify: ignore[AMP801]\n" in run("--add-ignore", "--diff", ".").stdout
        assert file.read_text() == NEEDLE + "old\n"

    @pytest.mark.parametrize("reason", ["a # b", "a\nb"])
    def test_a_reason_is_one_line(self, folder, reason):
        (folder / "a.py").write_text(NEEDLE + "old\n")
        assert run(f"--add-ignore={reason}", ".").exit_code == 2

    def test_a_file_that_does_not_parse_is_left_alone(self, folder):
        (file := folder / "a.py").write_text(NEEDLE + "old\n(\n")
        assert run("--add-ignore", ".").exit_code == 1
        assert file.read_text() == NEEDLE + "old\n(\n"
