"""A project of which a killed run has written some files only: finished, taken back, or told, and nothing is lost."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from ampify.engine import Mode, Run, check, erase
from ampify.source import files
from ampify.source.journal import NAME, Entry, kept, settle

PROJECTS = Path(__file__).parents[1] / "fixtures" / "projects"
PROJECT = "three_files_down"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a killed run is a fork")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return shutil.copytree(PROJECTS / PROJECT / "before", tmp_path / "project")


def held(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text("utf-8") for p in sorted(root.rglob("*")) if p.is_file()}


OLD, NEW = held(PROJECTS / PROJECT / "before"), held(PROJECTS / PROJECT / "after")
CHANGED = [name for name in OLD if OLD[name] != NEW[name]]


def killed(project: Path, rename: int) -> None:
    """A run of `--fix` that ends, as by `kill -9`, before one of its renames, counted from 1."""
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        return
    left, real = iter(range(1, 99)), os.replace

    def replace(*paths: str) -> None:
        if next(left) == rename:
            os._exit(9)
        real(*paths)

    with mock.patch.object(os, "replace", replace):
        check([project], Run(mode=Mode.WRITE))
    os._exit(0)


@pytest.mark.parametrize("rename", range(1, len(CHANGED) + 1))
def test_the_next_run_finishes_what_a_killed_one_has_begun(project: Path, rename: int):
    killed(project, rename)
    begun = [name for name in CHANGED if held(project)[name] == NEW[name]]
    assert len(begun) == rename - 1
    report = check([project], Run(mode=Mode.WRITE))
    assert report.errors == ()
    assert held(project) == NEW
    assert [note.partition(": ")[2].partition(":")[0] for note in report.notes] == (
        ["finished what a run that was stopped had begun"] if begun else []
    )


@pytest.mark.parametrize("mode", [Mode.REPORT, Mode.DIFF])
def test_a_run_that_writes_nothing_only_tells(project: Path, mode: Mode):
    killed(project, 2)
    before = held(project)
    report = check([project], Run(mode=mode))
    assert held(project) == before
    count = len(CHANGED)
    said = f"a run that was stopped has changed 1 of {count} files that belong together; `--fix` over this folder"
    assert [error.partition(": ")[2] for error in report.errors] == [f"{said} finishes it"]
    assert report.status == 2


def test_erasing_finishes_first(project: Path):
    killed(project, 2)
    report = erase([project], Run(mode=Mode.WRITE))
    assert len(report.notes) == 1
    assert held(project).keys() == OLD.keys()
    assert not any("autocast(" in text for text in held(project).values())


def test_a_file_that_somebody_else_has_changed_stays_and_the_others_are_taken_back(project: Path):
    killed(project, 2)
    changed = next(name for name in CHANGED if held(project)[name] == OLD[name])
    (project / changed).write_text(OLD[changed] + "# mine\n", "utf-8")
    folder = files.journals([project / name for name in OLD])
    told = [*settle(folder, [project / name for name in OLD], write=True)]
    assert [each.done for each in told] == [True]
    assert f"`{changed}` was changed by another program since, and stays" in told[0].message
    assert held(project) == {**OLD, changed: OLD[changed] + "# mine\n"}


def test_a_run_over_a_part_of_the_project_does_not_write_the_rest(project: Path):
    killed(project, len(CHANGED))
    before = held(project)
    report = check([project / CHANGED[0]], Run(mode=Mode.WRITE))
    assert held(project) == before
    assert any("`--fix` over this folder finishes it" in error for error in report.errors)


def test_the_command_says_what_it_has_finished(project: Path):
    killed(project, 2)
    command = [sys.executable, "-m", "ampify", "--fix", "--no-cache", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"ampify: {project}: finished what a run that was stopped had begun: " in done.stderr
    assert held(project) == NEW


def test_a_journal_that_another_run_holds_is_left_alone(project: Path):
    entry = Entry(project / CHANGED[0], b"", b"", project / "x")
    with kept([entry, entry]):
        journal = (project / NAME).read_bytes()
        assert [*settle([project], [entry.path], write=True)] == []
        assert (project / NAME).read_bytes() == journal
    assert not (project / NAME).exists()


def journal(folder: Path, **row: str) -> None:
    """A journal as a stranger may lay it beside a project: it asks for `main.py` to become something else."""
    texts = {"old": OLD["main.py"], "new": "import evil\n"}
    other = {"path": CHANGED[0], "old": "x", "new": OLD[CHANGED[0]], "temporary": f".{CHANGED[0]}.ampify-1.tmp"}
    rows = [{"path": "main.py", "temporary": ".main.py.ampify-1.tmp", **texts, **row}, other]
    packed = [{**r, **{key: base64.b64encode(r[key].encode()).decode() for key in texts}} for r in rows]
    body = json.dumps(packed).encode()
    head = hashlib.blake2b(body, digest_size=16).hexdigest().encode()
    (folder / NAME).write_bytes(head + b"\n" + body)


def test_a_journal_is_followed(project: Path):
    journal(project)
    assert len(check([project], Run(mode=Mode.WRITE)).notes) == 1
    assert (project / "main.py").read_text("utf-8").startswith("import evil\n")


@pytest.mark.parametrize("path", ["../main.py", "/etc/passwd.py", "sub/link.py", "main.txt"])
def test_a_journal_that_leads_elsewhere_gives_no_orders(project: Path, path: str):
    outside = project.parent / "main.py"
    (project / "sub").mkdir()
    (project / "sub" / "link.py").symlink_to(outside)
    for file in (outside, project / "main.txt"):
        file.write_text(OLD["main.py"], "utf-8")
    journal(project, path=path, temporary=f".{Path(path).name}.ampify-1.tmp")
    check([project], Run(mode=Mode.WRITE))
    assert outside.read_text("utf-8") == (project / "main.txt").read_text("utf-8") == OLD["main.py"]


@pytest.mark.parametrize("temporary", ["main.py", "../.main.py.ampify-1.tmp", "notes.txt"])
def test_a_journal_does_not_remove_other_files(project: Path, temporary: str):
    for name in (project / "notes.txt", project.parent / ".main.py.ampify-1.tmp"):
        name.write_text("mine")
    journal(project, temporary=temporary)
    check([project], Run(mode=Mode.WRITE))
    assert (project / "notes.txt").read_text() == (project.parent / ".main.py.ampify-1.tmp").read_text() == "mine"
    assert (project / "main.py").exists()


def test_the_journal_of_another_user_is_not_read(project: Path):
    journal(project)
    with mock.patch.object(os, "getuid", return_value=os.geteuid() + 1):
        report = check([project], Run(mode=Mode.WRITE))
    assert report.notes == ()
    assert [error.partition(": ")[2] for error in report.errors] == [f"`{NAME}` in `project` is another user's"]
    assert {name: text for name, text in held(project).items() if name != NAME} == OLD


def test_a_journal_that_was_not_written_to_its_end_means_that_nothing_was_replaced(project: Path):
    journal(project)
    whole = (project / NAME).read_bytes()
    (project / NAME).write_bytes(whole[: len(whole) // 2])
    report = check([project], Run(mode=Mode.WRITE))
    assert report.errors == report.notes == ()
    assert held(project) == NEW


def test_where_no_journal_can_be_written_no_file_is_replaced(project: Path):
    (project / NAME).mkdir()
    report = check([project], Run(mode=Mode.WRITE))
    assert report.status == 2
    assert held(project) == OLD
