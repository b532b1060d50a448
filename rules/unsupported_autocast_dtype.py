"""AMP514: autocast is given a dtype that is no half precision."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.autocast_dtypes import Useless, useless_dtypes
from ampify.model.step import FileModel
from ampify.rule import Finding, rule
from ampify.source.edits import Applicability, Edit, Fix


@rule("AMP514", "unsupported-autocast-dtype", Severity.ERROR, needs.AUTOCAST)
def check(model: FileModel) -> Iterator[Finding]:
    source = model.code.tree.source
    for found in useless_dtypes(model):
        dtype, span = source[found.argument.value], found.argument.value
        if found.kind is Useless.WRONG:
            yield Finding(found.argument.span, f"Autocast cannot compute in `{dtype}`")
            continue
        message = f"Autocast on the CPU is switched off by `{dtype}`; it has `torch.bfloat16` and `torch.float16`"
        edit = Edit(span, f"{dtype.rpartition('.')[0]}.bfloat16")
        fix = Fix("Run it in bfloat16", (edit,), Applicability.UNSAFE)
        yield Finding(found.argument.span, message, fix, severity=Severity.WARNING)
