"""AMP112: a dtype such as `float16` without the `torch.` before it."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.mentions import DTYPES, undefined_dtypes
from ampify.model.step import FileModel
from ampify.rewrite.imports import need
from ampify.rule import Finding, rule
from ampify.source.edits import Edit, Fix

NEEDS = (("|".join(f"{head}{name}" for head in ("to(~", "(dtype=") for name in sorted(DTYPES)),),)


@rule("AMP112", "undefined-dtype-name", Severity.ERROR, NEEDS)
def check(model: FileModel) -> Iterator[Finding]:
    for dtype in undefined_dtypes(model.code.tree):
        spelled, imports = need(dtype.tree, f"torch.{dtype.name}", dtype.node)
        fix = Fix(f"Write `{spelled}`", (Edit(dtype.span, spelled), *imports))
        yield Finding(dtype.span, f"`{dtype.name}` is not defined here; write `torch.{dtype.name}`", fix)
