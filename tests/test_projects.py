"""The projects of fixtures/projects: training steps that span files, converted together or refused in words.

`before` and `after` are whole trees; a project without `after` is left as it is.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ampify.engine import Mode, Report, Run, check, erase
from ampify.verify.ladder import climb
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.workers import Workers

PROJECTS = Path(__file__).parents[1] / "fixtures" / "projects"
NAMES = sorted(path.name for path in PROJECTS.iterdir())
CONVERTED = [name for name in NAMES if (PROJECTS / name / "after").exists()]

GIVEN = {"outside_caller": "core"}
"""The folder that ampify is given, where it is not the whole project."""

RUNS = {
    "from_dot_import": ["-m app"],
    "relative_imports": ["-m forecast"],
    "side_by_side": ["scripts/train.py"],
    "src_layout": ["train.py"],
    "two_programs": ["train_large.py", "train_small.py"],
}
"""What is run; `main.py` where nothing else is said."""

FLOATS_STAY = {"bce_loss_helper", "loss_helper"}
"""Without the plan, erasing cannot tell that a `.float()` belongs to an island."""

REFUSED = {
    "bce_forward_helper": ("main.py", "AMP021", "`criterion` takes probabilities"),
    "handed_out": ("training.py", "AMP017", "`train` is handed to `Thread` (line 14 of `main.py`)"),
    "notebook_caller": ("training.py", "AMP017", "and `explore.ipynb` calls it too"),
    "outside_caller": ("core/training.py", "AMP017", "`train` would need a new parameter, and `tune.py` calls it too"),
    "namespace_alone": ("training.py", "AMP017", "where the scaler would be made, `args.device` is not known"),
    "shared_checkpoints": ("first.py", "AMP017", "`save` would need a new parameter, and `second.py` calls it too"),
}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(env={"OMP_NUM_THREADS": "1"}) as opened:
        yield opened


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the project that the test is called with."""
    return shutil.copytree(PROJECTS / request.getfixturevalue("name") / "before", tmp_path / "project")


def fix(name: str, project: Path) -> Report:
    return check([project / GIVEN.get(name, ".")], Run(mode=Mode.WRITE))


def tree(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def statements(root: Path) -> dict[Path, list[str]]:
    """What the files say that can be parsed, by statement."""
    found = {}
    for path, raw in tree(root).items():
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(raw)["cells"])
        elif path.suffix == ".py" and path.name != "notes.py":
            text = raw.decode()
        else:
            continue
        found[path] = [ast.unparse(node) for node in ast.parse(text).body]
    return found


def without_imports(found: dict[Path, list[str]], known: dict[Path, list[str]]) -> dict[Path, list[str]]:
    """Without each `import torch` that is not known: who wrote it cannot be told once AMP is gone."""
    return {path: [s for s in body if s != "import torch" or s in known[path]] for path, body in found.items()}


def test_every_project_is_converted_or_refused() -> None:
    assert len(NAMES) >= 25
    assert sorted([*CONVERTED, *REFUSED]) == NAMES


@pytest.mark.parametrize("name", CONVERTED)
def test_fix_writes_what_is_expected_and_erase_takes_it_out(name: str, project: Path) -> None:
    before = statements(project)
    report = fix(name, project)
    assert report.errors == ()
    assert {d.code for file in report.files for d in file.fixed} == {"AMP001"}
    assert tree(project) == tree(PROJECTS / name / "after")
    fix(name, project)
    assert tree(project) == tree(PROJECTS / name / "after")
    assert erase([project], Run(mode=Mode.WRITE)).errors == ()
    if name in FLOATS_STAY:
        assert not any(word in str(statements(project)) for word in ("amp", "autocast", "scaler"))
    else:
        assert without_imports(statements(project), before) == before


@pytest.mark.parametrize("name", REFUSED)
def test_a_project_that_cannot_be_converted_says_why(name: str, project: Path) -> None:
    before = tree(project)
    path, expected, words = REFUSED[name]
    found = [d for file in fix(name, project).files for d in file.diagnostics]
    assert [(Path(d.path), d.code) for d in found if words in d.message] == [(project / path, expected)]
    assert tree(project) == before


@pytest.mark.parametrize(("name", "run"), [(n, run) for n in CONVERTED for run in RUNS.get(n, ["main.py"])])
def test_the_ladder_holds_for_a_project(name: str, run: str, project: Path, workers: Workers) -> None:
    after = PROJECTS / name / "after"
    texts = {
        project / path: raw.decode()
        for path, raw in tree(after).items()
        if path.suffix == ".py" and raw != (project / path).read_bytes()
    }
    module = run.removeprefix("-m ") if run.startswith("-m ") else None
    request = Request(script=None if module else project / run, module=module, cwd=project, device="cpu")
    verdict = climb(request, Sources({}, texts, "given"), workers)
    status = {level.name: level.status for level in verdict.levels}
    assert verdict.word == "PLUMBING-EQUIVALENT", (verdict.reason, verdict.details, verdict.first)
    assert {status[level] for level in ("L0", "L1", "L2", "L2s", "ledger")} == {"holds"}
    others = {other for other in RUNS.get(name, ()) if other != run}
    assert {Path(place.path).name for place in verdict.unverified} <= others
    assert tree(project) == tree(PROJECTS / name / "before")


def test_each_file_keeps_its_line_endings() -> None:
    after = tree(PROJECTS / "line_endings" / "after")
    for path, raw in after.items():
        assert raw.count(b"\r\n") == (raw.count(b"\n") if path.name == "training.py" else 0)
        assert b"scaler" in raw
