"""Names that a file takes from PyTorch's AMP or its scalers, and dtypes that it names without defining them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.amp import AmpFacts
from ampify.model.step import Code
from ampify.model.uses import in_try, switched
from ampify.model.vocabulary import SCALERS
from ampify.source.text import Span
from ampify.syntax.tree import Tree
from ampify.syntax.walk import dotted

_AMP = ("torch.amp", "torch.cuda.amp", "torch.cpu.amp")
DTYPES = {"float16", "bfloat16", "float32", "half"}


@dataclass(frozen=True, slots=True)
class ImportedName:
    """``from module import name``, wherever it stands, of a module of torch's AMP."""

    span: Span
    module: str
    name: str
    guarded: bool
    """Whether the code provides for its absence."""


@dataclass(frozen=True, slots=True)
class UndefinedDtype:
    """A dtype that is passed by a name which nothing defines."""

    tree: Tree
    node: cst.Name

    @property
    def span(self) -> Span:
        return self.tree.span(self.node)

    @property
    def name(self) -> str:
        return self.node.value


def amp_imports(tree: Tree) -> Iterator[ImportedName]:
    """What is imported by name from ``torch.amp``, ``torch.cuda.amp``, ``torch.cpu.amp`` and the modules in them."""
    for node in tree.names.parent:
        if not isinstance(node, cst.ImportFrom) or node.relative or node.module is None:
            continue
        module = ".".join(dotted(node.module))
        if f"{module}.".startswith(tuple(f"{amp}." for amp in _AMP)) and not isinstance(node.names, cst.ImportStar):
            guarded = in_try(tree, node) or switched(tree, node)
            for alias in node.names:
                yield ImportedName(tree.span(alias.name), module, alias.evaluated_name, guarded)


def undefined_dtypes(tree: Tree) -> Iterator[UndefinedDtype]:
    """``float16`` in ``x.to(float16)`` or ``dtype=float16`` where the file imports torch, and not that name."""
    for node in tree.names.parent:
        if type(node) is not cst.Name or node.value not in DTYPES or not _names_a_dtype(tree, node):
            continue
        if tree.names.spell("torch", node) is not None and tree.names.undefined(node.value, node):
            yield UndefinedDtype(tree, node)


def _names_a_dtype(tree: Tree, node: cst.Name) -> bool:
    """Whether ``node`` is an argument that says which dtype is wanted."""
    parent = tree.names.parent[node]
    if not isinstance(parent, cst.Arg) or parent.value is not node or parent.star:
        return False
    if parent.keyword is not None:
        return parent.keyword.value == "dtype"
    call = tree.names.parent[parent]
    return isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute) and call.func.attr.value == "to"


def scaler_calls(code: Code) -> Iterator[tuple[Span, str]]:
    """The methods that are called on what can only be a `GradScaler` of torch."""
    for call in code.amp.nodes:
        if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute) and _is_made(code.amp, call.func.value):
            yield code.tree.span(call.func), call.func.attr.value


def _is_made(amp: AmpFacts, owner: cst.BaseExpression) -> bool:
    """Whether all that gets there is made by the constructor of torch's own class."""
    values = amp.arriving(owner) if amp.is_scaler(owner) else []
    makers = [value.func for value in values if isinstance(value, cst.Call)]
    paths = {path for maker in makers for path in amp.tree.names.imported(maker)}
    return bool(paths) and len(makers) == len(values) and paths <= SCALERS
