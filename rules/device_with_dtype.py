"""AMP111: a dtype among the arguments of `torch.device`."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse, Value
from ampify.rewrite.successor import without
from ampify.rule import Finding, rule
from ampify.source.edits import Applicability, Fix

_DTYPES = ("float", "half", "bfloat", "double", "int", "uint", "long", "short", "bool", "complex", "dtype")
NEEDS = (("device(dtype",), ("device(", "|".join(f"device(~{dot}{name}" for name in _DTYPES for dot in (".", ""))))


@rule("AMP111", "device-with-dtype", Severity.ERROR, NEEDS)
def check(use: ApiUse) -> Iterator[Finding]:
    for argument in use.arguments if use.paths == {"torch.device"} else ():
        if argument.keyword == "dtype" or (argument.is_a is Value.DTYPE and not argument.star):
            message = "`torch.device` has no `dtype` argument; a device does not choose the precision"
            edits = without(use, argument)
            fix = Fix("Take the dtype out", edits, Applicability.UNSAFE) if edits else None
            yield Finding(argument.span, message, fix)
