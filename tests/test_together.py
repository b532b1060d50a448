"""Files that make up one program: which are grouped, what is reported on each, and how they are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ampify.diagnostic import Diagnostic
from ampify.engine import Mode, Run, check
from ampify.inspection import Inspection
from ampify.model.project import Project, Summaries, Unit
from ampify.model.summary import summarize

STEP = """\
def train(model, optimizer, x):
    optimizer.zero_grad()
    loss = model(x).mean()
    loss.backward()
    optimizer.step()
"""
MAIN = """\
import torch
from engine import train
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = torch.nn.Linear(2, 1).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    train(model, optimizer, torch.randn(4, 2, device=device))
"""
SAVE = "def save(model, optimizer):\n    return model.state_dict(), optimizer.state_dict()\n"


def units(**texts: str) -> list[Unit]:
    """The units of files in one folder."""
    summaries = [summarize(f"/p/{name}.py", text) for name, text in texts.items()]
    return Project(Summaries([s for s in summaries if s is not None])).units()


def grouped(**texts: str) -> list[tuple[str, ...]]:
    return [tuple(Path(path).stem for path in unit.paths) for unit in units(**texts)]


class TestUnits:
    def test_a_caller_joins_the_step_that_it_calls(self) -> None:
        assert grouped(engine=STEP, main=MAIN, other="x = 1\n") == [("engine", "main"), ("other",)]

    def test_an_import_alone_joins_nothing(self) -> None:
        assert grouped(engine=STEP, main="from engine import train\n") == [("engine",), ("main",)]

    def test_what_leads_to_a_step_is_a_part_of_it(self) -> None:
        run = "from engine import train\ndef run(*args):\n    train(*args)\n"
        main = "import run\nrun.run(1, 2, 3)\n"
        assert grouped(engine=STEP, main=main, run=run) == [("engine", "main", "run")]

    def test_a_base_class_joins_the_class_that_steps(self) -> None:
        base = "class Base:\n    def setup(self):\n        self.x = 1\n"
        steps = "from base import Base\nclass Own(Base):\n    def run(self, loss):\n        loss.backward()\n"
        assert grouped(base=base, steps=steps) == [("base", "steps")]

    def test_a_star_import_of_a_star_import(self) -> None:
        main = MAIN.replace("from engine import train", "from outer import *")
        outer, inner = "from .inner import *\n", "from .engine import *\n"
        assert grouped(engine=STEP, inner=inner, main=main, outer=outer) == [("engine", "inner", "main", "outer")]

    def test_a_helper_of_one_program_is_a_part_of_it(self) -> None:
        main = MAIN + "from state import save\nsave(model, optimizer)\n"
        assert units(engine=STEP, main=main, state=SAVE) == [Unit(("/p/engine.py", "/p/main.py", "/p/state.py"))]

    def test_a_helper_of_two_programs_is_only_read(self) -> None:
        main = MAIN + "from state import save\nsave(model, optimizer)\n"
        other = "from state import save\nsave(1, 2)\n"
        first, second, third = units(engine=STEP, main=main, other=other, state=SAVE)
        assert first == Unit(("/p/engine.py", "/p/main.py"), ("/p/state.py",))
        assert (second.paths, third.paths) == (("/p/other.py",), ("/p/state.py",))

    def test_without_a_step_nothing_is_joined(self) -> None:
        assert grouped(a="def f():\n    pass\n", b="from a import f\nf()\n") == [("a",), ("b",)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "engine.py").write_text(STEP, "utf-8")
    (tmp_path / "main.py").write_text(MAIN, "utf-8")
    return tmp_path


class TestReports:
    def test_a_fix_of_two_files_belongs_to_none_of_them_alone(self, project: Path) -> None:
        report = check([project], Run())
        (found,) = [d for file in report.files for d in file.diagnostics]
        assert (Path(found.path).name, found.code) == ("engine.py", "AMP001")
        assert found.fix is not None
        assert found.fix.title.endswith("(2 files)")
        assert found.fix.edits == ()
        assert STEP[found.span.start : found.span.end].startswith(("loss", "    loss", "optimizer", "def"))

    def test_a_note_on_another_file_says_where(self, project: Path) -> None:
        (found,) = [d for file in check([project], Run()).files for d in file.diagnostics]
        (note,) = [n.message for n in found.notes if "main.py" in n.message]
        assert note.endswith(f"({project / 'main.py'}:5)")
        assert all(n.span.end <= len(STEP) for n in found.notes)

    def test_a_finding_has_the_place_in_its_own_file(self, project: Path) -> None:
        (project / "main.py").write_text(MAIN + "with torch.cuda.amp.autocast():\n    model\n", "utf-8")
        found = [d for file in check([project], Run()).files for d in file.diagnostics if d.code.startswith("AMP1")]
        text = (project / "main.py").read_text("utf-8")
        assert found
        assert all("autocast" in text[d.span.start : d.span.end] for d in found)


class TestAround:
    """What is around a group is read where a step begins in the group, not where a framework differentiates."""

    READ = """\
import torch
from accelerate import Accelerator
from nets import build
accelerator = Accelerator()
model = build()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x in range(3):
    optimizer.zero_grad()
    loss = model(x)
    {}
    optimizer.step()
"""

    def read(self, folder: Path, backward: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
        (folder / "train.py").write_text(self.READ.format(backward), "utf-8")
        (folder / "nets.py").write_text("import torch\ndef build():\n    return torch.nn.Linear(2, 1)\n", "utf-8")
        (folder / "other.py").write_text("from nets import build\nbuild()\n", "utf-8")
        found, find = list[tuple[str, ...]](), Inspection._find

        def seen(inspection: Inspection, text: str, focus: int | None) -> list[Diagnostic]:
            found.append(tuple(Path(path).name for path in inspection.paths))
            return find(inspection, text, focus)

        monkeypatch.setattr(Inspection, "_find", seen)
        assert not check([folder], Run()).errors
        return found

    def test_of_a_step(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert ("train.py", "nets.py") in self.read(tmp_path, "loss.backward()", monkeypatch)

    def test_of_a_framework(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert ("train.py",) in self.read(tmp_path, "accelerator.backward(loss)", monkeypatch)

    def test_what_it_does_with_amp_is_no_part_of_the_proof(self, tmp_path: Path) -> None:
        library = (
            "import torch\ndef build(scaler=None):\n    if scaler and isinstance(scaler, bool):\n"
            "        scaler = torch.amp.GradScaler()\n    show(scaler)\n    return torch.nn.Linear(2, 1).cuda()\n"
        )
        train = self.READ.format("loss.mean().backward()").replace("from accelerate import Accelerator\n", "")
        train = train.replace("accelerator = Accelerator()\n", "")
        (tmp_path / "train.py").write_text(train, "utf-8")
        (tmp_path / "nets.py").write_text(library, "utf-8")
        (tmp_path / "other.py").write_text("from nets import build\nbuild(True)\n", "utf-8")
        assert check([tmp_path], Run(mode=Mode.WRITE)).errors == ()
        assert "scaler.scale(" in (tmp_path / "train.py").read_text("utf-8")
        assert (tmp_path / "nets.py").read_text("utf-8") == library

    def test_what_is_old_there_is_its_own_business(self, tmp_path: Path) -> None:
        old = "def build():\n    with autocast():\n        return torch.nn.Linear(2, 1)\n"
        train = "from torch.cuda.amp import autocast\n" + self.READ.format("loss.mean().backward()")
        train = train.replace("    loss = model(x)\n", "    with autocast():\n        loss = model(x)\n")
        (tmp_path / "train.py").write_text(train.replace("from accelerate import Accelerator\n", ""), "utf-8")
        (tmp_path / "nets.py").write_text("import torch\nfrom torch.cuda.amp import autocast\n" + old, "utf-8")
        (tmp_path / "other.py").write_text("from nets import build\nbuild()\n", "utf-8")
        report = check([tmp_path], Run(mode=Mode.WRITE))
        assert "AMP904" not in [d.code for file in report.files for d in file.diagnostics]
        for name in ("train.py", "nets.py"):
            assert "torch.autocast(" in (tmp_path / name).read_text("utf-8")


class TestWriting:
    def test_all_files_are_written(self, project: Path) -> None:
        assert check([project], Run(mode=Mode.WRITE)).errors == ()
        assert all("scaler" in (project / name).read_text("utf-8") for name in ("engine.py", "main.py"))

    def test_if_one_cannot_be_written_the_others_get_their_bytes_back(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rename, written = os.replace, list[str]()

        def refusing(temporary: str, real: Path) -> None:
            if real.name == "main.py":
                raise PermissionError(13, "is read-only")
            written.append(real.name)
            rename(temporary, real)

        monkeypatch.setattr(os, "replace", refusing)
        report = check([project], Run(mode=Mode.WRITE))
        assert written == ["engine.py", "engine.py"]
        assert report.errors == (f"{project / 'main.py'}: is read-only",)
        assert (project / "engine.py").read_text("utf-8") == STEP
        assert (project / "main.py").read_text("utf-8") == MAIN
        assert [d.code for file in report.files for d in file.diagnostics] == ["AMP001"]

    def test_a_file_that_changed_meanwhile_is_left_alone(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rename = os.replace

        def late(temporary: str, real: Path) -> None:
            rename(temporary, real)
            (project / "main.py").write_text("mine = 1\n", "utf-8")

        monkeypatch.setattr(os, "replace", late)
        assert check([project], Run(mode=Mode.WRITE)).status == 2
        assert (project / "engine.py").read_text("utf-8") == STEP
        assert (project / "main.py").read_text("utf-8") == "mine = 1\n"
