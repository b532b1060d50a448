"""One arm: everything is put in place, the script runs as `__main__`, and how it ended is written down."""

from __future__ import annotations

import atexit
import faulthandler
import importlib
import os
import platform
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Callable, NoReturn

from . import overlay, world
from .attempts import Stop
from .job import Job

_WORKER = os.path.dirname(__file__)
_MARGIN = 3.0
"""Seconds before the limit at which the stacks are written; a fifth of shorter limits."""
_OLDEST = (2, 3)
_FAREWELL = 10.0
"""Seconds that the script's clean-up may take."""

_INSTALLS: list[tuple[str, Callable[[Job], bool]]] = [
    ("world", lambda job: True),
    ("overlay", lambda job: True),
    ("spawned", lambda job: True),
    ("seeds", lambda job: True),
    ("fake_cuda", lambda job: job.fake_cuda),
    ("synthetic", lambda job: job.synthetic_data),
    ("autocasts", lambda job: True),
    ("scalers", lambda job: True),
    ("optimizers", lambda job: job.record),
    ("values", lambda job: job.record),
    ("clipping", lambda job: job.record),
    ("schedulers", lambda job: job.record),
    ("compiled", lambda job: job.record),
    ("masks", lambda job: job.masks),
    ("timing", lambda job: job.bench is not None),
]
"""In this order: modules of the worker with an `install(job, recorder)`, and when they are needed."""


def main(path: str) -> NoReturn:
    """Run the job written at ``path`` and end this process, with the script's exit status."""
    job = Job.load(path)
    _expect_the_end(job)
    try:
        arm = _prepare(job)
    except BaseException:  # noqa: BLE001 - nothing of the script has run: the failure is ours or the interpreter's
        Path(job.file("failed", ".txt")).write_text(traceback.format_exc(), "utf-8")
        os._exit(1)
    arm.run()


def _prepare(job: Job) -> _Arm:
    world.prepare(job)
    torch = importlib.import_module("torch")  # only now: the environment had to be set before
    if tuple(map(int, torch.__version__.split(".")[:2])) < _OLDEST:
        raise RuntimeError(f"torch {torch.__version__} is older than {_OLDEST[0]}.{_OLDEST[1]}")
    recorder = _module("recorder").Recorder(job)
    for name, wanted in _INSTALLS:
        if wanted(job):
            _module(name).install(job, recorder)
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    python = platform.python_version()
    recorder.emit("start", torch=torch.__version__, python=python, cuda=cuda, pid=os.getpid(), rank=job.rank)
    return _Arm(job, recorder)


def _module(name: str) -> Any:
    """A module of the worker, imported only where the job needs it: some cost time, some change torch."""
    return importlib.import_module(f".{name}", __package__)


def _expect_the_end(job: Job) -> None:
    """Write where every thread stands, shortly before the limit."""
    stacks = open(job.file("stacks", ".txt"), "w")  # noqa: SIM115 - lives as long as the process
    faulthandler.dump_traceback_later(job.timeout - min(_MARGIN, job.timeout / 5), file=stacks)


class _Arm:
    """The script from its first line until the process has gone."""

    def __init__(self, job: Job, recorder: Any) -> None:
        self._job, self._recorder = job, recorder
        self._pid, self._leave, self._modes = os.getpid(), os._exit, ExitStack()
        self._ending = threading.RLock()
        recorder.hard_stop = self._end
        recorder.on_stop = self._say_farewell
        os._exit = self._script_leaves

    def run(self) -> NoReturn:
        """Run the script; every way out of it ends here."""
        status, code, error = "completed", 0, None
        try:
            self._enter_modes()
            overlay.execute(self._job)
        except Stop:
            self._recorder.stopped = True
        except SystemExit as exit_:
            status, code = "exit", _exit_status(exit_)
        except BaseException as raised:  # noqa: BLE001 - also what stops the run
            status, code, error = "error", 1, _describe(raised, self._job)
        self._finish(status, code, error)

    def _enter_modes(self) -> None:
        if self._job.rounding is not None:
            self._modes.enter_context(_module("rounding").mode(self._job))
        if self._job.count:
            self._modes.enter_context(_module("operations").mode(self._job, self._recorder))

    def _finish(self, status: str, code: int, error: dict[str, Any] | None) -> NoReturn:
        """As Python ends: what was raised is shown, threads are waited for, exit handlers run (for a while only)."""
        if not self._recorder.stopped:
            sys.stderr.write(error["traceback"] if error else "")
            threading._shutdown()  # type: ignore[attr-defined]  # the script may train in a thread
        self._recorder.over = True
        self._say_farewell(status, code, error)
        with suppress(BaseException):
            atexit._run_exitfuncs()
        self._end(status, code, error)

    def _say_farewell(self, *end: Any) -> None:
        """From now on the script has a few seconds: clean-up may hang when there is nothing left to clean up after."""
        timer = threading.Timer(_FAREWELL, self._end, end)
        timer.daemon = True
        timer.start()

    def _end(self, status: str = "stopped", code: int = 0, error: dict[str, Any] | None = None) -> NoReturn:
        with self._ending:
            if self._recorder.stopped:
                status, code, error = "stopped", 0, None
            with suppress(Exception):
                self._modes.close()
            self._recorder.finish(status, code, error)
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            self._leave(code)

    def _script_leaves(self, status: int) -> NoReturn:
        """What `os._exit` does in the script, and in the processes that it forks."""
        if os.getpid() == self._pid:
            self._end("os._exit", status)
        self._leave(status)


def _exit_status(exit_: SystemExit) -> int:
    """As Python understands what `sys.exit` was called with."""
    if exit_.code is None or isinstance(exit_.code, int):
        return (exit_.code or 0) & 255
    sys.stderr.write(f"{exit_.code}\n")
    return 1


def _describe(error: BaseException, job: Job) -> dict[str, Any]:
    shown = traceback.TracebackException.from_exception(error)
    for each in _chain(shown):
        foreign = [frame for frame in each.stack if not frame.filename.startswith(_WORKER)]
        own = [frame for frame in foreign if job.owns(frame.filename)]
        each.stack = traceback.StackSummary.from_list(own or foreign)
    return {
        "type": type(error).__qualname__,
        "message": str(error),
        "traceback": "".join(shown.format()),
        "at": _place(error, job),
    }


def _chain(shown: traceback.TracebackException | None) -> Iterator[traceback.TracebackException]:
    while shown is not None:
        yield shown
        shown = shown.__cause__ or shown.__context__


def _place(error: BaseException, job: Job) -> list[Any] | None:
    """File and line of the innermost frame in the project; of a syntax error the line that it is about."""
    if isinstance(error, SyntaxError) and error.filename is not None and job.owns(error.filename):
        return [os.path.realpath(error.filename), error.lineno]
    frames = traceback.extract_tb(error.__traceback__)
    own = [[os.path.realpath(frame.filename), frame.lineno] for frame in frames if job.owns(frame.filename)]
    return own[-1] if own else None
