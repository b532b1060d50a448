"""AMP130: synchronized batch normalization of Apex."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.rewrite.migrate import Migration
from ampify.rule import Finding, migrated, rule

NAMES = {
    "SyncBatchNorm": "torch.nn.SyncBatchNorm",
    "convert_syncbn_model": "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
    "create_syncbn_process_group": "torch.distributed.new_group",
}


@rule("AMP130", "apex-syncbn", Severity.ERROR)
def check(migration: Migration) -> Iterator[Finding]:
    use = migration.use
    if use.path.startswith("apex.parallel.") and not use.is_import and use.path.rpartition(".")[2] in NAMES:
        name = use.path.rpartition(".")[2]
        yield from migrated(migration, f"`apex.parallel.{name}` is gone; torch has `{NAMES[name]}`")
