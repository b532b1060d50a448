"""What is kept between runs: never anything but what a run without a cache would say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ampify import engine
from ampify.cache import FOLDER, Cache, _head, clean, home
from ampify.config import Lookup
from ampify.diagnostic import Diagnostic
from ampify.inspection import FileReport
from ampify.unit import Result, Unit

OLD = "import torch\nwith torch.cuda.amp.autocast():\n    pass\n"
NEW = 'import torch\nwith torch.autocast(device_type="cuda"):\n    pass\n'
HELPER = """\
from torch.nn.functional import mse_loss


def epoch(model, optimizer, batches):
    for x, y in batches:
        optimizer.zero_grad()
        loss = mse_loss(model(x.cuda()), y.cuda())
        loss.backward()
        optimizer.step()
"""
USER = """\
import torch
from helper import epoch

model = torch.nn.Linear(2, 2).cuda()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
epoch(model, optimizer, [])
"""
APEX = """\
import torch
from apex import amp

model = torch.nn.Linear(2, 2).cuda()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
model, optimizer = amp.initialize(model, optimizer, opt_level="O1")
loss = model(torch.ones(1, 2).cuda()).sum()
with amp.scale_loss(loss, optimizer) as scaled_loss:
    scaled_loss.backward()
optimizer.step()
"""
PINS = '[tool.ampify]\nignore = ["AMP101"]\n'
SOURCES = (
    OLD,
    NEW,
    HELPER,
    USER,
    APEX,
    "import torch\n",
    "import torch\nautocast = (\n",
    "# coding: no\nimport torch\n",
    "",
)
FILES: dict[str, tuple[str | None, ...]] = {
    **dict.fromkeys(("p/a.py", "p/helper.py", "p/sub/b.py", "tools/use.py"), (*SOURCES, None)),
    "p/apex/__init__.py": ("", None),
    "p/pyproject.toml": ("", PINS, None),
    "p/requirements.txt": ("torch<1.9\n", None),
}
"""What files may hold, None: nothing, as they are not there. Only those in p are checked."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text(OLD, "utf-8")
    settle()
    return tmp_path / "p"


def settle() -> None:
    time.sleep(0.03)  # longer than two writes can share one time


def told(reports: tuple[FileReport, ...]) -> list[object]:
    return [replace(report, diagnostics=tuple(map(bare, report.diagnostics))) for report in reports]


def bare(found: Diagnostic) -> Diagnostic:
    return found if found.fix is None else replace(found, fix=replace(found.fix, proof=None))


def checked(project: Path, cache: Cache | None, mode: engine.Mode = engine.Mode.REPORT) -> engine.Report:
    return engine.check([project], engine.Run(Lookup(), mode), cache=cache)


def fresh() -> None:
    """Forget what one process remembers of configuration files."""
    from ampify import config, pins, toml_files
    from ampify.source import importers

    for module in (config, pins, toml_files, importers):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()


def test_warm_is_cold_and_asks_no_rule(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(project.parent / FOLDER, None)
    cold = checked(project, cache)
    monkeypatch.setattr(engine, "_report", lambda *_: pytest.fail("this run is cold"))
    warm = checked(project, cache)
    assert told(warm.files) == told(cold.files) != []
    assert [(f.after, f.level, f.part) for f in warm.files] == [(f.after, f.level, f.part) for f in cold.files]
    assert (warm.checked, warm.status) == (cold.checked, cold.status)


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[str, str | None]]:
    """Files that are written, changed in one line, or removed."""
    found = []
    for name in draw(st.lists(st.sampled_from([*FILES]), min_size=1, max_size=5)):
        text = draw(st.sampled_from(FILES[name]))
        if text in SOURCES and text and draw(st.booleans()):
            lines = text.splitlines(keepends=True)
            at = draw(st.integers(0, len(lines) - 1))
            lines[at : at + 1] = draw(st.sampled_from(([], [lines[at], "# another line\n"], [lines[at]] * 2)))
            text = "".join(lines)
        found.append((name, text))
    return found


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits())
def test_after_any_edit_warm_equals_cold(edits: list[tuple[str, str | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        (root / ".git").mkdir(parents=True)
        cache = Cache(Path(folder, FOLDER), None)
        write(root, [("p/a.py", USER), ("p/helper.py", HELPER), ("p/sub/b.py", OLD)])
        checked(root / "p", cache)
        for edit in edits:
            write(root, [edit])
            fresh()
            warm = checked(root / "p", cache)
            fresh()
            assert told(warm.files) == told(checked(root / "p", None).files)


def write(root: Path, files: Sequence[tuple[str, str | None]]) -> None:
    for name, text in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).unlink(missing_ok=True) if text is None else (root / name).write_text(text, "utf-8")
    settle()


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were looked at, and not remembered."""
    names: list[str] = []
    result = engine._result

    def noting(unit: Unit, **given: Any) -> Result:
        names.extend(path.name for path in unit.paths)
        return result(unit, **given)

    monkeypatch.setattr(engine, "_result", noting)
    return names


class TestAnEditAsksForWhatDependsOnIt:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "root" / ".git").mkdir(parents=True)
        write(tmp_path / "root", [("p/a.py", USER), ("p/helper.py", HELPER), ("p/c.py", OLD)])
        return tmp_path / "root"

    def again(self, root: Path, looked_at: list[str], mode: engine.Mode = engine.Mode.REPORT) -> list[str]:
        """Which files a second run looks at, after it has been compared to one without a cache."""
        cache = Cache(root.parent / FOLDER, None)
        fresh()
        looked_at.clear()
        found = checked(root / "p", cache, mode)
        names = [*looked_at]
        if mode is engine.Mode.REPORT:
            assert told(found.files) == told(checked(root / "p", None).files)
        return names

    def test_its_own_unit(self, root: Path, looked_at: list[str]) -> None:
        assert self.again(root, looked_at) == ["a.py", "helper.py", "c.py"]
        write(root, [("p/c.py", OLD + "# more\n")])
        assert self.again(root, looked_at) == ["c.py"]
        write(root, [("p/helper.py", HELPER + "# more\n")])
        assert self.again(root, looked_at) == ["a.py", "helper.py"]

    def test_nothing_where_only_the_time_is_another(self, root: Path, looked_at: list[str]) -> None:
        self.again(root, looked_at)
        for path in root.rglob("*.py"):
            os.utime(path, (1, 1))
        assert self.again(root, looked_at) == []

    def test_a_unit_that_finds_another_answer(self, root: Path, looked_at: list[str]) -> None:
        before = checked(root / "p", None)
        self.again(root, looked_at)
        write(root, [("tools/use.py", USER)])
        assert self.again(root, looked_at) == ["a.py", "helper.py"]
        fresh()
        assert told(checked(root / "p", None).files) != told(before.files)
        write(root, [("tools/other.py", "import torch\n")])
        assert self.again(root, looked_at) == []

    def test_a_package_that_appears_above_the_files(self, root: Path, looked_at: list[str]) -> None:
        write(root, [("p/c.py", APEX)])
        self.again(root, looked_at)
        write(root, [("apex/__init__.py", "")])
        assert self.again(root, looked_at) == ["c.py"]

    def test_settings(self, root: Path, looked_at: list[str]) -> None:
        self.again(root, looked_at)
        write(root, [("p/pyproject.toml", PINS)])
        assert self.again(root, looked_at) == ["a.py", "helper.py", "c.py"]

    def test_what_can_be_mended_where_it_is_to_be(self, root: Path, looked_at: list[str]) -> None:
        write(root, [("p/e.py", "import torch\nautocast = (\n")])
        self.again(root, looked_at)
        assert self.again(root, looked_at, engine.Mode.DIFF) == ["a.py", "helper.py", "c.py"]


def test_an_edit_that_keeps_size_and_time_is_seen(project: Path) -> None:
    cache = Cache(project.parent / FOLDER, None)
    assert told(checked(project, cache).files)
    status = (project / "a.py").stat()
    (project / "a.py").write_text("#" * len(OLD), "utf-8")
    os.utime(project / "a.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not told(checked(project, cache).files)


@pytest.mark.parametrize(
    "harm", [lambda b: b[:-5], lambda b: b"", lambda b: b"\0" + b, lambda b: b.replace(b"AMP101", b"AMP102")]
)
def test_a_damaged_cache_is_none(project: Path, harm: object) -> None:
    cache = Cache(project.parent / FOLDER, None)
    cold = checked(project, cache)
    file = cache.folder / "runs.json"
    file.write_bytes(harm(file.read_bytes()))  # type: ignore[operator]
    assert told(checked(project, cache).files) == told(cold.files)


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{}", b'{"runs": [], "units": 3}', b'{"runs": {"k": 1}, "units": {}}', b"[" * 100_000,
     b'{"runs": {"k": {"files": {}, "around": {}, "units": [[]]}}, "units": {}}'],
)  # fmt: skip
def test_a_cache_that_somebody_else_has_signed_is_none(project: Path, body: bytes) -> None:
    cache = Cache(project.parent / FOLDER, None)
    cold = checked(project, cache)
    (cache.folder / "runs.json").write_bytes(_head(body).encode() + b"\n" + body)
    assert told(checked(project, cache).files) == told(cold.files)


def test_the_rows_of_a_forged_cache_show_no_file_but_those_of_the_run(project: Path) -> None:
    cache = Cache(project.parent / FOLDER, None)
    cold = checked(project, cache)
    (project.parent / "secret.py").write_text(OLD, "utf-8")
    body = (cache.folder / "runs.json").read_bytes().partition(b"\n")[2].replace(b'p/a.py", 0', b'secret.py", 0')
    assert b"secret" in body
    (cache.folder / "runs.json").write_bytes(_head(body).encode() + b"\n" + body)
    assert told(checked(project, cache).files) == told(cold.files)


def test_what_a_killed_run_has_left_is_removed(project: Path) -> None:
    cache = Cache(project.parent / FOLDER, None)
    checked(project, cache)
    left = cache.folder / "runs.json_old.tmp"
    left.touch()
    os.utime(left, (1, 1))
    write(project, [("a.py", NEW)])
    checked(project, cache)
    assert {path.name for path in cache.folder.iterdir()} == {".gitignore", "runs.json"}


def test_fixes_are_applied_in_spite_of_a_cache(project: Path) -> None:
    cache = Cache(project.parent / FOLDER, None)
    checked(project, cache)
    checked(project, cache, engine.Mode.WRITE)
    assert (project / "a.py").read_text("utf-8") == NEW
    assert not told(checked(project, cache).files)


def test_runs_that_are_killed_and_run_at_once_leave_a_cache_that_can_be_read(project: Path) -> None:
    command = [sys.executable, "-m", "ampify", ".", "--cache-dir", str(project.parent / FOLDER), "-q"]
    environment = {k: v for k, v in os.environ.items() if k != "AMPIFY_NO_CACHE"} | {
        "PYTHONPATH": str(Path(__file__).parents[1])
    }
    runs = [subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE) for _ in range(3)]
    time.sleep(0.2)
    runs[0].send_signal(signal.SIGKILL)
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    again = subprocess.run(command, cwd=project, env=environment, capture_output=True, timeout=60, check=False)
    assert outputs[1] == outputs[2] == again.stdout != b""


def test_it_is_beside_the_configuration_and_never_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p" / "sub").mkdir(parents=True)
    (tmp_path / "p" / "pyproject.toml").touch()
    assert home(tmp_path / "p" / "sub") == tmp_path / "p" / FOLDER
    monkeypatch.setenv("HOME", str(tmp_path / "p"))
    assert home(tmp_path / "p" / "sub") is None


def test_it_ignores_itself_and_can_be_removed(project: Path) -> None:
    cache = Cache(project / FOLDER, None)
    checked(project, cache)
    assert (cache.folder / ".gitignore").read_text("utf-8").endswith("*\n")
    assert clean(cache.folder)
    assert not cache.folder.exists()
    assert not clean(cache.folder)
