"""What the values are where bits differ: both runs once more with those tensors saved, and the one tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ampify.verify.arms import Arm, Runs
from ampify.verify.compare import Key, Pair, unequal
from ampify.verify.verdict import Difference

_KINDS = {"root": "backward", "grads": "grads", "params": "params", "buffers": "buffers"}


def explained(found: list[Difference], pair: Pair, arms: tuple[Arm, Arm], runs: Runs) -> list[Difference]:
    """``found`` with values in the place of digests; without the gradients that differ in subnormals alone."""
    if len(pair.reference.records) > 1:  # the ranks would save to the same files
        return found
    firsts = {_KINDS[each.channel]: each for each in reversed(found) if each.channel in _KINDS}
    keys = {kind: next(key for key in unequal(pair) if key[0] == kind) for kind in firsts}
    told = dict(zip(keys, _differences(list(keys.values()), arms, runs), strict=True))
    if set(told) == {"grads"} and told["grads"].get("tiny") and _all_tiny(pair, arms, runs):
        found = [each for each in found if each.channel != "grads"]
    return [_with_values(each, told.get(_KINDS.get(each.channel, ""))) for each in found]


def _all_tiny(pair: Pair, arms: tuple[Arm, Arm], runs: Runs) -> bool:
    """Whether all gradients that differ do so by less than 2**-126; asked only where that is so for the first one."""
    return all(each["same"] or each.get("tiny", False) for each in _differences(unequal(pair), arms, runs))


def _differences(keys: Sequence[Key], arms: tuple[Arm, Arm], runs: Runs) -> list[dict[str, Any]]:
    """How each tensor differs between the two arms; empty where it was not saved in both."""
    if not keys:
        return []
    folders = [_kept(arm.but(f"{arm.name} again", keep=tuple(keys)), runs) for arm in arms]
    pairs = [(folders[0] / _file(key), folders[1] / _file(key)) for key in keys]
    there = [left.exists() and right.exists() for left, right in pairs]
    told = iter(runs.compare([pair for pair, both in zip(pairs, there, strict=True) if both]))
    return [next(told) if both else {"same": False} for both in there]


def _kept(arm: Arm, runs: Runs) -> Path:
    return runs.run(arm).record.folder / "keep"


def _file(key: Key) -> str:
    kind, o, n, i = key
    return f"{kind}-{o}-{n}-{i}.pt"


def _with_values(difference: Difference, told: dict[str, Any] | None) -> Difference:
    if not told:
        return difference
    if worst := told.get("worst"):
        left, right = worst["values"]
        element = f" [{', '.join(map(str, worst['index']))}]" if worst["index"] else ""
        of_many = f" at most, {told['differ']} of {told['elements']} elements differ" if told["elements"] > 1 else ""
        message = f"{difference.message.removesuffix(': other bits')}: by {float(told['largest']):.3g}{of_many}"
        return replace(difference, message=message, reference=f"{left}{element}", candidate=f"{right}{element}")
    if "shape" in told:
        left, right = (_kind(*side) for side in zip(told["dtype"], told["shape"], strict=True))
        return replace(difference, reference=left, candidate=right)
    return difference


def _kind(dtype: str | None, shape: list[int] | None) -> str:
    return "missing" if dtype is None else f"{dtype} {shape}"
