"""AMP115: what the oldest PyTorch that the project supports does not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ampify import needs
from ampify.config import parse_torch
from ampify.diagnostic import Severity
from ampify.model.uses import ApiUse
from ampify.rule import Finding, rule, table


@dataclass(frozen=True, slots=True)
class Api:
    """A row of the table: calls with at least that many arguments need PyTorch ``since``."""

    paths: frozenset[str]
    since: tuple[int, int]
    arguments: int

    def missing(self, use: ApiUse) -> bool:
        return use.paths <= self.paths and len(use.arguments) >= self.arguments and not use.supports(self.since)


APIS = [Api(frozenset(row["paths"]), parse_torch(row["since"]), row.get("arguments", 0))
        for row in table(__file__)["api"]]  # fmt: skip


@rule("AMP115", "api-newer-than-minimum-torch", Severity.WARNING, (*needs.AUTOCAST, *needs.SCALER, *needs.CUSTOM))
def check(use: ApiUse) -> Iterator[Finding]:
    api = next((api for api in APIS if api.missing(use)), None)
    if api is None or use.target is None or use.conditional or use.version_switch or use.assigned:
        return
    needed, allowed = (f"{major}.{minor}" for major, minor in (api.since, use.target))
    with_device = " with a device type" if api.arguments else ""
    message = f"`{min(use.paths)}`{with_device} needs PyTorch {needed}, but this project allows {allowed}"
    yield Finding(use.span, message)
