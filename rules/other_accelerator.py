"""AMP709: mixed precision by names that PyTorch itself does not have."""

from __future__ import annotations

from collections.abc import Iterator

from ampify import needs
from ampify.diagnostic import Severity
from ampify.model.step import FileModel
from ampify.model.vendors import vendor_uses
from ampify.rule import Finding, rule


@rule("AMP709", "other-accelerator", Severity.INFO, needs.NAMESPACE)
def check(model: FileModel) -> Iterator[Finding]:
    for use, kind in vendor_uses(model):
        message = f'PyTorch itself has no `torch.{kind}.amp`; `torch.autocast("{kind}")` is there for every device'
        yield Finding(use.span, message)
