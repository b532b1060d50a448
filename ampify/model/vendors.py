"""Mixed precision of other accelerators, by names that only the package of a vendor brings along."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model.step import FileModel
from ampify.model.uses import ApiUse
from ampify.syntax.walk import dotted

_ACCELERATORS = ("xpu", "mps", "npu", "hpu", "mlu", "musa")
_VENDORS = {
    "intel_extension_for_pytorch", "torch_npu", "torch_mlu", "torch_musa", "habana_frameworks", "torch_xla",
}  # fmt: skip


def vendor_uses(model: FileModel) -> Iterator[tuple[ApiUse, str]]:
    """The uses of ``torch.xpu.amp`` and the like, with the accelerator, where no such package is imported."""
    found = [(use, kind) for use in model.uses if (kind := _kind(use)) is not None]
    if found and not any(map(_imports_vendor, model.code.amp.nodes)):
        yield from found


def _kind(use: ApiUse) -> str | None:
    """The accelerator whose ``amp`` is named for sure."""
    if use.conditional or use.version_switch or use.assigned or len(use.paths) != 1:
        return None
    match min(use.paths).split("."):
        case ["torch", kind, "amp", *_] if kind in _ACCELERATORS:
            return kind
    return None


def _imports_vendor(node: cst.CSTNode) -> bool:
    match node:
        case cst.Import(names=names):
            return any(alias.evaluated_name.partition(".")[0] in _VENDORS for alias in names)
        case cst.ImportFrom(module=cst.CSTNode() as module):
            return (dotted(module) or ("",))[0] in _VENDORS
    return False
