"""Writes down what a run does, in order, one JSON object a line; a value still on the device holds its line back."""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Callable

import torch

from . import keep
from .attempts import Attempts, Stop
from .digest import Digests, Pending, Sketches
from .job import Job

_TORCH = os.path.join(os.path.dirname(os.path.abspath(torch.__file__)), "")
_OWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_WAITING = 256
"""Lines that may wait for the device; the oldest is then waited for."""


class Recorder:
    """The record of one process of one arm."""

    def __init__(self, job: Job) -> None:
        self.job, self.attempts = job, Attempts(job)
        self.closing: list[Callable[[], None]] = []
        """Called once, before the last line is written."""
        self.watch: Any = None
        """Of the optimizers; see `optimizers.watch`."""
        self.hard_stop: Callable[[], None] = lambda: os._exit(0)
        """Finishes and leaves the process; called when the script holds `Stop` back and goes on."""
        self.on_stop: Callable[[], None] = lambda: None
        """Called before `Stop` is raised for the first time."""
        self.stopped, self.over = False, False
        """Whether `Stop` was raised, and whether the script has come to its end: its exit handlers are not watched."""
        self._pid, self._began, self._finished, self._swallowed = os.getpid(), time.monotonic(), False, False
        self._main, self._local, self._lock = threading.get_ident(), threading.local(), threading.RLock()
        self._queue: collections.deque[dict[str, Any]] = collections.deque()
        self._due = 0
        self._owned: dict[str, str | None] = {}
        self._faults: set[str] = set()
        self._sketched = 0

    @property
    def active(self) -> bool:
        """Whether events are taken: not in a process that the script forked, and not after the end."""
        return not self._finished and os.getpid() == self._pid

    @property
    def watching(self) -> bool:
        """Whether what happens now is the script's doing and is to be recorded.

        Ends the process where the script goes on after `Stop`; its `finally` blocks may run.
        """
        if not self.job.record or not self.active or self.muted or self.over:
            return False
        if self.stopped and not _unwinding():
            self._leave()
        return not self.stopped

    @property
    def muted(self) -> bool:
        """Whether this thread is at work for the recorder."""
        return getattr(self._local, "quiet", 0) > 0

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """What this thread does inside is our own doing: not recorded, and without gradients."""
        self._local.quiet = getattr(self._local, "quiet", 0) + 1
        try:
            with torch.no_grad():
                yield
        finally:
            self._local.quiet -= 1

    @contextlib.contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """`quiet`, and an exception inside becomes a `fault` event, once for each place: the script must not see it."""
        try:
            with self.quiet():
                yield
        except Exception as error:  # noqa: BLE001 whatever goes wrong in the recorder is no fault of the script
            message = f"{type(error).__name__}: {error}"
            if (where + message) not in self._faults:
                self._faults.add(where + message)
                self.emit("fault", where=where, message=message)

    def by_script(self) -> bool:
        """Whether the function that asks, inside one wrapper, was called by code outside of torch and of the worker."""
        return foreign(sys._getframe(3).f_code.co_filename)

    def in_main_thread(self) -> bool:
        """Whether this is the thread of the script: what others read (progress bars, loggers) comes at any time."""
        return threading.get_ident() == self._main

    def at(self) -> tuple[str, int] | None:
        """File and line of the innermost frame in a file of the project."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            path = self._own(frame.f_code.co_filename)
            if path is not None:
                return path, frame.f_lineno
            frame = frame.f_back
        return None

    def _own(self, path: str) -> str | None:
        """The real path of a file of the project, None for other code."""
        if path not in self._owned:
            own = os.path.isabs(path) and self.job.owns(path)
            self._owned[path] = os.path.realpath(path) if own else None
        return self._owned[path]

    def emit(self, event: str, /, **fields: Any) -> None:
        """Write an event; a field may be `Pending`."""
        if self.active:
            at = self.at()
            self._append({"k": event, **fields, **({"at": at} if at else {})})

    def digest(self, tensors: Sequence[torch.Tensor | None]) -> Digests:
        """Digests as the value of a field."""
        with self.quiet():
            return Digests(tensors)

    def sketch(self, what: str, o: int, n: int, tensors: Sequence[torch.Tensor | None]) -> None:
        """Add the sketches of `tensors` to the sketch file, if the job asks for sketches."""
        if not self.job.sketch or not self.active:
            return
        with self.quiet():
            found = Sketches(tensors)
        name = os.path.basename(self.job.file("sketch", ".bin"))
        self.emit("sketch", what=what, o=o, n=n, file=name, offset=self._sketched, sizes=found.sizes, bytes=found)
        self._sketched += 4 * sum(size for size in found.sizes if size > 0)

    def keep(self, kind: str, o: int | None, n: int, tensors: Sequence[torch.Tensor | None]) -> None:
        """Save those tensors that the job names."""
        for wanted, optimizer, attempt, i in self.job.keep:
            if (wanted, optimizer, attempt) == (kind, o, n) and isinstance(i, int) and i < len(tensors):
                with self.quiet():
                    keep.save(tensors[i], os.path.join(self.job.out, "keep"), f"{kind}-{o}-{n}-{i}.pt")

    def attempt(self, o: int) -> int:
        """How many attempts optimizer `o` has begun."""
        return self.attempts.counts[o]

    def begin_attempt(self, o: int) -> int:
        """Count an attempt of optimizer `o`; raises `Stop` where all have been made."""
        if self.attempts.over(o):
            self._stop()
        self._drain(self._due)
        self._due = len(self._queue)
        return self.attempts.begin(o)

    def finish(self, status: str, code: int, error: dict[str, Any] | None = None) -> None:
        """Write what is left and the last line; later calls do nothing."""
        if not self.active:
            return
        for close in self.closing:
            with self.guard("closing"):
                close()
        seconds, attempts = time.monotonic() - self._began, self.attempts.counts
        end = {"status": status, "code": code, "error": error, "seconds": seconds, "attempts": attempts}
        self._append({"k": "end", **end, "swallowed": self._swallowed})
        self.close()

    def close(self) -> None:
        """Write what is left; nothing is recorded from now on."""
        if self.active:
            self._drain(len(self._queue))
            self._finished = True

    def _stop(self) -> None:
        self._drain(len(self._queue))
        if not self.stopped:
            self.stopped = True
            self.on_stop()
        raise Stop

    def _leave(self) -> None:
        self._swallowed = True
        self.hard_stop()

    def _append(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._queue.append(event)
            self._drain(len(self._queue) - _WAITING)
            while self._queue and all(each.ready() for each in self._queue[0].values() if isinstance(each, Pending)):
                self._drain(1)

    def _drain(self, count: int) -> None:
        """Write the first `count` lines that wait."""
        with self._lock, self.quiet():
            for _ in range(min(count, len(self._queue))):
                self._write(self._queue.popleft())
                self._due -= 1

    def _write(self, event: dict[str, Any]) -> None:
        try:
            found = {name: each.result() if isinstance(each, Pending) else each for name, each in event.items()}
        except Exception as error:  # noqa: BLE001 the device may be lost; the end of the record must not be
            found = {"k": "fault", "where": event["k"], "message": f"{type(error).__name__}: {error}"}
        if "bytes" in found:
            self._put("sketch", ".bin", found.pop("bytes"))
        self._put("record", ".jsonl", (json.dumps(_plain(found), separators=(",", ":")) + "\n").encode())

    def _put(self, stem: str, suffix: str, content: bytes) -> None:
        """Append to a file and close it: no buffer that a fork could write twice, nothing that a script could close."""
        file = os.open(self.job.file(stem, suffix), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        while content:
            content = content[os.write(file, content) :]
        os.close(file)


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function by `around`, which gets the original as its first argument."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(owner, name, wrapper)


def in_worker(path: str) -> bool:
    """Whether this is a file of the worker."""
    return path.startswith(_OWN)


def foreign(path: str) -> bool:
    """Whether this is code outside of torch and of the worker: the script, or a library that it uses."""
    return not path.startswith((_TORCH, _OWN))


def _unwinding() -> bool:
    """Whether `Stop` is on its way out: a `finally` or `except` block of the script runs because of it."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Stop):
        error = error.__context__
    return error is not None


def _plain(value: Any) -> Any:
    """Numbers that are not finite as strings, wherever they are."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return {str(key): _plain(each) for key, each in value.items()} if isinstance(value, dict) else value
