"""What is kept between runs: never anything but what a run without a cache would say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ampify import engine
from ampify.cache import FOLDER, Cache, clean, home
from ampify.config import Lookup
from ampify.inspection import FileReport

OLD = "import torch\nwith torch.cuda.amp.autocast():\n    pass\n"
NEW = 'import torch\nwith torch.autocast(device_type="cuda"):\n    pass\n'
HELPER = "def fit(loss):\n    loss.backward()\n"
USER = "import torch\nfrom helper import fit\nfit(torch.ones(1))\n"
TEXTS = (OLD, NEW, HELPER, USER, "import torch\n", "import torch\nautocast = (\n", "")
FILES = ("a.py", "helper.py", "sub/b.py", "pyproject.toml", "requirements.txt")
CONFIGS = ("", '[tool.ampify]\nignore = ["AMP101"]\n', "torch<1.9\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text(OLD, "utf-8")
    settle()
    return tmp_path / "p"


def settle() -> None:
    time.sleep(0.03)  # longer than two writes can share one time


def told(reports: tuple[FileReport, ...]) -> list[object]:
    return [(d.path, d.span, d.code, d.message, d.notes, d.severity) for file in reports for d in file.diagnostics]


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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(FILES), st.sampled_from((*TEXTS, *CONFIGS, None))), min_size=1, max_size=4))
def test_after_any_edit_warm_equals_cold(edits: list[tuple[str, str | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "p")
        (project / "sub").mkdir(parents=True)
        (project / "a.py").write_text(OLD, "utf-8")
        (project / "helper.py").write_text(HELPER, "utf-8")
        settle()
        cache = Cache(Path(folder, FOLDER), None)
        for name, text in [("sub/b.py", USER), *edits]:
            if name.endswith(".py") and text in CONFIGS[1:]:
                continue
            if name.endswith(".toml") and text is not None and text != CONFIGS[1]:
                continue
            (project / name).unlink(missing_ok=True) if text is None else (project / name).write_text(text, "utf-8")
            settle()
            fresh()
            warm = checked(project, cache)
            fresh()
            assert told(warm.files) == told(checked(project, None).files)


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
