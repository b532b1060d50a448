"""Records of runs that never were, in the format of the worker."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ampify.verify.record import Outcome, Record, parse

Line = dict[str, Any]
SCRIPT = "/project/train.py"


def start() -> Line:
    return {"k": "start", "torch": "2.13", "python": "3.11", "cuda": None, "pid": 1, "rank": 0}


def optimizer(o: int = 0) -> Line:
    return {"k": "optimizer", "o": o, "type": "SGD", "params": 2}


def backward(i: int, d: str = "aa", x: float = 1.0, scale: float = 1.0) -> Line:
    root = {"dtype": "float32", "size": 1, "scale": scale}
    return {"k": "backward", "i": i, "d": d, "x": x, **root, "at": [SCRIPT, 10]}


def grads(n: int, d: Iterable[str | None] = ("g0", "g1"), *, o: int = 0, lr: float = 0.1, via: str = "direct") -> Line:
    return {"k": "grads", "o": o, "n": n, "d": list(d), "lr": [lr], "via": via, "at": [SCRIPT, 12]}


def params(
    n: int, d: Iterable[str] = ("p0", "p1"), b: Iterable[str] = (), *, o: int = 0, skipped: bool = False
) -> Line:
    return {"k": "params", "o": o, "n": n, "d": list(d), "b": list(b), "skipped": skipped, "at": [SCRIPT, 12]}


def value(x: float | str) -> Line:
    return {"k": "value", "x": x, "how": "item", "at": [SCRIPT, 14]}


def names(o: int = 0) -> Line:
    return {"k": "names", "o": o, "params": ["layer.weight", "layer.bias"], "buffers": ["norm.mean"]}


def scaler(s: int = 0, *, asked: bool = True) -> Line:
    return {"k": "scaler", "s": s, "asked": asked, "enabled": True, "device": "cpu", "at": [SCRIPT, 5]}


def scale(v: float) -> Line:
    return {"k": "scale", "s": 0, "v": v, "at": [SCRIPT, 10]}


def unscale(v: float, o: int = 0) -> Line:
    return {"k": "unscale", "s": 0, "o": o, "v": v, "at": [SCRIPT, 11]}


def step(n: int, *, o: int = 0, stepped: bool = True) -> Line:
    return {"k": "step", "s": 0, "o": o, "n": n, "stepped": stepped, "at": [SCRIPT, 12]}


def update(before: float, after: float) -> Line:
    return {"k": "update", "s": 0, "before": before, "after": after, "at": [SCRIPT, 13]}


def end(status: str = "stopped", code: int = 0, error: Line | None = None) -> Line:
    return {
        "k": "end",
        "status": status,
        "code": code,
        "error": error,
        "seconds": 0.1,
        "attempts": {},
        "swallowed": False,
    }


def error(type_: str = "ValueError", message: str = "no") -> Line:
    return {"type": type_, "message": message, "traceback": f"{type_}: {message}", "at": [SCRIPT, 9]}


def record(lines: Iterable[Line]) -> Record:
    return Record(tuple(parse(line) for line in lines), Path("/nowhere"))


def outcome(
    *lines: Line,
    ended: Literal["exit", "signal", "timeout"] = "exit",
    code: int = 0,
    stacks: str = "",
    ends: bool = True,
) -> Outcome:
    """A run with these events; ``ends``: it wrote its last line as it should."""
    whole = [*lines, *([end()] if ends and not any(line["k"] == "end" for line in lines) else [])]
    return Outcome({0: record(whole)}, ended, code, 1.0, "printed", stacks)
