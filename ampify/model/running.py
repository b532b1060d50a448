"""What runs under autocast once a step is converted, and the dtypes of the values in it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model import fills, operators
from ampify.model.dtypes import Dtype, Dtypes
from ampify.model.makers import Makers
from ampify.model.step import Subregion
from ampify.model.stores import Stores
from ampify.model.subregions import Subregions

if TYPE_CHECKING:
    from ampify.model.forward import Forward


class Running:
    """The nodes of the regions of a forward, ``inside``, and the ``functions`` that they reach."""

    def __init__(self, forward: Forward) -> None:
        self.forward, self.flow = forward, forward.flow
        self.inside = [n for region in forward.runs.found for s in region.statements for n in self.flow.inside(s)]
        self.inside += [n for r in forward.runs.found for h in r.hoists for n in self.flow.inside(h.expression)]
        self._makers = Makers(forward.flow, forward.roles)
        self._exact, self.stores = Subregions(self), Stores(forward, self)

    @cached_property
    def functions(self) -> tuple[cst.FunctionDef, ...]:
        """The functions of these files that regions reach, overriding methods included."""
        found: dict[cst.FunctionDef, None] = {}
        calls = [n for n in self.inside if isinstance(n, cst.Call)]
        while calls:
            for function in self._run_by(calls.pop()):
                if function not in found:
                    found[function] = None
                    calls += self.flow.calls_in[function]
        return tuple(found)

    def _run_by(self, call: cst.Call) -> Iterator[cst.FunctionDef]:
        callee = self.flow.callee(call)
        for function in (callee,) if callee is not None else self._makers.forwards(call.func):
            yield from self.flow.overridden(function)

    @cached_property
    def dtypes(self) -> dict[str, Dtypes]:
        """The dtypes of values, by kind of device."""
        exact = self._exact.candidates
        off = [n for statement in exact.values() for n in self.flow.inside(statement)]
        devices = operators.POLICIES
        return {d: Dtypes(self.forward, d, self.inside, self.functions, off, exact) for d in devices}

    @cached_property
    def subregions(self) -> tuple[Subregion, ...]:
        """Where autocast is switched off again."""
        return tuple(self._exact.found(self.dtypes["cuda"]))

    def shielded(self, node: cst.CSTNode) -> bool:
        """Whether a product runs in a subregion."""
        return any(self._exact.candidates.get(node) is s.statement for s in self.subregions)

    def filled(self) -> Iterator[cst.BaseExpression]:
        """The tensors in half precision of which a copy gets a number that float16 cannot hold."""
        calls = [n for n in self.inside if isinstance(n, cst.Call)]
        for call in (*calls, *(call for function in self.functions for call in self.flow.calls_in[function])):
            if fills.overfills(self.flow, call) and self.copies_half(call):
                yield from fills.tensors(self.flow, call)

    def copies_half(self, call: cst.Call) -> bool:
        """Whether a call copies tensors that surely are in half precision, so that they can be made float32 for it."""
        given = fills.tensors(self.flow, call)
        copied = fills.named(call) in fills.COPYING and bool(given)
        return copied and all(self.dtypes["cuda"].of(tensor) == {Dtype.HALF} for tensor in given)
