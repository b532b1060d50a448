"""The words and tables that several formats share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ampify.verify.verdict import Difference, Level, Place, Status, Verdict

SIGNS: Mapping[Status, str] = {
    "holds": "holds",
    "fails": "FAILS",
    "band": "band",
    "not run": "not run",
    "not applicable": "n/a",
}


def mode(verdict: Verdict) -> str:
    """What is compared with what."""
    match verdict.mode:
        case "convert":
            return "the files as they are, and what `--fix` would write"
        case "audit":
            return "the files with AMP taken out, and the files as they are"
        case "given":
            return "the two programs given"
    return ""


def result(level: Level) -> str:
    """A level's status with what there is to say of it."""
    return f"{SIGNS[level.status]}: {level.summary}" if level.summary else SIGNS[level.status]


def place(where: Place) -> str:
    return f"{where.path}:{where.line}"


def values(difference: Difference) -> Iterator[tuple[str, str, Place | None]]:
    """Both sides of a difference: which, its value, its place."""
    yield "reference", difference.reference, difference.reference_at
    yield "candidate", difference.candidate, difference.candidate_at


def differences(verdict: Verdict) -> list[Difference]:
    return [difference for level in verdict.levels for difference in level.differences]


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
