"""AMP114: an autograd function whose `custom_fwd` and `custom_bwd` do not fit where it runs, or each other."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.custom_functions import CustomFunction, custom_functions
from ampify.model.device_types import DECORATORS, Given, device_types
from ampify.model.step import FileModel
from ampify.rule import Finding, rule
from ampify.source.edits import Applicability, Edit, Fix


@rule("AMP114", "custom-fwd-device-mismatch", Severity.ERROR, needs.CUSTOM)
def check(model: FileModel) -> Iterator[Finding]:
    for function in custom_functions(model):
        yield from _elsewhere(function)
        yield from _differing(function)
        yield from _without_backward(function)
    for each in device_types(model):
        if each.use.paths <= DECORATORS and each.given is Given.DEVICE and each.argument is not None:
            edits = (Edit(each.device, f"{model.code.tree.source[each.device]}.type"),) if each.device else ()
            message = '`device_type` must be the type of a device, such as `"cuda"`; got a `torch.device`'
            yield Finding(each.span, message, Fix("Take its type", edits) if edits else None)


def _elsewhere(function: CustomFunction) -> Iterator[Finding]:
    """Applied under autocast of another device."""
    devices = function.applied_under
    decorated = [d for d in (function.forward, function.backward) if d is not None]
    for each in decorated if devices else ():
        if each.device is not None and each.device not in devices:
            message = f'`device_type="{each.device}"` has no effect under the autocast of `{min(devices)}`'
            edits = (Edit(each.literal.value, f'"{min(devices)}"'),) if each.literal and len(devices) == 1 else ()
            yield Finding(each.use.span, message, Fix("Name it", edits, Applicability.UNSAFE) if edits else None)


def _differing(function: CustomFunction) -> Iterator[Finding]:
    forward, backward = function.forward, function.backward
    if forward and backward and forward.device and backward.device and forward.device != backward.device:
        message = f"`backward` is for autocast on `{backward.device}`, `forward` for autocast on `{forward.device}`"
        yield Finding(backward.use.span, message)


def _without_backward(function: CustomFunction) -> Iterator[Finding]:
    if function.forward and not function.forward.casts and function.plain_backward is not None:
        message = "`forward` runs under autocast and `backward` does not; decorate it with `custom_bwd`"
        yield Finding(function.plain_backward, message)
