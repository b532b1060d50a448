"""Autocast regions: switched off, or on in the dtype that is asked for, and counted."""

from __future__ import annotations

import ast
import collections
import functools
import inspect
import linecache
import sys
import threading
from types import FrameType
from typing import Any, Callable

import torch

from .job import Job
from .recorder import Recorder, foreign, in_worker, wrap


def install(job: Job, recorder: Recorder) -> None:
    """Take over `torch.autocast` and the classes that derive from it."""
    autocasts = Autocasts(job, recorder)
    wrap(torch.autocast, "__init__", autocasts.made)
    wrap(torch.autocast, "__enter__", autocasts.enter)
    recorder.closing.append(autocasts.tell)


class Autocasts:
    """All regions of a run."""

    def __init__(self, job: Job, recorder: Recorder) -> None:
        self._job, self._recorder, self._lock = job, recorder, threading.Lock()
        self._entered: collections.Counter[str] = collections.Counter()

    def made(self, original: Callable[..., None], region: Any, *args: Any, **kwargs: Any) -> None:
        """`autocast.__init__`."""
        given = _signature(original).bind(region, *args, **kwargs)
        given.apply_defaults()
        region._ampify_asked = bool(given.arguments["enabled"])
        if self._job.autocast == "off":
            given.arguments["enabled"] = False
        elif self._job.autocast == "on":
            self._force(region, given.arguments)
        original(*given.args, **given.kwargs)

    def _force(self, region: Any, given: dict[str, Any]) -> None:
        """A region of the script is on whatever its switch says; an island of float32 stays one."""
        if given["device_type"] == "cuda" and not torch.cuda.is_available():
            given["device_type"] = "cpu"
        if not given["enabled"] and not _is_island(region):
            given["enabled"] = True
        if given["enabled"] and self._job.dtype is not None:
            given["dtype"] = getattr(torch, self._job.dtype)

    def enter(self, original: Callable[..., Any], region: Any) -> Any:
        """`autocast.__enter__`."""
        if self._recorder.active and (region._enabled or getattr(region, "_ampify_asked", False)):
            dtype = str(region.fast_dtype).partition(".")[2]
            with self._lock:
                self._entered[f"{region.device}:{dtype}"] += 1
        return original(region)

    def tell(self) -> None:
        """At the end: how often regions were entered that are on, or would be but for the job."""
        self._recorder.emit("autocast", entered=dict(self._entered))


_signature = functools.cache(inspect.signature)


def _is_island(region: Any) -> bool:
    """Whether a region that is made disabled was meant so: torch itself makes it, or `False` is written there."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (_makes(frame, region) or frame.f_globals.get("__name__") in _DEPRECATION):
        frame = frame.f_back
    if frame is None or not foreign(frame.f_code.co_filename):
        return True
    return _says_false(frame.f_code.co_filename, frame.f_lineno)


_DEPRECATION = {"typing_extensions", "warnings", "_py_warnings"}
"""Modules whose wrapper stands between the script and `torch.cuda.amp.autocast.__init__`."""


def _makes(frame: FrameType, region: Any) -> bool:
    """Whether the frame belongs to the construction of the region: an `__init__`, or the worker's wrapper of one."""
    return in_worker(frame.f_code.co_filename) or frame.f_locals.get("self") is region


@functools.cache
def _says_false(path: str, line: int) -> bool:
    """Whether a call on this line is given the constant `False`, by position or as `enabled`."""
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except SyntaxError:  # code without a source that can be read: no island is known
        return False
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    given = [
        value
        for call in calls
        if call.lineno <= line <= (call.end_lineno or call.lineno)
        for value in [*call.args, *(word.value for word in call.keywords if word.arg == "enabled")]
    ]
    return any(isinstance(value, ast.Constant) and value.value is False for value in given)
