"""Scripts that hang, die, fork, hide or destroy themselves: one clear verdict each, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ampify.verify.ladder import climb
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.verdict import Verdict
from ampify.verify.workers import Workers

MARK = "AMPIFY_TEST_HOSTILE"

HEAD = """\
import os
import sys
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = nn.Linear(4, 2).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(torch.randn(64, 4), torch.randn(64, 2)), batch_size=4)
"""

LOOP = """\
for number, (x, y) in enumerate(loader):
    x, y = x.to(device), y.to(device)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
"""


def indented(text: str) -> str:
    return "".join(f"    {line}" for line in text.splitlines(keepends=True))


@dataclass(frozen=True)
class Hostile:
    """A script, the word it gets, and what the report has to say about it (in this order, anywhere)."""

    name: str
    text: str
    word: str
    says: tuple[str, ...] = ()
    timeout: float = 60.0


BROKEN_WORKER = """\
class Broken(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        if index >= 16:
            os._exit(7)
        return torch.randn(4), torch.randn(2)


loader = DataLoader(Broken(), batch_size=4, num_workers=1)
"""

DAEMON = """\
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
"""

ENDS_LIKE_THE_OTHERS = "PLUMBING-EQUIVALENT"

HOSTILE = [
    Hostile("waits for ever before the first step", HEAD + "while True:\n    time.sleep(0.01)\n" + LOOP,
            "CANNOT RUN", ("before", "step", "time.sleep(0.01)"), timeout=4.0),
    Hostile("leaves by os._exit before the first step", HEAD + "os._exit(0)\n" + LOOP, "CANNOT RUN", ("step",)),
    Hostile("leaves by sys.exit before the first step", HEAD + "sys.exit(3)\n" + LOOP, "CANNOT RUN", ("3",)),
    Hostile("leaves by os._exit after three steps", HEAD + LOOP + "    if number == 2:\n        os._exit(0)\n",
            ENDS_LIKE_THE_OTHERS, ("3",)),
    Hostile("raises before the first step", HEAD + "raise ValueError('no data here')\n" + LOOP,
            "CANNOT RUN", ("raise ValueError('no data here')", "no data here")),
    Hostile("is killed", HEAD + LOOP + "    if number == 2:\n        os.kill(os.getpid(), 9)\n",
            "CANNOT RUN", ("SIGKILL",)),
    Hostile("loses a DataLoader worker", HEAD + BROKEN_WORKER + LOOP, "CANNOT RUN", ("DataLoader worker",)),
    Hostile("leaves a daemon behind", HEAD + DAEMON + LOOP, ENDS_LIKE_THE_OTHERS),
    Hostile("fills its output", HEAD + "for _ in range(2000):\n    print('x' * 100000)\n" + LOOP, ENDS_LIKE_THE_OTHERS),
    Hostile("changes directory", HEAD + "os.makedirs('deep/er')\nos.chdir('deep/er')\n" + LOOP, ENDS_LIKE_THE_OTHERS),
    Hostile("deletes its own file", HEAD + "os.remove(__file__)\n" + LOOP, ENDS_LIKE_THE_OTHERS),
    Hostile("catches BaseException", HEAD + "try:\n" + indented(LOOP) + "except BaseException:\n    pass\n",
            ENDS_LIKE_THE_OTHERS),
    Hostile("catches BaseException at every step",
            HEAD + "while True:\n    try:\n" + indented(indented(LOOP)) + "    except:\n        continue\n",
            ENDS_LIKE_THE_OTHERS),
    Hostile("waits for ever at its end", HEAD + LOOP + "while True:\n    time.sleep(0.01)\n", ENDS_LIKE_THE_OTHERS),
    Hostile("writes a file for each step", HEAD + LOOP + "    torch.save(model.state_dict(), f'{number}.pt')\n",
            ENDS_LIKE_THE_OTHERS),
    Hostile("cannot be parsed", "import torch\nfor (\n", "CANNOT RUN", ("SyntaxError",)),
    Hostile("imports what is not there", "import torch\nimport not_installed_anywhere\n" + HEAD + LOOP,
            "CANNOT RUN", ("not_installed_anywhere",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """One interpreter for all of them; when it is closed, no process and no temporary file is left."""
    temporary = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(tempfile, "tempdir", None)
        with Workers(env={MARK: str(temporary), "OMP_NUM_THREADS": "1"}) as opened:
            yield opened
    assert list(temporary.iterdir()) == []
    assert marked_processes() == {}


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder for a script; afterwards nothing else is in it, and only the interpreter itself still runs."""
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]
    assert set(marked_processes().values()) == {os.getpid()}


def marked_processes() -> dict[int, int]:
    """The processes that were started with the mark in their environment, and the parent of each."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{MARK}=".encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = int((entry / "stat").read_text("utf-8").rpartition(")")[2].split()[1])
    return found


def everything_said(verdict: Verdict) -> str:
    parts = [verdict.reason, verdict.details, *verdict.notes, *(level.summary for level in verdict.levels)]
    return "\n".join((*parts, *(difference.message for level in verdict.levels for difference in level.differences)))


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_a_hostile_script_gets_one_clear_verdict(case: Hostile, scratch: Path, workers: Workers) -> None:
    script = scratch / "train.py"
    script.write_text(case.text, "utf-8")
    verdict = climb(Request(script=script, cwd=scratch, timeout=case.timeout, device="cpu"), workers=workers)
    said = everything_said(verdict)
    assert verdict.word == case.word, said
    assert all(words in said for words in case.says), said
    assert script.read_text("utf-8") == case.text


def test_a_conversion_that_hangs_is_not_the_same_program(scratch: Path, workers: Workers) -> None:
    script = scratch / "train.py"
    script.write_text(HEAD + LOOP, "utf-8")
    hangs = HEAD + "while True:\n    time.sleep(0.01)\n" + LOOP
    sources = Sources({script: HEAD + LOOP}, {script: hangs}, "given")
    verdict = climb(Request(script=script, cwd=scratch, timeout=8.0, device="cpu"), sources, workers)
    assert verdict.word == "NOT EQUIVALENT", everything_said(verdict)
    assert verdict.first is not None
    assert verdict.first.channel == "raises"
