"""Products that float16 has no kernel or no room for, in what runs under autocast: they get a subregion in float32.

A subregion is PyTorch's term for a block in which autocast is switched off again
(https://docs.pytorch.org/docs/stable/amp.html#torch.autocast). Only the operands are cast, so a statement that computes
more than reshapes and arithmetic beside the product is left to be refused. TorchScript takes no device from a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model import gram, operators, sparse
from ampify.model import vocabulary as words
from ampify.model.dtypes import Dtype, Dtypes
from ampify.model.flow import Flow
from ampify.model.step import Subregion
from ampify.syntax import blocks
from ampify.syntax.blocks import Function
from ampify.syntax.walk import arguments

if TYPE_CHECKING:
    from ampify.model.running import Running

_DEVICE = "cuda"
_LISTED = operators.POLICIES[_DEVICE].half | operators.POLICIES[_DEVICE].float32 | operators.POLICIES[_DEVICE].widest
_FREE = (operators.KEEPING | operators.MEETING | operators.WHOLE) - _LISTED
"""What autocast has no say in."""

_DOUBLES = {"double", "float64", "DoubleTensor"}


def has_no_half(flow: Flow, call: cst.Call) -> bool:
    """Whether a call is of a function of PyTorch that has no kernel for half precision."""
    paths = flow.names.imported(call.func)
    return bool(paths & words.NO_HALF) or any(p.startswith(words.NO_HALF_MODULES) for p in paths)


class Subregions:
    """The products in the functions that regions reach, by the statement that a subregion is for."""

    def __init__(self, running: Running) -> None:
        self.running, self.flow, self.tree = running, running.flow, running.forward.tree

    @cached_property
    def candidates(self) -> dict[cst.CSTNode, cst.BaseSmallStatement]:
        """The products for which the shape of the code allows a subregion, each with its statement."""
        found: dict[cst.CSTNode, cst.BaseSmallStatement] = {}
        for function in self.running.functions:
            for node in self.flow.body[function]:
                if self._operands(node) and (statement := self._alone(node)) is not None:
                    found[node] = statement
        return found if not found or not self._scripted() else {}

    def found(self, dtypes: Dtypes) -> Iterator[Subregion]:
        """One for each statement, with the operands that are to be cast."""
        for statement in dict.fromkeys(self.candidates.values()):
            products = [node for node, at in self.candidates.items() if at is statement]
            operands = [o for node in products for o in self._operands(node)]
            casts = [o for o in operands if self._cast(o, dtypes)]
            device = next((o for o in (*casts, *operands) if isinstance(o, cst.Name)), None)
            if device is not None and (_float32(operands, dtypes) or all(map(self._squares, products))):
                yield Subregion(statement, tuple(casts), device)

    def _operands(self, node: cst.CSTNode) -> Sequence[cst.BaseExpression]:
        """The matrices of a product that must not run in half precision; none of another expression."""
        factors = gram.factors(self.flow, node)
        if isinstance(node, cst.Call) and has_no_half(self.flow, node):
            plain = not any(a.keyword or a.star for a in node.args)
            return [*arguments(node)] if plain else ()
        if (pair := gram.product(self.flow, node)) is not None and not gram.bounded(self.flow, pair):
            return factors
        layouts = [sparse.layouts(self.flow, factor) for factor in factors]
        raising = any(layouts) and any(sparse.raises(layouts[0], layouts[-1], d) for d in operators.POLICIES)
        return factors if raising else ()

    def _squares(self, product: cst.CSTNode) -> bool:
        """Whether both operands are one tensor, and the files around name no double precision."""
        return gram.product(self.flow, product) is not None and not self._doubled

    def _alone(self, node: cst.CSTNode) -> cst.BaseSmallStatement | None:
        """The statement of a product, where it stands on lines of its own and computes little else."""
        statement = blocks.small_statement_of(self.tree, node)
        line = self.flow.names.parent[statement]
        if not isinstance(statement, cst.Assign | cst.Return) or not isinstance(line, cst.SimpleStatementLine):
            return None
        if len(line.body) > 1 or any(id(n) in self._wrapped for n in (statement, line)):
            return None
        inside = [n for n in self.flow.inside(statement) if n is not node]
        return statement if not any(map(self._computes, inside)) else None

    def _computes(self, node: cst.CSTNode) -> bool:
        """Whether an expression may depend on autocast, or runs at another time than its statement."""
        match node:
            case cst.Lambda() | cst.BaseComp() | cst.NamedExpr() | cst.Await() | cst.Yield():
                return True
            case cst.BinaryOperation(operator=cst.MatrixMultiply() | cst.Power()) | cst.Call() if self._operands(node):
                return False
            case cst.BinaryOperation(operator=cst.MatrixMultiply() | cst.Power()):
                return True
            case cst.Call(func=func):
                name = func.attr.value if isinstance(func, cst.Attribute) else getattr(func, "value", "")
                return name not in _FREE or self.flow.callee(node) is not None
        return False

    @cached_property
    def _wrapped(self) -> set[int]:
        """What stands in a region itself."""
        return {id(n) for n in self.running.inside}

    def _scripted(self) -> bool:
        nodes = (n for n in self.tree.nodes() if isinstance(n, cst.Name | cst.Attribute))
        return any(p.startswith("torch.jit.") for n in nodes for p in self.flow.names.imported(n))

    @cached_property
    def _doubled(self) -> bool:
        own = {self.tree.module(function) for function in (*self.running.functions, *self._homes)}
        doubles = (node for node in self.tree.all(cst.Attribute) if node.attr.value in _DOUBLES)
        return any(self.tree.module(node) in own for node in doubles)

    @property
    def _homes(self) -> list[Function]:
        return [region.function for region in self.running.forward.runs.found]

    def _cast(self, operand: cst.BaseExpression, dtypes: Dtypes) -> bool:
        """Whether an operand may be in half precision; a sparse matrix, which autocast makes none of, is not."""
        found = dtypes.of(operand)
        return Dtype.HALF in found or not (dtypes.unchanged([operand]) or self._is_sparse(operand))

    def _is_sparse(self, operand: cst.BaseExpression) -> bool:
        call = next((n for n in self.tree.parents(operand) if isinstance(n, cst.Call)), None)
        first = call is not None and call.args[0].value is operand
        named = first and call is not None and bool(self.flow.names.imported(call.func) & words.SPARSE_PRODUCTS)
        return named or bool(sparse.layouts(self.flow, operand))


def _float32(operands: Sequence[cst.BaseExpression], dtypes: Dtypes) -> bool:
    """Whether one operand is known to be float32 without autocast: the others were, too, or nothing ran."""
    return any(isinstance(kind, Dtype) and kind is not Dtype.WHOLE for o in operands for kind in dtypes.of(o))
