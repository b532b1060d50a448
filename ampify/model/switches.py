"""Flags that switch mixed precision on: code for the case that it is off is not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import libcst as cst

from ampify.model.step import Code
from ampify.syntax.walk import dotted, is_none, keyword, walk

_WORDS = {"amp", "fp16", "half", "mixed", "float16", "autocast"}
_OFF = {"no", "not", "disable", "disabled", "without", "skip"}


class Switches:
    """How tests come out where the scaler is on."""

    def __init__(self, code: Code) -> None:
        self.code, self.tree, self.amp = code, code.tree, code.amp

    @cached_property
    def off(self) -> bool:
        """Whether every scaler of the file is made with ``enabled=False``."""
        made = [n for n in self.tree.all(cst.Call) if self.amp.is_scaler_call(n)]
        given = [keyword(call, "enabled") for call in made]
        return bool(given) and all(isinstance(g, cst.Name) and g.value == "False" for g in given)

    def decide(self, test: cst.BaseExpression) -> bool | None:
        """How ``test`` comes out; None where mixed precision does not decide that."""
        match test:
            case cst.Name() | cst.Attribute() if self.amp.is_scaler(test):
                return True
            case cst.Call(func=cst.Attribute(value=scaler, attr=cst.Name(value="is_enabled"))):
                return True if self.amp.is_scaler(scaler) else None
            case cst.Call(func=cst.Name(value="hasattr"), args=[_, cst.Arg(value=cst.SimpleString() as name)]):
                return True if "scaler" in str(name.evaluated_value) else None
            case cst.Name() | cst.Attribute():
                return self._flag(dotted(test)[-1]) if dotted(test) else None
        return self._known.get(self.tree.text(test))

    def _flag(self, name: str) -> bool | None:
        if name in self._known:
            return self._known[name]
        words = {*name.lower().strip("_").split("_")}
        return not words & _OFF if words & _WORDS else None

    @cached_property
    def _known(self) -> dict[str, bool]:
        """Flags by name, other tests by text."""
        return {
            key: truth
            for test, on in self._guards()
            for key, truth in self._atoms(test, on)
        }  # fmt: skip

    def _guards(self) -> Iterator[tuple[cst.BaseExpression, bool]]:
        """What decides whether a scaler or an autocast region does anything."""
        for node in self.amp.nodes:
            match node:
                case cst.Call() if self.amp.is_scaler_call(node) or self.amp.makes_autocast(node.func):
                    if (enabled := keyword(node, "enabled")) is not None:
                        yield enabled, True
                case cst.IfExp(test=test, body=body, orelse=orelse) if self.amp.is_scaler(node):
                    if is_none(orelse) or is_none(body):
                        yield test, is_none(orelse)
        for made in self.amp.scalers:
            yield from self._around(made)

    def _around(self, made: cst.CSTNode) -> Iterator[tuple[cst.BaseExpression, bool]]:
        """The tests that stand before a scaler is made, where the other branch makes none."""
        child = made
        for parent in self.tree.parents(made):
            match parent:
                case cst.FunctionDef() | cst.ClassDef():
                    return
                case cst.If(test=test, body=body, orelse=orelse):
                    other = orelse if child is body else body
                    if other is None or not any(n in self._makers for n in walk(other)):
                        yield test, child is body
            child = parent

    @cached_property
    def _makers(self) -> set[cst.CSTNode]:
        return {*self.amp.scalers}

    def _atoms(self, test: cst.BaseExpression, on: bool) -> Iterator[tuple[str, bool]]:
        match test:
            case cst.UnaryOperation(operator=cst.Not(), expression=inner):
                yield from self._atoms(inner, not on)
            case cst.BooleanOperation(left=left, operator=cst.And(), right=right) if on:
                yield from self._atoms(left, on)
                yield from self._atoms(right, on)
            case cst.Name(value="True" | "False"):
                return
            case cst.Name() | cst.Attribute() if chain := dotted(test):
                yield chain[-1], on
            case _:
                yield self.tree.text(test), on
