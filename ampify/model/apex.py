"""Where a program uses what NVIDIA Apex no longer has, and what those uses mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.source.importers import has_package
from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.names import Bound
from ampify.syntax.tree import Tree
from ampify.syntax.walk import dotted, is_none

REMOVED = ("apex.amp", "apex.parallel", "apex.fp16_utils", "apex.RNN")
"""What Apex no longer has since May 2025."""

INITIALIZE = (
    "models", "optimizers", "enabled", "opt_level", "cast_model_type", "patch_torch_functions", "keep_batchnorm_fp32",
    "master_weights", "loss_scale", "cast_model_outputs", "num_losses", "verbosity", "min_loss_scale", "max_loss_scale",
)  # fmt: skip
SCALE_LOSS = ("loss", "optimizers", "loss_id", "model", "delay_unscale", "delay_overflow_check")
"""The parameters of `amp.initialize` and `amp.scale_loss`, in their order."""

INIT = ("enabled", "loss_scale", "enable_caching", "verbose", "allow_banned")
"""The parameters of `amp.init`, which gave a handle in 2018."""

BEGINS = ("apex.amp.initialize", "apex.fp16_utils.FP16_Optimizer", "apex.amp.init")
"""What switches mixed precision on."""

FP16_UTILS = {
    "FP16_Optimizer", "network_to_half", "BN_convert_float", "convert_network", "FP16Model", "tofp16",
    "prep_param_lists", "model_grads_to_master_grads", "master_params_to_model_params", "to_python_float",
    "clip_grad_norm",
}  # fmt: skip
"""What `from apex.fp16_utils import *` brings."""


@dataclass(frozen=True, slots=True, eq=False)
class ApexUse:
    """A reference to something that Apex no longer has, or its import."""

    tree: Tree
    node: cst.CSTNode
    path: str
    """The import path: ``apex.amp.scale_loss``."""
    call: cst.Call | None
    """The whole call, if the reference is called."""

    @property
    def span(self) -> Span:
        return self.tree.span(self.node)

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, cst.Import | cst.ImportFrom)

    def argument(self, name: str, parameters: tuple[str, ...]) -> cst.BaseExpression | None:
        """The argument for parameter ``name`` of the call."""
        return argument(self.call, name, parameters) if self.call is not None else None

    def text(self, name: str, parameters: tuple[str, ...]) -> str | None:
        """The source of that argument."""
        found = self.argument(name, parameters)
        return self.tree.text(found) if found is not None else None

    def level(self) -> str | None:
        """The level of an `amp.initialize`: ``O1``; None where it is computed."""
        match self.argument("opt_level", INITIALIZE):
            case None:
                return "O1"
            case cst.SimpleString() as text:
                return str(text.evaluated_value)
        return None


def argument(call: cst.Call, name: str, parameters: tuple[str, ...]) -> cst.BaseExpression | None:
    """The argument of a call for one of its ``parameters``, by keyword or by place."""
    plain = [a for a in call.args if a.keyword is None and not a.star]
    named = {a.keyword.value: a.value for a in call.args if a.keyword is not None}
    index = parameters.index(name)
    return plain[index].value if index < len(plain) else named.get(name)


class ApexFacts:
    """Apex in the files of one text."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.names = tree, tree.names
        self.nodes = [*tree.nodes()]

    def paths(self, node: cst.CSTNode) -> frozenset[str]:
        """The import paths of Apex that ``node`` stands for; empty where it may stand for anything else."""
        found = self.names.imported(node)
        if not found and (chain := dotted(node)) and chain[0] in FP16_UTILS and self.names.unknown(chain[0], node):
            stars = (star for scope in self.names.scope[node].chain() for star in scope.stars)
            found = frozenset(f"{star}.{'.'.join(chain)}" for star in stars if star == "apex.fp16_utils")
        if not found and isinstance(node, cst.Attribute) and self._is_handle(node.value):
            found = frozenset({f"apex.amp.{node.attr.value}"})
        return found if found and all(removed(path) for path in found) else frozenset()

    def _is_handle(self, node: cst.CSTNode) -> bool:
        """Whether ``node`` is what `amp.init` gave."""
        values = [b.value for b in self.names.scope[node].lookup(node.value)] if isinstance(node, cst.Name) else []
        calls = [value for value in values if isinstance(value, cst.Call)]
        made = all(self.names.imported(call.func) == {"apex.amp.init"} for call in calls)
        return bool(calls) and len(calls) == len(values) and made

    def path(self, node: cst.CSTNode) -> str | None:
        """The one path of Apex that ``node`` stands for, as it is best known: ``apex.amp.initialize``."""
        found = {*map(_known, self.paths(node))}
        return found.pop() if len(found) == 1 else None

    def called(self, node: cst.CSTNode, *names: str) -> bool:
        """Whether ``node`` is a call of one of ``apex.amp.initialize`` and so on."""
        return isinstance(node, cst.Call) and self.path(node.func) in names

    def uses(self) -> Iterator[ApexUse]:
        """References and imports, in source order."""
        for node in self.nodes:
            match node:
                case cst.Import() | cst.ImportFrom():
                    yield from (ApexUse(self.tree, node, path, None) for path in _imports(node) if removed(path))
                case cst.Name() | cst.Attribute() if self._whole(node) and (path := self.path(node)) is not None:
                    if path.count(".") > 1:
                        parent = self.names.parent[node]
                        call = parent if isinstance(parent, cst.Call) and parent.func is node else None
                        yield ApexUse(self.tree, node, path, call)

    def _whole(self, node: cst.Name | cst.Attribute) -> bool:
        """Whether a chain of names ends here and is read."""
        parents = self.names.parent
        match parents[node]:
            case (
                cst.Attribute() | cst.ImportAlias() | cst.AsName() | cst.AssignTarget() | cst.ImportFrom() | cst.Param()
            ):
                return False
            case cst.Arg(keyword=word) if word is node:
                return False
            case cst.FunctionDef(name=name) | cst.ClassDef(name=name) if name is node:
                return False
        return True

    def present(self, node: cst.CSTNode) -> bool:
        """Whether ``node`` is a module or a class of Apex, or a flag that says that it is installed."""
        if not isinstance(node, cst.Name):
            return False
        bindings = self.names.scope[node].lookup(node.value)
        if any(b.how is Bound.IMPORT for b in bindings):
            rest = (b for b in bindings if b.how is not Bound.IMPORT)
            return bool(self._apex(node)) and all(is_none(b.value) or _is(b.value, "False") for b in rest)
        values = [b.value for b in bindings]
        found = [b for b in bindings if _is(b.value, "True") and self._tries_apex(b.node)]
        return len(found) == 1 and all(_is(v, "True") or _is(v, "False") for v in values) and len(values) > 1

    def _apex(self, node: cst.CSTNode) -> bool:
        found = self.names.imported(node)
        return bool(found) and all(path == "apex" or path.startswith("apex.") for path in found)

    def _tries_apex(self, node: cst.CSTNode) -> bool:
        """Whether an assignment stands in a ``try`` whose body imports from what Apex no longer has."""
        around = next((p for p in self.tree.parents(node) if isinstance(p, cst.Try)), None)
        return around is not None and self.tries(around)

    def tries(self, statement: cst.Try) -> bool:
        """Whether all that a ``try`` imports is what Apex no longer has, and at least something."""
        lines = (line for line in blocks.statements(_suite(statement)) if isinstance(line, cst.SimpleStatementLine))
        found = [s for line in lines for s in line.body if isinstance(s, cst.Import | cst.ImportFrom)]
        return bool(found) and all(path == "apex" or removed(path) for s in found for path in _imports(s))

    @property
    def vendored(self) -> bool:
        """Whether an ``apex`` package lies in the project, beside a file or above it."""
        return has_package(self.tree.paths, "apex")

    @property
    def forked(self) -> bool:
        """Whether it is the fork for another accelerator, which is maintained."""
        imports = (n for n in self.nodes if isinstance(n, cst.Import | cst.ImportFrom))
        return any(path.partition(".")[0] == "torch_npu" for node in imports for path in _imports(node))


def _suite(statement: cst.Try) -> blocks.Block:
    assert isinstance(statement.body, blocks.Block)
    return statement.body


def _is(node: cst.CSTNode | None, name: str) -> bool:
    return isinstance(node, cst.Name) and node.value == name


def removed(path: str) -> bool:
    """Whether Apex no longer has what ``path`` names."""
    return any(path == gone or path.startswith(f"{gone}.") for gone in REMOVED)


def _known(path: str) -> str:
    """``apex.parallel.distributed.DistributedDataParallel`` is best known by its short path."""
    root, package, *rest = path.split(".")
    deep = len(rest) > 1 and (package == "parallel" or rest[-1] in FP16_UTILS)
    return ".".join((root, package, rest[-1])) if deep else path


def _imports(node: cst.Import | cst.ImportFrom) -> Iterator[str]:
    if isinstance(node, cst.Import):
        yield from (alias.evaluated_name for alias in node.names)
    elif not node.relative and node.module is not None:
        base = ".".join(dotted(node.module))
        names = ["*"] if isinstance(node.names, cst.ImportStar) else [alias.evaluated_name for alias in node.names]
        yield from (f"{base}.{name}" for name in names)
