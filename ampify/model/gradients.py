"""Where gradients go besides the optimizer: values made of them, processes that they are summed over."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.flow import Flow, How, Place
from ampify.syntax.walk import arguments, walk


class Gradients:
    """The gradients that one file takes into its own hands."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def reduces(self, call: cst.Call) -> bool:
        """Whether a call exchanges gradients with other processes."""
        paths = self.flow.names.imported(call.func)
        collective = any(p.startswith(words.COLLECTIVE_MODULES) for p in paths)
        return collective and any(map(self.holds, arguments(call)))

    def holds(self, value: cst.CSTNode) -> bool:
        """Whether gradients are part of a value, through names and containers."""
        seen: set[Place] = set()
        stack = [value]
        while stack:
            for node in walk(stack.pop()):
                if isinstance(node, cst.Attribute) and node.attr.value == "grad":
                    if not self.flow.names.imported(node):
                        return True
                if isinstance(node, cst.Name) and (place := self.flow.place(node)) and place not in seen:
                    seen.add(place)
                    stack += self._kept(place)
        return False

    def _kept(self, place: Place) -> Iterator[cst.CSTNode]:
        """What a place was given."""
        for d in self.flow.assigned(place):
            if d.how is How.PARAM:
                yield from self.flow.passed(d)
            elif d.value is not None:
                yield d.value
