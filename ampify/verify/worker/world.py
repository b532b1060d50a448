"""What the script finds around it, and what it does to it: environment, files, network, processes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Callable

from . import files
from .job import Job
from .scratch import Mirror

_QUIET = {
    "CLEARML_OFFLINE_MODE": "1",
    "COMET_AUTO_LOG_DISABLE": "1",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "NEPTUNE_MODE": "offline",
    "SWANLAB_MODE": "disabled",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
}
"""Each service's own switch; what is kept offline lands in the scratch folder."""
_SAME = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "MPLBACKEND": "Agg"}
_NOT_COMPILED = {"TORCH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1"}
_LONGEST = 300
"""Characters of a command line that are recorded."""
_LOCAL = ("127.", "localhost", "::1", "0.0.0.0")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def prepare(job: Job) -> None:
    """Set the environment and the working folder, before torch is imported where it is not yet."""
    scratch = os.path.join(job.out, "tmp")
    os.makedirs(scratch, exist_ok=True)  # the other ranks of a launch do the same
    os.environ.update(_environment(job, scratch))
    tempfile.tempdir = None
    sys.dont_write_bytecode = True
    os.chdir(job.cwd)


def _environment(job: Job, scratch: str) -> dict[str, str]:
    found = {**_QUIET, **_SAME, "TMPDIR": scratch, "MLFLOW_TRACKING_URI": f"file://{scratch}/mlruns"}
    if not job.compile:
        found.update(_NOT_COMPILED)
    if job.device == "cpu":
        found.update(CUDA_VISIBLE_DEVICES="", HIP_VISIBLE_DEVICES="")
    return found


def install(job: Job, recorder: Any) -> None:
    """Lead what the script writes to the scratch folder, and record what else it does."""
    torch = sys.modules["torch"]
    mirror = Mirror(job.out)
    files.install(mirror)
    files.install_torch(mirror, torch)
    if not job.compile and "torch._dynamo" in sys.modules:  # it read the environment when it was imported
        sys.modules["torch._dynamo"].config.disable = True
    sys.addaudithook(_Audit(mirror, recorder))


class _Audit:
    """Is told of whatever Python itself does; records what went past the mirror, once."""

    def __init__(self, mirror: Mirror, recorder: Any) -> None:
        self._mirror, self._recorder = mirror, recorder
        self._seen: set[tuple[str, str]] = set()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not self._recorder.active:
            return
        what, names = _EVENTS[event]
        for name in names(self._mirror, arguments):
            if (what, name) not in self._seen:
                self._seen.add((what, name))
                self._recorder.emit("touched", what=what, name=name)


def _opened(mirror: Mirror, arguments: tuple[Any, ...]) -> Iterator[str]:
    path, _, flags = arguments
    if isinstance(flags, int) and flags & _WRITES:
        yield from _paths(mirror, (path,))


def _paths(mirror: Mirror, arguments: tuple[Any, ...]) -> Iterator[str]:
    for path in arguments:
        if isinstance(path, (str, bytes, os.PathLike)) and (own := mirror.ours(path)) is not None:
            yield own


def _database(mirror: Mirror, arguments: tuple[Any, ...]) -> Iterator[str]:
    if os.fspath(arguments[0]) not in (":memory:", ""):
        yield from _paths(mirror, arguments)


def _connected(mirror: Mirror, arguments: tuple[Any, ...]) -> Iterator[str]:
    address = arguments[1]
    if isinstance(address, tuple) and not str(address[0]).startswith(_LOCAL):
        yield str(address[0])


def _looked_up(mirror: Mirror, arguments: tuple[Any, ...]) -> Iterator[str]:
    if arguments[0] and not str(arguments[0]).startswith(_LOCAL):
        yield str(arguments[0])


def _started(mirror: Mirror, arguments: tuple[Any, ...]) -> Iterator[str]:
    command = arguments[1] if len(arguments) > 1 else arguments[0]
    words = command if isinstance(command, (list, tuple)) else [command]
    yield " ".join(os.fsdecode(word) for word in words)[:_LONGEST]


_EVENTS: dict[str, tuple[str, Callable[[Mirror, tuple[Any, ...]], Iterator[str]]]] = {
    "open": ("write", _opened),
    **dict.fromkeys(("os.chmod", "os.chown", "os.mkdir", "os.truncate", "os.utime"), ("write", _paths)),
    **dict.fromkeys(("os.link", "os.symlink"), ("write", lambda mirror, names: _paths(mirror, names[1:]))),
    **dict.fromkeys(("os.remove", "os.rename", "os.rmdir"), ("remove", _paths)),
    "sqlite3.connect": ("write", _database),
    "socket.connect": ("network", _connected),
    "socket.getaddrinfo": ("network", _looked_up),
    **dict.fromkeys(("os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"), ("process", _started)),
}
