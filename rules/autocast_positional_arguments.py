"""AMP107: a flag in the place of `dtype`, the second parameter of `torch.autocast`."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse, Argument, Value, looks_like_a_flag
from ampify.rewrite.successor import named
from ampify.rule import Finding, rule
from ampify.source.edits import Applicability, Fix

AUTOCAST = {"torch.autocast", "torch.amp.autocast", "torch.amp.autocast_mode.autocast"}
OLD_ORDER = ("enabled", "dtype", "cache_enabled")


@rule("AMP107", "autocast-positional-arguments", Severity.ERROR, needs.AUTOCAST)
def check(use: ApiUse) -> Iterator[Finding]:
    match use.arguments if use.paths <= AUTOCAST else ():
        case [Argument(keyword=None, star=""), Argument(keyword=None, star="") as second, *_]:
            if second.is_a is Value.BOOL or looks_like_a_flag(second):
                message = "The second positional argument of `torch.autocast` is `dtype`, not `enabled`"
                yield Finding(second.span, message, _fix(use.arguments))


def _fix(arguments: tuple[Argument, ...]) -> Fix | None:
    """Name what follows the device, if it stands in the order of the old `torch.cuda.amp.autocast`."""
    flag, *more = arguments[1:]
    if more and more[0].keyword is None and more[0].is_a is not Value.DTYPE:
        return None
    if not (edits := named((flag, *more), OLD_ORDER)):
        return None
    certain = flag.is_a is Value.BOOL
    return Fix("Pass it as `enabled`", edits, Applicability.SAFE if certain else Applicability.UNSAFE)
