"""Starts one process per arm, by fork after torch was imported once, and ends all of its processes; runs no script."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from contextlib import suppress
from typing import Any, Callable

from . import files, run
from .job import Job

_DEATH_SIGNAL, _SUBREAPER = 1, 36  # of linux/prctl.h
_GRACE = 0.5
"""Seconds in which what the script started may end after the script did: helper processes of multiprocessing do."""
_COMPARISON = 600.0
"""Seconds that the comparison of kept tensors may take."""


class HostGone(Exception):
    """Nobody waits for the answer any more."""


class Host:
    """The pipe over which the host asks, one JSON line a request, and whose end says that the host is gone."""

    def __init__(self) -> None:
        self._text = b""

    def listen(self) -> None:
        """Take what has come; raises HostGone at the end of the pipe."""
        read = os.read(0, 65536)
        if not read:
            raise HostGone
        self._text += read

    def request(self) -> dict[str, Any]:
        """The next request, as soon as there is one."""
        while b"\n" not in self._text:
            self.listen()
        line, _, self._text = self._text.partition(b"\n")
        request: dict[str, Any] = json.loads(line)
        return request


def serve(scratch: str) -> None:
    """Answer the host's requests until it closes the pipe; then remove the scratch folder, which a killed host cannot.

    A request is `{"job": path of a job}`, which is run in a fork of this process, or `{"job": path, "command":
    [...]}`, which is run as it stands, or `{"compare": path of a spec, "into": path}`, for what `keep.compare` finds.
    The answer, one JSON line, is `{"ended": "exit"|"signal"|"timeout", "code": int, "seconds": float, "left": [command
    of a process that had to be ended]}`, or `{"failed": text}`.
    """
    replies = os.dup(1)
    os.dup2(2, 1)
    _prctl(_SUBREAPER, 1)
    wake = _wake_on_death()
    host = Host()
    try:
        while True:
            request = host.request()
            answer = (_comparison if "compare" in request else _arm)(host, wake, **request)
            os.write(replies, json.dumps(answer).encode() + b"\n")
    except HostGone:
        shutil.rmtree(scratch, ignore_errors=True)


def _arm(host: Host, wake: int, job: str, command: list[str] | None = None) -> dict[str, Any]:
    def arm() -> None:
        if command is None:
            run.main(job)
        os.execvp(command[0], command)

    return _forked(host, wake, arm, Job.load(job).timeout, warm=command is None)


def _comparison(host: Host, wake: int, compare: str, into: str) -> dict[str, Any]:
    """In a fork as well: no operation may run in this process, and importing torch anew would take seconds."""

    def comparison() -> None:
        with open(compare, encoding="utf-8") as spec:
            found = importlib.import_module(".keep", __package__).compare(json.load(spec))
        with open(into, "w", encoding="utf-8") as file:
            json.dump(found, file)
        os._exit(0)

    return _forked(host, wake, comparison, _COMPARISON, warm=True)


def _forked(host: Host, wake: int, child: Callable[[], None], limit: float, warm: bool) -> dict[str, Any]:
    try:
        if warm:
            _warm_up()
    except Exception:  # noqa: BLE001 - whatever importing torch raises is what the user has to know
        return {"failed": traceback.format_exc()}
    began = time.monotonic()
    pid = _start(child)
    try:
        status = _wait(pid, began + limit, host, wake)
    finally:
        left = _end_all(pid)
    ended, code = ("timeout", 0) if status is None else _how(status)
    return {"ended": ended, "code": code, "seconds": time.monotonic() - began, "left": left}


def _warm_up() -> None:
    """Import what every arm needs; no operation may run here, and nothing may ask for CUDA: neither survives a fork."""
    if "torch" not in sys.modules:
        importlib.import_module("torch")
        importlib.import_module("torch._dynamo")  # 1.7 s, at the latest when an optimizer steps
        importlib.import_module(".recorder", __package__)
        files.captures()
        gc.collect()
        gc.freeze()


def _start(child: Callable[[], None]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads that libraries start at import survive by their own handlers
        pid = os.fork()
    if pid == 0:
        try:
            _become_arm()
            child()
        except BaseException:  # noqa: BLE001 - nothing may return into the server's loop
            traceback.print_exc()
        finally:
            os._exit(70)
    return pid


def _become_arm() -> None:
    """A process of its own group, without the server's signals and pipes, that dies with the server."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.closerange(3, 64)


def _wait(pid: int, deadline: float, host: Host, wake: int) -> int | None:
    """The status with which the process ended; None where it had to be ended at the deadline."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        rest = deadline - time.monotonic()
        if rest <= 0:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        ready, _, _ = select.select([0, wake], [], [], rest)
        if wake in ready:
            os.read(wake, 4096)
        if 0 in ready:
            host.listen()


def _how(status: int) -> tuple[str, int]:
    if os.WIFSIGNALED(status):
        return "signal", os.WTERMSIG(status)
    return "exit", os.WEXITSTATUS(status)


def _end_all(arm: int) -> list[str]:
    """End every process of an arm, and tell which were left behind; on Linux those count that left its group too.

    There whoever loses its parent becomes a child of this process.
    """
    deadline = time.monotonic() + _GRACE
    while (running := _running()) and time.monotonic() < deadline:
        time.sleep(0.01)
    left = sorted(running.values())
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(arm, signal.SIGKILL)
    while True:
        for pid in _running():
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return left


def _running() -> dict[int, str]:
    """The children of this process that live, with their commands; none where there is no `/proc`."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                command, _, rest = file.read().partition("(")[2].rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        state, parent = rest.split()[:2]
        if int(parent) == os.getpid() and state != "Z":
            found[int(name)] = command
    return found


def _wake_on_death() -> int:
    """A pipe that becomes readable when a child ends."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
