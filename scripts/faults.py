"""What is lost when `--fix` is disturbed: ``faults.py [--seed N] [--tries K] [--only FAULT]`` prints a table.

A small tree of copies of our fixtures is mended again and again, each time with one fault; afterwards every file must
hold its old or its new text. Runs are forks of this process. Linux only; the full disk needs leave to mount a tmpfs.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from ampify.cli import main

FIXTURES = Path(__file__).parents[1] / "fixtures"
LOOPS = ("c01_typical.py",)
PROJECTS = ("three_files_down",)
MINE = b"# somebody else was here\n"
PAGE = 4096
Tree = dict[str, bytes]
Hook = Callable[[], None]


@dataclass
class Row:
    """What came of one fault. ``lost`` counts files that are neither old nor new, or an edit that is gone."""

    fault: str
    tries: int = 0
    disturbed: int = 0
    lost: int = 0
    mixed: int = 0
    unfinished: int = 0
    left: int = 0
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        cells = (self.fault, self.tries, self.disturbed, self.lost, self.mixed, self.unfinished, self.left)
        return "| " + " | ".join(map(str, cells)) + " |"


@dataclass(frozen=True)
class Bench:
    """The tree before and after, and where it is made again for each try."""

    old: Tree
    new: Tree
    folder: Path
    seconds: float

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def lay(self) -> None:
        shutil.rmtree(self.tree, ignore_errors=True)
        for name, raw in self.old.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)

    def judge(self, row: Row, *, edited: str = "") -> None:
        """Count what is lost, what is half done, and what a next run does not finish or sweep away."""
        held = holds(self.tree)
        rests = [name for name in held if ".ampify-" in name]
        files = self.old.keys() - {edited}
        row.tries += 1
        row.lost += sum(held.get(name) not in (self.old[name], self.new[name]) for name in files)
        row.mixed += any(self.half(held, project) for project in PROJECTS)
        for name in rests:  # as if the next run came two minutes later
            os.utime(self.tree / name, (time.time() - 120,) * 2)
        self.finished(fork(["--fix", "--no-cache", str(self.tree)]))
        held = holds(self.tree)
        row.unfinished += any(held.get(name) != self.new[name] for name in files)
        row.left += any(".ampify-" in name for name in held)

    def half(self, held: Tree, project: str) -> bool:
        changed = [name for name in self.old if name.startswith(project) and self.old[name] != self.new[name]]
        return len({held.get(name) == self.new[name] for name in changed}) == 2

    def finished(self, child: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    @property
    def said(self) -> str:
        return SAID.read_text("utf-8", "replace")


SAID = Path(tempfile.gettempdir()) / f"ampify-faults-{os.getpid()}.txt"


def holds(folder: Path) -> Tree:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def fork(arguments: list[str], hook: Hook = lambda: None) -> int:
    """A run of ampify in a process of its own; what it says goes into `SAID`."""
    if child := os.fork():
        return child
    with SAID.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    status = 70
    try:
        hook()
        main.main(arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(status)


def on_call(name: str, number: int, act: Hook, place: ModuleType = os) -> Hook:
    """A hook that acts just before one call of a function of a module."""

    def hook() -> None:
        calls, real = iter(range(1, sys.maxsize)), getattr(place, name)

        def called(*arguments: object, **options: object) -> object:
            if next(calls) == number:
                act()
            return real(*arguments, **options)

        setattr(place, name, called)

    return hook


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def bench(folder: Path) -> Bench:
    old = {name: (FIXTURES / "loops" / name).read_bytes() for name in LOOPS}
    for project in PROJECTS:
        before = FIXTURES / "projects" / project / "before"
        old |= {f"{project}/{name}": raw for name, raw in holds(before).items()}
    warm = Bench(old, old, folder / "warm", 0)
    warm.lay()
    with suppress(SystemExit), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        main.main(["--no-cache", "--diff", str(warm.tree)])  # so that the forks need not import everything again
    shutil.rmtree(warm.folder)
    made = Bench(old, old, folder, 0)
    made.lay()
    began = time.perf_counter()
    made.finished(fork(["--fix", "--no-cache", str(made.tree)]))
    return Bench(old, holds(made.tree), folder, time.perf_counter() - began)


# ---------------------------------------------------------------------- the faults


def killed(at: Bench, rng: random.Random, tries: int) -> Row:
    row = Row("`kill -9` at a random moment")
    for _ in range(tries):
        at.lay()
        child = fork(["--fix", "--no-cache", str(at.tree)])
        time.sleep(rng.uniform(0, at.seconds * 1.1))
        os.kill(child, signal.SIGKILL)
        row.disturbed += at.finished(child) == -signal.SIGKILL
        at.judge(row)
    return row


def killed_writing(at: Bench, rng: random.Random, tries: int) -> Row:
    """Before each call that a write is made of."""
    row = Row("`kill -9` before each `fsync`, `chown`, `flock`, `replace` and `unlink` of a write")
    for place, name in CALLS:
        for number in range(1, sys.maxsize):
            at.lay()
            status = at.finished(fork(["--fix", "--no-cache", str(at.tree)], on_call(name, number, die, place)))
            if status != -signal.SIGKILL:
                break
            row.disturbed += 1
            at.judge(row)
    return row


def killed_finishing(at: Bench, rng: random.Random, tries: int) -> Row:
    """Between two renames of a project, and again before each call of the run that is to finish it."""
    row = Row("the same in the run after a `kill -9` between two renames")
    renames = sum(at.old[name] != at.new[name] for name in at.old)
    for place, name in CALLS:
        for number in range(1, sys.maxsize):
            at.lay()
            at.finished(fork(["--fix", "--no-cache", str(at.tree)], on_call("replace", renames - 1, die)))
            status = at.finished(fork(["--fix", "--no-cache", str(at.tree)], on_call(name, number, die, place)))
            if status != -signal.SIGKILL:
                break
            row.disturbed += 1
            at.judge(row)
    return row


CALLS = ((os, "fsync"), (os, "chown"), (fcntl, "flock"), (os, "replace"), (os, "unlink"))
"""What a write does to the disk."""


def full(at: Bench, rng: random.Random, tries: int) -> Row:
    row = Row("disk full (a tmpfs)")
    size = sum(-(-len(raw) // PAGE) * PAGE for raw in at.old.values())
    for number in range(tries):
        at.lay()
        with disk(at.tree, size + (number % 8) * PAGE) as mounted:
            if not mounted:
                row.remarks.append("not run: a tmpfs could not be mounted")
                return row
            status = at.finished(fork(["--fix", "--no-cache", str(at.tree)]))
            row.disturbed += status == 2 and "No space left on device" in at.said
            subprocess.run(["mount", "-o", "remount,size=16m", str(at.tree)], check=True)
            at.judge(row)
    return row


@contextmanager
def disk(folder: Path, size: int) -> Iterator[bool]:
    """The folder with what it holds on a file system with room for ``size`` bytes; pages of folders come on top."""
    held = holds(folder)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "ampify-faults", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        for name, raw in held.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(raw)
        yield True
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def read_only(at: Bench, rng: random.Random, tries: int) -> Row:
    row = Row("a file is read-only")
    changing = sorted(name for name in at.old if at.old[name] != at.new[name])
    for number in range(tries):
        at.lay()
        file = at.tree / (name := changing[number % len(changing)])
        file.chmod(0o444)
        status = at.finished(fork(["--fix", "--no-cache", str(at.tree)]))
        row.disturbed += status == 2 and f"{name}: is read-only" in at.said
        row.lost += file.read_bytes() != at.old[name]
        file.chmod(0o644)
        at.judge(row)
    return row


def changed(at: Bench, rng: random.Random, tries: int) -> Row:
    row = Row("a file is changed between read and write")
    changing = sorted(name for name in at.old if at.old[name] != at.new[name])
    for _ in range(tries):
        at.lay()
        file = at.tree / (name := rng.choice(changing))

        def meddle(file: Path = file) -> None:
            with file.open("ab") as out:
                out.write(MINE)

        hook = on_call("fsync", rng.randint(1, len(changing)), meddle)
        at.finished(fork(["--fix", "--no-cache", str(at.tree)], hook))
        row.disturbed += f"{name}: was changed by another program meanwhile" in at.said
        row.lost += not file.read_bytes().endswith(MINE)
        at.judge(row, edited=name)
        row.lost += not file.read_bytes().endswith(MINE)
    return row


def twice(at: Bench, rng: random.Random, tries: int) -> Row:
    row = Row("two processes on one tree")
    for _ in range(tries):
        at.lay()
        first = fork(["--fix", "--no-cache", str(at.tree)])
        time.sleep(rng.choice([0.0, rng.uniform(0, at.seconds)]))
        second = fork(["--fix", "--no-cache", str(at.tree)])
        row.disturbed += max(at.finished(first), at.finished(second)) == 2
        at.judge(row)
    return row


def corrupted(at: Bench, rng: random.Random, tries: int) -> Row:
    """The report must be that of a run without a cache."""
    row, cache = Row("a corrupted cache"), at.folder / "cache"
    at.lay()
    at.finished(fork(["--no-cache", str(at.tree)]))
    wanted = at.said
    for _ in range(tries):
        shutil.rmtree(cache, ignore_errors=True)
        at.finished(fork(["--cache-dir", str(cache), str(at.tree)]))
        kept = [path for path in sorted(cache.rglob("*")) if path.is_file()]
        row.disturbed += bool(kept)
        for path in kept:
            path.write_bytes(spoilt(rng, path.read_bytes()))
        at.finished(fork(["--cache-dir", str(cache), str(at.tree)]))
        row.lost += at.said != wanted
        at.judge(row)
        at.lay()
    return row


def spoilt(rng: random.Random, raw: bytes) -> bytes:
    place = rng.randrange(len(raw) + 1)
    return rng.choice([b"", raw[:place], raw[:place] + rng.randbytes(9) + raw[place + 9 :], rng.randbytes(200)])


FAULTS = (killed, killed_writing, killed_finishing, full, read_only, changed, twice, corrupted)
SHARES = {killed: 5}
"""How often beside the others a fault is tried; its moments are the most."""


def table(seed: int, tries: int, only: str) -> int:
    print("| fault | tries | took effect | losses | projects half done | not finished by the next run | rests |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    lost = 0
    with tempfile.TemporaryDirectory(prefix="ampify-faults-") as folder:
        at = bench(Path(folder))
        for fault in (each for each in FAULTS if only in ("", each.__name__)):
            row = fault(at, random.Random(f"{seed} {fault.__name__}"), tries * SHARES.get(fault, 1))
            print(row, *row.remarks, flush=True)
            lost += row.lost
    with suppress(FileNotFoundError):
        SAID.unlink()
    return int(lost > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tries", type=int, default=20, help="of each fault, five times as many random kills")
    parser.add_argument("--only", choices=[each.__name__ for each in FAULTS], default="")
    given = parser.parse_args()
    sys.exit(table(given.seed, given.tries, given.only))
