"""AMP106: `torch.is_autocast_enabled()`, which asks about CUDA only."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.autocast_state import StateUse, state_uses
from ampify.model.step import FileModel
from ampify.rewrite.successor import first_argument
from ampify.rule import Finding, rule
from ampify.source.edits import Applicability, Edit, Fix

SINCE = (2, 4)
"""The first release whose functions take a device type."""


@rule("AMP106", "ambiguous-is-autocast-enabled", Severity.WARNING, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    for each in state_uses(model):
        if each.use.supports(SINCE):
            message = f"`{min(each.use.paths)}` without a device type only looks at CUDA"
            yield Finding(each.use.span, message, _fix(each))


def _fix(each: StateUse) -> Fix:
    """Ask about the tensor's device where there is a tensor; else say that CUDA is meant."""
    if each.tensor is None:
        return Fix("Name CUDA", (*first_argument(each.use, '"cuda"'),))
    device = f"{each.tensor}.device.type"
    edits = (*first_argument(each.use, device), *(Edit(span, device) for span in each.devices))
    return Fix(f"Ask about the device of `{each.tensor}`", edits, Applicability.UNSAFE)
