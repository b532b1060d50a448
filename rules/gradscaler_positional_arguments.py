"""AMP108: a number or a flag in the place of `device`, the first parameter of `torch.amp.GradScaler`."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse, Argument, Value, looks_like_a_flag
from ampify.rewrite.successor import first_argument, named
from ampify.rule import Finding, rule
from ampify.source.edits import Applicability, Fix

SCALER = {"torch.amp.GradScaler", "torch.GradScaler", "torch.amp.grad_scaler.GradScaler"}
OLD_ORDER = ("init_scale", "growth_factor", "backoff_factor", "growth_interval", "enabled")


@rule("AMP108", "gradscaler-positional-arguments", Severity.ERROR, needs.SCALER)
def check(use: ApiUse) -> Iterator[Finding]:
    match use.arguments if use.paths <= SCALER else ():
        case [Argument(keyword=None, star="") as first, *_]:
            if first.is_a in (Value.NUMBER, Value.BOOL) or looks_like_a_flag(first):
                parameters = OLD_ORDER if first.is_a is Value.NUMBER else ("enabled",)
                message = f"The first positional argument of `torch.amp.GradScaler` is `device`, not `{parameters[0]}`"
                yield Finding(first.span, message, _fix(use, parameters))


def _fix(use: ApiUse, parameters: tuple[str, ...]) -> Fix | None:
    edits = named(use.arguments, parameters)
    if edits is None or any(argument.keyword == "device" for argument in use.arguments):
        return None
    certain = use.arguments[0].is_a is not Value.UNKNOWN
    applicability = Applicability.SAFE if certain else Applicability.UNSAFE
    return Fix(f"Pass it as `{parameters[0]}`", (*first_argument(use, '"cuda"'), *edits), applicability)
