"""Losses that are computed outside autocast, from values that came out of a region in half precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from ampify.model.dtypes import Dtype, Dtypes
from ampify.model.enclosed import under_autocast
from ampify.model.forward import Forward
from ampify.model.regions import region_of
from ampify.model.step import Act, Backward, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.walk import keyword, walk_scope

_CLASSES = {"cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss", "multi_margin_loss", "MultiMarginLoss"}
"""Losses against class numbers: only the input has a dtype that counts."""
_VALUES = {
    "mse_loss", "MSELoss", "l1_loss", "L1Loss", "smooth_l1_loss", "SmoothL1Loss", "huber_loss", "HuberLoss", "kl_div",
    "KLDivLoss", "binary_cross_entropy_with_logits", "BCEWithLogitsLoss",
}  # fmt: skip
"""Losses against values, computed in the wider dtype of both."""
_MOVABLE = {"zero_grad", "to", "cuda", "size"}


@dataclass(frozen=True, slots=True, eq=False)
class HalfLossOutside:
    """A loss outside of all regions. ``between`` are the statements from the region to it, itself included, where
    these can move into the region; empty otherwise."""

    call: cst.Call
    region: cst.With
    between: tuple[cst.BaseStatement, ...]


def losses_outside(step: TrainingStep) -> Iterator[HalfLossOutside]:
    if step.code.amp.regions:
        yield from _Losses(step).found()


class _Losses:
    """The losses of one step."""

    def __init__(self, step: TrainingStep) -> None:
        self.step, self.code, self.tree, self.flow = step, step.code, step.tree, step.code.flow
        self.forward = Forward(step.context, step.every(Backward))

    def found(self) -> Iterator[HalfLossOutside]:
        nodes = dict.fromkeys(n for statement in self.forward.statements for n in self.flow.inside(statement))
        for call in (n for n in nodes if isinstance(n, cst.Call)):
            operands = self._operands(call)
            region = self._before(call) if operands and not under_autocast(self.code, call) else None
            if region is not None and all(map(self._half, operands)):
                yield HalfLossOutside(call, region, tuple(self._between(region, call)))

    def _operands(self, call: cst.Call) -> list[cst.BaseExpression]:
        """The arguments of a loss of PyTorch whose dtypes decide about its own."""
        paths = self.flow.names.imported(call.func) or self.forward.islands.made_by(call.func)
        names = {p.rpartition(".")[2] for p in paths if p.startswith("torch.nn.")}
        plain = [a.value for a in call.args if a.keyword is None and not a.star]
        given = [v for v in (*plain[:2], keyword(call, "input"), keyword(call, "target")) if v is not None]
        if not names or len(given) != 2:
            return []
        return given[:1] if names <= _CLASSES else given if names <= _VALUES else []

    @cached_property
    def _dtypes(self) -> Dtypes:
        inside = [n for r in self._regions for n in walk_scope(r.body) if region_of(self.code, n) is not None]
        return Dtypes(self.forward, "cuda", inside, frozenset())

    @cached_property
    def _regions(self) -> list[cst.With]:
        return [region for region in self.code.amp.regions if isinstance(region, cst.With)]

    def _half(self, operand: cst.BaseExpression) -> bool:
        return self._dtypes.of(operand) == {Dtype.HALF}

    def _before(self, call: cst.Call) -> cst.With | None:
        """The region above a loss in its function."""
        function, at = self.flow.function(call), self.tree.span(call).start
        above = [r for r in self._regions if self.flow.function(r) is function and self.tree.span(r).start < at]
        return max(above, key=lambda r: self.tree.span(r).start, default=None)

    def _between(self, region: cst.With, call: cst.Call) -> list[cst.BaseStatement]:
        block = blocks.block_of(self.tree, region)
        last = blocks.stands_in(self.tree, call, block)
        if not isinstance(block, cst.IndentedBlock | cst.Module) or last is None or len(region.items) > 1:
            return []
        held = [*block.body]
        run = [s for s in held[held.index(region) + 1 :] if self.tree.span(s).end <= self.tree.span(last).end]
        alone = all(isinstance(s, cst.SimpleStatementLine) and len(s.body) == 1 for s in run)
        parted = any(self.tree.parted(a, b) for a, b in zip([region, *run], run, strict=False))
        if not alone or parted or any(map(self._acts, run)) or not all(map(self._moves, run[:-1])):
            return []
        return run

    def _acts(self, statement: cst.CSTNode) -> bool:
        acts: list[Act] = self.step.context.direct[self.flow.function(statement)]
        return any(self.tree.contains(statement, act.node) for act in acts)

    def _moves(self, statement: cst.CSTNode) -> bool:
        """Whether a statement is the same under autocast."""
        calls = (n.func for n in walk_scope(statement) if isinstance(n, cst.Call))
        products = any(isinstance(n, cst.MatrixMultiply) for n in walk_scope(statement))
        return not products and all(isinstance(f, cst.Attribute) and f.attr.value in _MOVABLE for f in calls)
