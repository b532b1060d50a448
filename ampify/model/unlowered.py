"""Forwards of which autocast runs nothing in half precision: embeddings, sums and products by element, and no more.

Only what is in sight counts: one module or function that is not known, and the forward may have use of autocast.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model import libraries, operators
from ampify.model import vocabulary as words
from ampify.model.makers import Makers
from ampify.model.roles import Role
from ampify.syntax import blocks

if TYPE_CHECKING:
    from ampify.model.forward import Forward

_HALF = operators.POLICIES["cuda"].half | {"tensordot", "inner", "chain_matmul", "multi_dot", "bilinear", "affine"}
_PLAIN = {"Embedding", "EmbeddingBag", "Module", "ModuleList", "ModuleDict", "Parameter", "ParameterList", "Sequential"}
_INERT = _PLAIN | operators.KEEPING_MODULES | {
    name for name, operator in operators.MODULES.items() if operator not in operators.POLICIES["cuda"].half
}  # fmt: skip
"""Modules of `torch.nn` that autocast runs in float32, or that leave the dtype as it is."""
_HARMLESS = ("torch.nn.functional.", "torch.nn.init.", "torch.nn.utils.", "torch.nn.parameter.", "torch.nn.modules.")


def nothing(forward: Forward) -> bool:
    """Whether nothing of a text can be run in half precision by autocast."""
    scan = _Scan(forward)
    return all(map(scan.inert, forward.tree.nodes())) and scan.known()


class _Scan:
    """The nodes of a text, one after the other."""

    def __init__(self, forward: Forward) -> None:
        self.forward, self.flow, self.roles, self.tree = forward, forward.flow, forward.roles, forward.tree
        self._makers = Makers(forward.flow, forward.roles)

    def inert(self, node: cst.CSTNode) -> bool:
        """Whether a node neither multiplies matrices nor makes or runs what may; a library is judged by its table."""
        if self._libraries and self.tree.module(node) in self._libraries:
            return True
        match node:
            case cst.BinaryOperation(operator=cst.MatrixMultiply()):
                return not self._reached(node)
            case cst.Call(func=func):
                paths = self.flow.names.imported(func) or frozenset(self._defined(func))
                return all(self._inert(path, node) for path in paths) if paths else self._method(node)
        return True

    @cached_property
    def _libraries(self) -> set[cst.Module]:
        files = zip(self.tree.modules, self.tree.paths, strict=False)
        return {module for module, path in files if any(libraries.defined(path, ""))}

    def _defined(self, func: cst.BaseExpression) -> Iterator[str]:
        """The import paths of a class or function of a library that is among the files."""
        if self._libraries and (named := self.flow.named(func)) is not None:
            yield from libraries.defined(self.tree.path(named) or "", named.name.value)

    def _reached(self, node: cst.CSTNode) -> bool:
        """Whether a node may run in a region: there, in what is called from there, or in a method of any class."""
        if self.forward.running.shielded(node):
            return False
        function = self.flow.function(node)
        return node in self._running or function in self._called or blocks.class_of(self.tree, function) is not None

    @cached_property
    def _called(self) -> set[cst.FunctionDef]:
        calls = (n for n in self._running if isinstance(n, cst.Call))
        direct = {callee for call in calls if (callee := self.flow.callee(call)) is not None}
        return direct.union(*(self.flow.reachable(function) for function in direct))

    def _inert(self, path: str, call: cst.Call) -> bool:
        package, name = path.partition(".")[0], path.rpartition(".")[2]
        if package != "torch":
            return package in sys.stdlib_module_names or libraries.lowers_nothing(path) or self._outside(call)
        if path.startswith("torch.nn.") and not path.startswith(_HARMLESS) and name[0].isupper():
            return name in _INERT or bool({path} & words.MODULE_WRAPPERS)
        return (name.rstrip("_") not in _HALF or not self._reached(call)) and path not in (
            "torch.load",
            "torch.hub.load",
            "torch.jit.load",
        )

    def _outside(self, call: cst.Call) -> bool:
        """Whether a call of a library makes no module, and runs neither in a region nor in what has a forward."""
        cls = blocks.class_of(self.tree, self.flow.function(call))
        within = cls is not None and self.flow.method(cls, "forward") is not None
        return self.roles.of(call) is not Role.MODULE and call not in self._running and not within

    @cached_property
    def _running(self) -> set[cst.CSTNode]:
        regions = self.forward.runs.found
        inside = {n for region in regions for s in region.statements for n in self.flow.inside(s)}
        return inside | {n for r in regions for h in r.hoists for n in self.flow.inside(h.expression)}

    def _method(self, call: cst.Call) -> bool:
        name = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
        return name.rstrip("_") not in _HALF or not self._reached(call)

    def known(self) -> bool:
        """Whether it is in sight what makes each module that a region runs."""
        calls = [n for n in self._running if isinstance(n, cst.Call)]
        funcs = [c.func for c in calls if self.roles.of(c.func) is Role.MODULE]
        funcs += [c.func.value for c in calls if isinstance(c.func, cst.Attribute) and self._of_module(c.func)]
        return bool(funcs) and all(self._made(func) for func in funcs)

    def _of_module(self, func: cst.Attribute) -> bool:
        return self.roles.of(func.value) is Role.MODULE and self.roles.of(func) is not Role.MODULE

    def _made(self, func: cst.BaseExpression) -> bool:
        makers = [*self._makers.of(func, drawn=True)]
        return bool(makers) and all(isinstance(m, cst.Call) and self._class(m.func) for m in makers)

    def _class(self, func: cst.BaseExpression) -> bool:
        """Whether the class of a module is in the text, down to `torch.nn.Module`, or of a library and known."""
        cls = self.flow.named(func)
        if isinstance(cls, cst.ClassDef):
            if known := [*self._defined(func)]:
                return any(map(libraries.lowers_nothing, known))
            return all(self._class(base.value) for base in cls.bases)
        if isinstance(func, cst.Subscript):  # out of a table
            place = self.flow.place(func.value)
            tables = [d.value for d in self.flow.assigned(place)] if place is not None else []
            return bool(tables) and all(isinstance(t, cst.Dict) and self._all(t) for t in tables)
        paths = self.flow.names.imported(func)
        return bool(paths) and all(libraries.lowers_nothing(p) or _is_inert(p) for p in paths)

    def _all(self, table: cst.Dict) -> bool:
        return all(isinstance(e, cst.DictElement) and self._class(e.value) for e in table.elements)


def _is_inert(path: str) -> bool:
    return path.startswith("torch.nn.") and path.rpartition(".")[2] in _INERT
