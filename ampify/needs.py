"""What rules need a file to say, in the terms of `source.needles`: the parts that several rules share."""

from __future__ import annotations

from ampify.source.needles import IDLE as IDLE

TYPE_CHECKING = False  # as of `typing`, which every run would have to load
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ampify.source.needles import Needs

AUTOCAST: Needs = (("autocast",),)
"""A region, or an API that is about them; not what only switches autocast off, which is `IDLE`."""
SCALER: Needs = (("GradScaler",),)
CUSTOM: Needs = (("custom_fwd|custom_bwd",),)
APEX: Needs = (("\napex",),)
NAMESPACE: Needs = ((".amp",), ("amp.",), ("amp as",))
"""A module `amp`, of torch or of one of its backends."""
STEP: Needs = (
    ("backward(",), ("autograd.grad",), ("autograd.backward",), ("autograd as",), ("autograd.*",), ("NativeScaler",),
    ("ApexScaler",),
)  # fmt: skip
"""A training step: nothing else differentiates."""

_HALF = ("float16", "half", "bfloat16")
_GIVEN = (f"{method}(~{dot}{name}" for method in ("to", "type") for dot in (".", "") for name in _HALF)
CAST = "|".join((".half(", ".bfloat16(", *_GIVEN))
"""A tensor or module that is cast by hand."""

OF_SUBJECT: Mapping[str, Needs] = {"TrainingStep": STEP, "Decision": STEP, "Migration": APEX}
"""What rules about these need; others say it themselves."""
