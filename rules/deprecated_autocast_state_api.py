"""AMP105: questions about autocast that have the device in their name, such as `torch.get_autocast_gpu_dtype`."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse
from ampify.rewrite.successor import Successor, replace
from ampify.rule import Finding, rule, table


def _rows() -> Iterator[tuple[str, Successor]]:
    by_device = table(__file__)
    since = by_device.pop("since")
    for device, names in by_device.items():
        for old, new in names.items():
            row = {"old": f"torch.{old}", "new": f"torch.{new}", "since": since, "device": f'"{device}"'}
            yield f"torch.{old}", Successor.of(row)


ROWS = dict(_rows())


@rule("AMP105", "deprecated-autocast-state-api", Severity.WARNING, needs.AUTOCAST)
def check(use: ApiUse) -> Iterator[Finding]:
    for old, row in ROWS.items():
        if row.succeeds(use):
            message = f"`{old}` is deprecated since PyTorch 2.4; use `{row.new[0]}({row.device})`"
            yield Finding(use.span, message, replace(use, row, "AMP105"))
