"""AMP117: what belongs to PyTorch's own implementation of mixed precision, taken from where it was before 2.3."""

from __future__ import annotations

from collections.abc import Iterator

from ampify.diagnostic import Severity
from ampify.model.mentions import amp_imports
from ampify.model.step import FileModel
from ampify.rule import Finding, rule
from ampify.source.text import Span

OLD = ("torch.cuda.amp.", "torch.cpu.amp.")


@rule("AMP117", "private-amp-import", Severity.WARNING)
def check(model: FileModel) -> Iterator[Finding]:
    imported = [(each.span, f"{each.module}.{each.name}") for each in amp_imports(model.code.tree) if not each.guarded]
    used = [(use.span, min(use.paths)) for use in model.uses
            if use.node is not use.name and not (use.conditional or use.version_switch)]  # fmt: skip
    yield from (_finding(*each) for each in (*imported, *used) if _is_private(each[1]))


def _finding(span: Span, path: str) -> Finding:
    return Finding(span, f"`{path}` is private to PyTorch's mixed precision, which moved to `torch.amp` in 2.3")


def _is_private(path: str) -> bool:
    names = path.split(".")
    own = any(name == "OptState" or (name.startswith("_") and not name.startswith("__")) for name in names)
    return own and path.startswith(OLD)
