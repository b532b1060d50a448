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


def kind(difference: Difference) -> str:
    """The level and the channel, once where they are one."""
    return " ".join(dict.fromkeys((difference.level, difference.channel)))


def values(difference: Difference) -> Iterator[tuple[str, str, Place | None]]:
    """Both sides of a difference: which, its value, its place."""
    yield "reference", difference.reference, difference.reference_at
    yield "candidate", difference.candidate, difference.candidate_at


def differences(verdict: Verdict) -> list[Difference]:
    """All of them but those that an earlier level has shown already."""
    found = [difference for level in verdict.levels for difference in level.differences]
    return list({_what(difference): difference for difference in reversed(found)}.values())[::-1]


def _what(difference: Difference) -> tuple[object, ...]:
    return difference.channel, difference.step, difference.optimizer, difference.name, difference.candidate_at


def lists(verdict: Verdict) -> Iterator[tuple[str, list[str]]]:
    """What there is to tell beside the levels, each with its heading."""
    yield "never ran in these steps, not verified", [f"{place(p)}  {p.text}" for p in verdict.unverified]
    yield "the layers that deviate most", list(_layers(verdict))
    yield "the script also", list(verdict.touched)
    yield "notes", list(verdict.notes)


def _layers(verdict: Verdict) -> Iterator[str]:
    for layer in verdict.numerics.layers if verdict.numerics else ():
        yield f"{layer.name}: {layer.value:.2g}, rounding explains {layer.null:.2g}"
