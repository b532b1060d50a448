"""AMP132: functions that Apex was told to run in one precision."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule

_FLOAT = 'the body goes under `torch.autocast("cuda", enabled=False)`, on what `.float()` gives'
NAMES = {
    "float_function": _FLOAT,
    "register_float_function": _FLOAT,
    "half_function": "autocast casts products by itself; `torch.amp.custom_fwd` casts what an autograd function takes",
    "register_half_function": "autocast casts products by itself",
    "promote_function": "autocast promotes by itself",
    "register_promote_function": "autocast promotes by itself",
    "disable_casts": 'torch has `torch.autocast("cuda", enabled=False)`',
}


@rule("AMP132", "apex-function-annotation", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    match migration.use.path.split("."):
        case ["apex", "amp", name] if name in NAMES and not migration.use.is_import:
            yield from migrated(migration, f"`amp.{name}` is gone; {NAMES[name]}")
