"""Several processes say and write what one does, whatever becomes of them."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ampify import engine, jobs
from ampify.cli.output import renderer
from ampify.config import Lookup
from ampify.jobs import _shares, spread

FIXTURES = Path(__file__).parents[1] / "fixtures"
TREES = ("apex", "notebooks", "markdown", "projects/reexport", "projects/notebook_caller", "projects/trainer_file")
METHODS = multiprocessing.get_all_start_methods()
HOME = os.getpid()


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each way to start a process; there is no run that is too small for several."""
    monkeypatch.setattr(jobs, "WORTH", 0)
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


def square(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def failing(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def dying(number: int, home: int) -> int:
    if number == 3 and os.getpid() != home:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleeping(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_results_come_in_the_order_of_the_tasks_and_from_elsewhere(method: str) -> None:
    with spread(square, range(20), [1 + index % 7 for index in range(20)], 3) as results:
        found = list(results)
    assert [result for result, _ in found] == [number**2 for number in range(20)]
    assert os.getpid() not in {process for _, process in found}
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("sizes", "jobs"), [([10, 10, 10], 2), ([1_000_000], 2), ([1_000_000] * 3, 1), ([], 2)])
def test_little_work_starts_no_process(sizes: list[int], jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "Process", lambda *_, **__: pytest.fail("a process is started"))
    with spread(square, range(len(sizes)), sizes, jobs) as results:
        assert [process for _, process in results] == [os.getpid()] * len(sizes)


def test_shares_are_of_about_the_same_size_and_the_largest_comes_first() -> None:
    sizes = [1, 500, 2, 40, 3, 300] + [1] * 100
    shares = _shares(sizes, 2)
    assert sorted(index for share in shares for index in share) == list(range(len(sizes)))
    assert shares[:2] == [[1], [5]]
    assert len(shares) < 10


def test_what_is_raised_there_is_raised_here(method: str) -> None:
    with spread(failing, range(6), [1] * 6, 2) as results, pytest.raises(ValueError, match="three"):
        list(results)
    assert not multiprocessing.active_children()


def test_the_work_of_a_process_that_dies_is_done_all_the_same(method: str) -> None:
    with spread(partial(dying, home=HOME), range(12), [1] * 12, 2) as results:
        assert list(results) == list(range(12))


def first(seconds: list[float]) -> None:
    """Take the first of some results, and be interrupted."""
    with spread(sleeping, seconds, [1] * len(seconds), 3) as results:
        next(results)
        raise KeyboardInterrupt


def test_who_gives_up_waits_for_nobody(method: str) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        first([0, 60, 60])
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


def test_no_process_outlives_one_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\n"
        "from ampify import jobs\n"
        "jobs.WORTH = 0\n"
        "def work(seconds):\n"
        "    os.write(1, f'{os.getpid()}\\n'.encode())\n"  # a line at once: two processes write
        "    time.sleep(seconds)\n"
        "if __name__ == '__main__':\n"
        "    with jobs.spread(work, [0.5] * 40, [1] * 40, 2) as results:\n"
        "        list(results)\n",
        "utf-8",
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        workers = {int(process.stdout.readline()) for _ in range(2)}
        process.kill()
        deadline = time.monotonic() + 30
        while (left := {each for each in workers if Path("/proc", str(each)).exists()}) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert not left


def everything(report: engine.Report, folder: Path) -> str:
    """What a run says, in two formats, with the names of files as seen from its folder."""
    said = io.StringIO()
    for form in ("text", "json", "diff"):
        renderer(form)(report, said)
    return "\n".join([said.getvalue(), *report.errors, f"{report.checked} {report.status}"]).replace(str(folder), "")


def ran(folder: Path, processes: int, mode: engine.Mode) -> tuple[str, dict[str, bytes]]:
    """What a run on the fixtures says, and what they are afterwards; two processes inherit nothing."""
    multiprocessing.set_start_method("spawn" if processes == 2 else None, force=True)
    for tree in TREES:
        shutil.copytree(FIXTURES / tree, folder / tree)
    (folder / "broken.py").write_bytes(b"import torch\ntorch.cuda.amp.autocast(\n")
    (folder / "odd.py").write_bytes(b"# coding: nothing\nimport torch.cuda.amp.autocast")
    report = engine.check([folder], engine.Run(Lookup(), mode, jobs=processes))
    after = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return everything(report, folder), after


@pytest.mark.parametrize("mode", engine.Mode)
def test_what_is_told_and_written_does_not_depend_on_the_processes(
    mode: engine.Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "WORTH", 0)
    one, two, three = (ran(tmp_path / str(number), number, mode) for number in (1, 2, 3))
    assert "AMP1" in one[0]
    assert one == two == three


def test_an_interrupted_run_has_written_nothing(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("import torch\nwith torch.cuda.amp.autocast():\n    pass\n", "utf-8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(found: object) -> Iterator[Path]:
        yield tmp_path / "a.py"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.check([tmp_path], engine.Run(Lookup(), engine.Mode.WRITE), interrupted)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
