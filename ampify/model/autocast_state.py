"""Questions about autocast that name no device: where they are asked, and of which tensor they could be asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.device_types import AUTOCAST
from ampify.model.step import FileModel
from ampify.model.uses import ApiUse
from ampify.source.text import Span
from ampify.syntax.blocks import function_of
from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk

_STATE = {"torch.is_autocast_enabled": 0, "torch.set_autocast_enabled": 1}
"""With how many arguments they name no device."""
_OF_ANY = {"torch.get_autocast_dtype", "torch.set_autocast_dtype"}
_OF_OTHERS = {f"torch.{name}" for device in ("cpu", "xla", "ipu")
              for name in (f"is_autocast_{device}_enabled", f"get_autocast_{device}_dtype")}  # fmt: skip
_DTYPES = {"torch.get_autocast_dtype", "torch.get_autocast_gpu_dtype"}
_ANY_DEVICE = ("torch.cuda.is_available", "torch.cuda.amp.autocast", "torch.cuda.amp.GradScaler")
"""What code for several devices says of CUDA too."""
_REGIONS = AUTOCAST | {"torch.cpu.amp.autocast", "torch.cpu.amp.autocast_mode.autocast"}
_OF_TENSORS = {"device", "dtype", "shape", "is_floating_point", "ndim"}


@dataclass(frozen=True, slots=True)
class StateUse:
    """`torch.is_autocast_enabled()` or `torch.set_autocast_enabled(flag)`."""

    use: ApiUse
    tensor: str | None
    """A parameter around it that is a tensor."""
    devices: tuple[Span, ...]
    """The arguments ``"cuda"`` of questions about the dtype in the same function."""


def state_uses(model: FileModel) -> Iterator[StateUse]:
    """The questions, where nothing says that CUDA alone is meant."""
    found = [use for use in model.uses if _names_no_device(use)]
    for use in found if found and not _needs_cuda(model) else ():
        function = function_of(use.tree, use.node)
        if isinstance(function, cst.Module) and use.paths == {"torch.is_autocast_enabled"} and _in_cuda_alone(model):
            continue
        asked = [u for u in model.uses if u is not use and function_of(use.tree, u.node) is function]
        if not any(map(_names_other_device, asked)):
            yield StateUse(use, _tensor(use.tree, function), (*_dtype_devices(asked),))


def _names_no_device(use: ApiUse) -> bool:
    if use.call is None or len(use.paths) > 1 or use.conditional or use.version_switch:
        return False
    return len(use.arguments) == _STATE.get(min(use.paths)) and not any(arg.star for arg in use.arguments)


def _needs_cuda(model: FileModel) -> bool:
    """Whether the file runs on CUDA alone: its own kernels, or calls that nothing else can do."""
    for node in model.code.amp.nodes:
        match node:
            case cst.Attribute(attr=cst.Name(value="is_cuda" | "cuda")) if not model.code.tree.names.imported(node):
                return True
            case cst.Import() | cst.ImportFrom() if any(map(_for_cuda, _modules(node))):
                return True
    paths = (path for use in model.uses for path in use.paths)
    return any(path.startswith("torch.cuda.") and not path.startswith(_ANY_DEVICE) for path in paths)


def _in_cuda_alone(model: FileModel) -> bool:
    """Whether every region of the file is for CUDA: no others can be around the code that is in no function."""
    regions = (use for use in model.uses if use.call is not None and use.paths & _REGIONS)
    given = ([arg.literal for arg in use.arguments if arg.keyword in (None, "device_type")] for use in regions)
    return all(literals[:1] == ["cuda"] for literals in given)


def _modules(node: cst.Import | cst.ImportFrom) -> Iterator[str]:
    if isinstance(node, cst.ImportFrom) and node.module is not None:
        yield cst.Module([]).code_for_node(node.module)
    if not isinstance(node.names, cst.ImportStar):
        yield from (alias.evaluated_name for alias in node.names)


def _for_cuda(module: str) -> bool:
    root, *parts = module.split(".")
    if root == "torch":
        return False
    return root == "triton" or any(part == "_C" or "cuda" in part or "cudnn" in part for part in (root, *parts))


def _names_other_device(use: ApiUse) -> bool:
    """Whether a use asks about autocast on some device other than CUDA, or on one that it looks up."""
    path = min(use.paths)
    if path in _OF_OTHERS:
        return True
    takes_device = path in _OF_ANY or len(use.arguments) > _STATE.get(path, len(use.arguments))
    return takes_device and any(arg.literal != "cuda" for arg in use.arguments[:1])


def _dtype_devices(uses: list[ApiUse]) -> Iterator[Span]:
    for use in uses:
        if use.paths == {"torch.get_autocast_dtype"} and [arg.literal for arg in use.arguments] == ["cuda"]:
            yield use.arguments[0].value


def _tensor(tree: Tree, function: cst.CSTNode) -> str | None:
    """The first parameter of ``function`` that its annotation, or what is done with it, says to be a tensor."""
    if not isinstance(function, cst.FunctionDef):
        return None
    params = [*function.params.posonly_params, *function.params.params, *function.params.kwonly_params]
    return next((p.name.value for p in params if _annotated(tree, p) or _used_as_tensor(tree, function, p)), None)


def _annotated(tree: Tree, param: cst.Param) -> bool:
    return param.annotation is not None and tree.names.imported(param.annotation.annotation) == {"torch.Tensor"}


def _used_as_tensor(tree: Tree, function: cst.FunctionDef, param: cst.Param) -> bool:
    """``x.shape``, ``x.dtype`` and the like, or ``x.to(torch.get_autocast_dtype(…))``."""
    for node in walk(function.body):
        match node:
            case cst.Attribute(value=cst.Name(value=name), attr=cst.Name(value=attr)) if name == param.name.value:
                called = tree.names.parent[node]
                if attr in _OF_TENSORS:
                    return True
                if attr == "to" and isinstance(called, cst.Call) and any(_asks_dtype(tree, a) for a in called.args):
                    return True
    return False


def _asks_dtype(tree: Tree, argument: cst.Arg) -> bool:
    value = argument.value
    return isinstance(value, cst.Call) and bool(tree.names.imported(value.func) & _DTYPES)
