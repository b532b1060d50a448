"""AMP129: `DistributedDataParallel` and `Reducer` of Apex."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.apex import ApexUse
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule


@rule("AMP129", "apex-ddp", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    use = migration.use
    if use.path in ("apex.parallel.DistributedDataParallel", "apex.parallel.Reducer") and not use.is_import:
        name = use.path.rpartition(".")[2]
        message = f"`apex.parallel.{name}` is gone; torch has `torch.nn.parallel.DistributedDataParallel`"
        yield from migrated(migration, message, *_differs(use))


def _differs(use: ApexUse) -> Iterator[str]:
    if use.call is not None:
        yield "that of torch raises where a parameter gets no gradient, unless `find_unused_parameters=True`"
