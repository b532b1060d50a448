"""The text that a file has in this run, and which of its lines ran, while the files stay as they are."""

from __future__ import annotations

import builtins
import functools
import importlib.machinery
import importlib.util
import io
import linecache
import os
import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import CodeType, FrameType, ModuleType
from typing import Any, Callable

from .job import Job
from .scratch import disk

_STANDARD = os.path.dirname(os.__file__)
_served: dict[str, str] = {}
_watched: dict[str, set[int]] = {}
_ran: dict[str, set[int]] = {}
_files: set[str] = set()


class _Loader(importlib.machinery.SourceFileLoader):
    """Gives the text of this run; compiled files are neither read nor written."""

    def get_data(self, path: str) -> bytes:
        text = _served.get(os.path.realpath(path))
        return super().get_data(path) if text is None else text.encode()

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return compile_(path)


class _Finder(MetaPathFinder):
    """Asks the other finders, and puts the loader above into what they find."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.origin and os.path.realpath(spec.origin) in _served:
                    spec.loader = _Loader(name, spec.origin)
                return spec
        return None


def install(job: Job, recorder: Any) -> None:
    """Serve the overlay; watch lines where that is asked."""
    serve(job)
    _watched.update({os.path.realpath(path): set(lines) for path, lines in job.watch.items() if lines})
    recorder.closing.append(lambda: _close(recorder))
    if _watched:
        _watch()


def serve(job: Job) -> None:
    """Give the texts of the overlay to imports, to `runpy`, to tracebacks and `inspect`."""
    for path, file in job.overlay.items():
        with open(file, encoding="utf-8", newline="") as opened:
            _served[os.path.realpath(path)] = text = opened.read()
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    sys.meta_path.insert(0, _Finder())
    io.open_code = _open_code


def _open_code(path: str) -> Any:
    text = _served.get(os.path.realpath(path))
    return disk.code(path) if text is None else io.BytesIO(text.encode())


def compile_(path: str) -> CodeType:
    """The code of a file as it is in this run."""
    text = _served.get(os.path.realpath(path))
    if text is not None:
        return compile(text, path, "exec", dont_inherit=True)
    with open(path, "rb") as file:
        return compile(file.read(), path, "exec", dont_inherit=True)


def execute(job: Job) -> None:
    """Run the script or module as `__main__`, as `python script` or `python -m module` would."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    if job.module is None:
        assert job.script is not None
        path = job.script
        _search_first(os.path.dirname(os.path.realpath(path)))
        main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
        main.__package__ = None
        code = compile_(path)
    else:
        _search_first(os.getcwd())
        spec = _find(job.module)
        path = str(spec.origin)
        main.__spec__, main.__loader__, main.__package__ = spec, spec.loader, spec.parent
        code = spec.loader.get_code(spec.name)  # type: ignore[union-attr]
    main.__file__ = path
    vars(main).update(__builtins__=builtins, __cached__=None)
    sys.argv = [path, *job.argv]
    _files.add(path)
    exec(code, vars(main))


def _find(name: str) -> importlib.machinery.ModuleSpec:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(f"No module named {name}", name=name)
    if spec.submodule_search_locations is not None:
        return _find(f"{name}.__main__")
    if not hasattr(spec.loader, "get_code") or spec.origin is None:
        raise ImportError(f"No code object available for {name}", name=name)
    return spec


def _search_first(folder: str) -> None:
    """Put the script's folder where Python puts it, and let it hide standard modules imported before."""
    if getattr(sys.flags, "safe_path", False):
        return
    sys.path.insert(0, folder)
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        name, suffix = os.path.splitext(entry)
        file = getattr(sys.modules.get(name), "__file__", None)
        hides = suffix == ".py" or os.path.isfile(os.path.join(folder, entry, "__init__.py"))
        if hides and file is not None and os.path.dirname(file) in (_STANDARD, os.path.join(_STANDARD, name)):
            del sys.modules[name]


def _close(recorder: Any) -> None:
    """Record which files of the project were loaded, and which watched lines ran."""
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())} | _files
    own = {os.path.realpath(path) for path in loaded if isinstance(path, str) and recorder.job.owns(path)}
    recorder.emit("files", loaded=sorted(own))
    if _watched:
        recorder.emit("lines", **{path: sorted(lines) for path, lines in _ran.items()})


def _watch() -> None:
    """Note each watched line once: by `sys.monitoring` where there is one, by tracing before Python 3.12."""
    if sys.version_info >= (3, 12):
        monitoring = sys.monitoring
        monitoring.use_tool_id(monitoring.COVERAGE_ID, "ampify")
        monitoring.register_callback(monitoring.COVERAGE_ID, monitoring.events.LINE, _monitored)
        monitoring.set_events(monitoring.COVERAGE_ID, monitoring.events.LINE)
    else:
        threading.settrace(_call)
        sys.settrace(_call)


_real = functools.cache(os.path.realpath)


def _note(code: CodeType, line: int) -> None:
    path = _real(code.co_filename)
    if line in _watched.get(path, ()):
        _ran.setdefault(path, set()).add(line)


def _monitored(code: CodeType, line: int) -> Any:
    _note(code, line)
    return sys.monitoring.DISABLE  # type: ignore[attr-defined]  # Python 3.12: no more events for this line


def _call(frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
    if _real(frame.f_code.co_filename) not in _watched:
        return None
    _note(frame.f_code, frame.f_lineno)
    return _line


def _line(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
    if event == "line":
        _note(frame.f_code, frame.f_lineno)
    return _line
