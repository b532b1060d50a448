"""What a unit asks about files beside its own. Where the same questions have the same answers, and its own files are
the same, what is told of it is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Question = tuple[str, tuple[Any, ...], Any]
"""The name of a function, what it was given, what it answered; of values that JSON has, paths as ``{"path": ...}``."""

_functions: dict[str, Callable[..., Any]] = {}
_notes: ContextVar[dict[str, Question] | None] = ContextVar("_notes", default=None)


def question(function: Callable[P, R]) -> Callable[P, R]:
    """A function of paths, names and collections of these, whose answer depends on files."""
    _functions[function.__name__] = function

    @wraps(function)
    def ask(*given: P.args, **named: P.kwargs) -> R:
        answer = function(*given, **named)
        if (notes := _notes.get()) is not None:
            asked = (function.__name__, tuple(map(_plain, given)), _plain(answer))
            notes.setdefault(repr(asked), asked)
        return answer

    return ask


@contextmanager
def noted() -> Iterator[dict[str, Question]]:
    """Notes every question that is asked within, each once."""
    notes: dict[str, Question] = {}
    before = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(before)


def still_holds(asked: Question) -> bool:
    """Whether a question has the same answer now."""
    name, given, answer = asked
    return bool(_plain(_functions[name](*map(_meant, given))) == answer)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return {"path": str(value)}
    if value is None or isinstance(value, str | bool):
        return value
    return sorted((_plain(each) for each in value), key=repr)


def _meant(value: Any) -> Any:
    if isinstance(value, dict):
        return Path(value["path"])
    return [_meant(each) for each in value] if isinstance(value, list) else value
