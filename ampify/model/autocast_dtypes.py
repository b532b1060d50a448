"""Dtypes that autocast is given and has no use for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from ampify.model.device_types import AUTOCAST
from ampify.model.step import FileModel
from ampify.model.uses import ApiUse, Argument, Value

_HALF = {"torch.float16", "torch.half", "torch.bfloat16"}
_FLOATS = {"torch.float32", "torch.float", "torch.float64", "torch.double"}


class Useless(Enum):
    OFF = auto()
    """Autocast is switched off with a warning."""
    WRONG = auto()
    """It raises, or can compute nothing with it."""


@dataclass(frozen=True, slots=True)
class UselessDtype:
    use: ApiUse
    argument: Argument
    kind: Useless


def useless_dtypes(model: FileModel) -> Iterator[UselessDtype]:
    """Dtypes written out in calls of `torch.autocast` that leave ``enabled`` alone.

    float32 for CUDA is left out: there it is honoured, and used for islands in float32.
    """
    for use in model.uses:
        if not use.paths or not use.paths <= AUTOCAST or use.conditional or use.call is None:
            continue
        if any(a.keyword == "enabled" or a.star for a in use.arguments):
            continue
        plain = [a for a in use.arguments if a.keyword is None]
        dtype = next((a for a in use.arguments if a.keyword == "dtype"), plain[1] if len(plain) > 1 else None)
        device = next((a for a in use.arguments if a.keyword == "device_type"), next(iter(plain), None))
        kind = _kind(use, dtype, device.literal if device else None) if dtype is not None else None
        if dtype is not None and kind is not None:
            yield UselessDtype(use, dtype, kind)


def _kind(use: ApiUse, dtype: Argument, device: str | None) -> Useless | None:
    if dtype.is_a is Value.STRING and dtype.literal is not None:
        return Useless.WRONG
    written = "." in use.tree.source[dtype.value]
    paths = use.tree.names.imported(dtype.node)
    if not written or dtype.is_a is not Value.DTYPE or not paths or paths & _HALF:
        return None
    if device is not None and device.partition(":")[0] == "cpu":
        return Useless.OFF
    return None if paths & _FLOATS else Useless.WRONG
