"""Work that is spread over processes. What goes in and what comes back is sent, and nothing else is shared, so that any
way to start a process will do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

T = TypeVar("T")
R = TypeVar("R")

WORTH = 60_000
"""Bytes of code: about a second of work, where two processes take 0.3 s to begin with."""
_SHARES = 8
"""Messages to each process, so that none is left with a large one at the end."""


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def spread(work: Callable[[T], R], tasks: Sequence[T], sizes: Sequence[int], jobs: int) -> Iterator[Iterator[R]]:
    """The result of each task, in their order; little work is done in this process.

    With several processes, ``work``, the tasks and the results are pickled. What ``work`` raises is raised here.
    """
    if (jobs := min(jobs, len(tasks))) < 2 or sum(sizes) < WORTH:
        yield map(work, tasks)
        return
    crew = _Crew(work, tasks, _shares(sizes, jobs))
    try:
        crew.begin(jobs)
        yield crew.results()
    finally:
        crew.end()


def _shares(sizes: Sequence[int], jobs: int) -> list[list[int]]:
    """The indexes of tasks that are sent together, the largest task first."""
    most, shares, room = sum(sizes) / (jobs * _SHARES), list[list[int]](), 0.0
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        if not shares or room < sizes[index]:
            shares.append([])
            room = most
        shares[-1].append(index)
        room -= sizes[index]
    return shares


@dataclass(frozen=True, slots=True)
class _Raised:
    error: Exception


@dataclass(slots=True)
class _Crew:
    """Processes that each have one share at a time; that of one that dies is done here."""

    work: Callable[[Any], Any]
    tasks: Sequence[Any]
    shares: list[list[int]]
    found: dict[int, Any] = field(default_factory=dict)
    busy: dict[Connection, list[int]] = field(default_factory=dict)
    processes: list[BaseProcess] = field(default_factory=list)

    def begin(self, jobs: int) -> None:
        import multiprocessing

        self.shares.reverse()
        links = []
        for _ in range(jobs):
            here, there = multiprocessing.Pipe()
            process = multiprocessing.Process(target=_serve, args=(self.work, there, here), daemon=True)
            process.start()
            there.close()
            self.processes.append(process)
            links.append(here)
        for link in links:
            self._send(link)

    def results(self) -> Iterator[Any]:
        for index, task in enumerate(self.tasks):
            while index not in self.found and self.busy:
                self._receive()
            result = self.found.pop(index) if index in self.found else self.work(task)
            if isinstance(result, _Raised):
                raise result.error
            yield result

    def _send(self, to: Connection) -> None:
        if not self.shares:
            to.close()
            return
        share = self.shares.pop()
        self.busy[to] = share
        with suppress(OSError):  # of one that is dead, nothing will be received
            to.send([self.tasks[index] for index in share])

    def _receive(self) -> None:
        from multiprocessing.connection import wait

        ready = wait([*self.busy])
        for each in [each for each in self.busy if each in ready]:
            share = self.busy.pop(each)
            try:
                self.found.update(zip(share, each.recv(), strict=True))
            except (EOFError, OSError):
                each.close()
                continue
            self._send(each)

    def end(self) -> None:
        for each in self.busy:
            each.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()


def _serve(work: Callable[[Any], Any], link: Connection, other_end: Connection) -> None:
    """Work on what comes until nothing more does; who starts the processes ends them when it is interrupted."""
    import gc
    import signal

    other_end.close()  # else the end of the one who has it would not be noticed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.set_threshold(200_000)
    with suppress(EOFError, OSError):
        while True:
            link.send([_attempt(work, task) for task in link.recv()])


def _attempt(work: Callable[[Any], Any], task: Any) -> Any:
    try:
        return work(task)
    except Exception as error:  # noqa: BLE001
        return _Raised(error)
