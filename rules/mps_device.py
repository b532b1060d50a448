"""AMP708: mixed precision on Apple's GPU with a scaler for CUDA, or with a PyTorch that is too old for it."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Note, Severity
from ampify.model.device_types import AUTOCAST, SCALER, DeviceType, device_types
from ampify.model.step import FileModel
from ampify.model.whereabouts import idle_on_mps
from ampify.rule import Finding, rule

SINCE = ((SCALER, "`GradScaler`", (2, 8)), (AUTOCAST, "autocast", (2, 5)))
"""From which PyTorch on each knows `mps` (for the scaler pull request 144022 of PyTorch)."""


@rule("AMP708", "mps-device", Severity.WARNING, (*needs.AUTOCAST, *needs.SCALER))
def check(model: FileModel) -> Iterator[Finding]:
    tree = model.code.tree
    for call, moved in idle_on_mps(model):
        message = "A scaler for CUDA is off where there is none, and the model is on `mps`: the loss is not scaled"
        yield Finding(tree.span(call), message, notes=(Note("it is moved here", tree.span(moved)),))
    for found in device_types(model):
        yield from _too_old(found)


def _too_old(found: DeviceType) -> Iterator[Finding]:
    use = found.use
    if found.argument is None or found.argument.literal != "mps" or use.version_switch or use.target is None:
        return
    for apis, what, since in SINCE:
        if use.paths <= apis and not use.supports(since):
            needed, allowed = (f"{major}.{minor}" for major, minor in (since, use.target))
            message = f"{what} on `mps` needs PyTorch {needed}, but this project allows {allowed}"
            yield Finding(found.span, message)
