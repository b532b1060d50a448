"""The processes in which scripts run: starts the worker in the user's interpreter, asks it for runs, and ends it."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ampify.verify.job import Job
from ampify.verify.record import Outcome, read

_START = Path(__file__).with_name("worker") / "start.py"
_HEAD, _TAIL = 16_384, 65_536
_GRACE = 10.0
"""Seconds in which the worker must have ended after it was told to."""


class WorkerFailed(RuntimeError):
    """The interpreter cannot run any script for us; the message is its own."""


class Printed:
    """What a script printed: the first 16 KB and the last 64 KB."""

    def __init__(self) -> None:
        self._head, self._tail, self._dropped = bytearray(), bytearray(), 0

    def add(self, text: bytes) -> None:
        room = _HEAD - len(self._head)
        self._head += text[:room]
        self._tail += text[room:] if room < len(text) else b""
        if (over := len(self._tail) - _TAIL) > 0:
            del self._tail[:over]
            self._dropped += over

    def __str__(self) -> str:
        gap = f"\n... {self._dropped} bytes ...\n".encode() if self._dropped else b""
        return bytes(self._head + gap + self._tail).decode("utf-8", "replace")


class Workers:
    """One interpreter with torch in it, from which each run is forked; a fresh interpreter where that is not possible.

    `with Workers(python) as workers: outcome = workers.run(job)`, the job's `out` from `workers.arm(name)`. Runs one
    job at a time. On leaving, also by Ctrl-C, every process has ended and the scratch folder is gone.
    """

    def __init__(
        self,
        python: str = sys.executable,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        launch: Sequence[str] = (),
    ) -> None:
        self._python, self._cwd, self._launch = python, cwd, tuple(launch)
        self._env = {**os.environ, **(env or {}), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        self._server: subprocess.Popen[bytes] | None = None
        self._arms = 0

    def __enter__(self) -> Workers:
        if os.name != "posix":
            raise WorkerFailed("scripts are run on Linux and macOS only")
        self.scratch = Path(tempfile.mkdtemp(prefix="ampify-")).resolve()
        self._env["TMPDIR"] = str(self.scratch)  # torch makes folders there when it is imported
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop()
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def arm(self, name: str) -> Path:
        """A new empty folder for one run."""
        self._arms += 1
        folder = self.scratch / f"{self._arms}-{name}"
        folder.mkdir()
        return folder

    def run(self, job: Job) -> Outcome:
        """Run the job's script once; raises WorkerFailed where the interpreter cannot, as without torch."""
        path = job.out / "job.json"
        job.dump(path)
        printed = Printed()
        answer = self._ask({"job": str(path), "command": self._command(path)}, printed)
        for made in ("files", "gone", "tmp"):  # checkpoints of many arms would fill the disk
            shutil.rmtree(job.out / made, ignore_errors=True)
        if failed := _texts(job.out, "failed"):
            raise WorkerFailed(failed)
        ended, code, seconds = answer["ended"], answer["code"], answer["seconds"]
        stacks = _texts(job.out, "stacks")
        return Outcome(read(job.out), ended, code, seconds, str(printed), stacks, tuple(answer["left"]))

    def compare(self, spec: Path) -> Any:
        """What `worker/keep.py` says of two saved tensors; raises WorkerFailed with its error."""
        if sys.platform == "linux":
            into, printed = spec.with_suffix(".found"), Printed()
            answer = self._ask({"compare": str(spec), "into": str(into)}, printed)
            if answer["ended"] != "exit" or answer["code"]:
                raise WorkerFailed(str(printed))
            return json.loads(into.read_text("utf-8"))
        command = [self._python, str(_START), "compare", str(spec)]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkerFailed(done.stderr)
        return json.loads(done.stdout)

    def _command(self, job: Path) -> list[str] | None:
        """None: fork. Other systems than Linux do not fork reliably once libraries are loaded."""
        if self._launch:
            return [*self._launch, str(_START), "run", str(job)]
        return None if sys.platform == "linux" else [self._python, str(_START), "run", str(job)]

    def _ask(self, request: Mapping[str, Any], printed: Printed) -> dict[str, Any]:
        server = self._running()
        assert server.stdin is not None
        try:
            server.stdin.write(json.dumps(request).encode() + b"\n")
            server.stdin.flush()
            answer: dict[str, Any] = json.loads(b"".join(_answer(server, printed)))
        except (BrokenPipeError, ValueError):
            self._stop()
            raise WorkerFailed(str(printed)) from None
        if "failed" in answer:
            raise WorkerFailed(answer["failed"])
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._server is None:
            try:
                self._server = subprocess.Popen(
                    [self._python, str(_START), "serve", str(self.scratch)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=self._cwd,
                    env=self._env,
                    start_new_session=True,  # Ctrl-C is for the host, which then ends the worker
                    bufsize=0,
                )
            except OSError as error:
                raise WorkerFailed(f"{self._python}: {error.strerror}") from error
            for pipe in _pipes(self._server):
                os.set_blocking(pipe.fileno(), False)
        return self._server

    def _stop(self) -> None:
        """Close the worker's pipe: it ends what runs, and itself."""
        server, self._server = self._server, None
        if server is None:
            return
        assert server.stdin is not None
        server.stdin.close()
        try:
            server.wait(_GRACE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        for pipe in _pipes(server):
            pipe.close()


def _texts(folder: Path, stem: str) -> str:
    """What each rank wrote into its file of this name."""
    return "\n".join(path.read_text("utf-8", "replace") for path in sorted(folder.glob(f"{stem}*.txt")))


def _pipes(server: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """Its answers, and what it and the scripts print."""
    assert server.stdout is not None
    assert server.stderr is not None
    return server.stdout, server.stderr


def _answer(server: subprocess.Popen[bytes], printed: Printed) -> Iterator[bytes]:
    """The parts of one answer; meanwhile, and once after it, what was printed is taken from the pipe."""
    answers, prints = _pipes(server)
    part = b""
    while not part.endswith(b"\n"):
        ready, _, _ = select.select([answers, prints], [], [])
        _drain(prints, printed)
        if answers in ready:
            part = answers.read(65536) or b""
            if not part:
                return
            yield part
    _drain(prints, printed)


def _drain(prints: IO[bytes], printed: Printed) -> None:
    while text := prints.read(1 << 20):
        printed.add(text)
