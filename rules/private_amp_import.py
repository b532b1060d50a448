"""AMP117: what belongs to PyTorch's own implementation of mixed precision, taken from where it was before 2.3."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.mentions import amp_imports
from ampify.model.step import FileModel
from ampify.rule import Finding, rule

OLD = ("torch.cuda.amp.", "torch.cpu.amp.")


@rule("AMP117", "private-amp-import", Severity.WARNING, needs.NAMESPACE)
def check(model: FileModel) -> Iterator[Finding]:
    imported = [(each.span, each.module, [each.name]) for each in amp_imports(model.code.tree) if not each.guarded]
    used = [(use.span, min(use.paths), use.attributes) for use in model.uses
            if not (use.conditional or use.version_switch)]  # fmt: skip
    for span, path, written in (*imported, *used):
        if f"{path}.".startswith(OLD) and (private := next(filter(_is_private, written), None)) is not None:
            yield Finding(
                span, f"`{private}` is private to PyTorch's mixed precision, which moved to `torch.amp` in 2.3"
            )


def _is_private(name: str) -> bool:
    return name == "OptState" or (name.startswith("_") and not name.startswith("__"))
