"""Gradients that a step leaves behind unscaled, and that a later backward would add scaled ones to.

`unscale_` divides all of a gradient by the scale, what was left in it before included: the sum is that of no loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property

import libcst as cst

from ampify.model.events import Clear, Event, Optimizer
from ampify.model.origins import related
from ampify.model.paths import Paths, Script, World
from ampify.model.roles import Role
from ampify.model.scaling import Scaling
from ampify.model.step import Backward, OptimizerStep, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.blocks import Function


class Left(Enum):
    """What the gradients of an optimizer are."""

    NOTHING = auto()
    FRESH = auto()
    """All from backwards since they were cleared."""
    SPENT = auto()
    """A step has unscaled and used them."""


@dataclass(frozen=True, slots=True)
class State:
    """The gradients of an optimizer on a path; ``added`` is a backward that has added to spent ones."""

    left: Left = Left.NOTHING
    added: Backward | None = None


def added_to_spent(step: TrainingStep) -> Iterator[Backward]:
    """The backwards that add to spent gradients which are then stepped with."""
    scaling = Scaling(step)
    for optimizer in scaling.optimizers:
        yield from _Run(scaling, optimizer).found()


class _Run:
    """The analysis of one optimizer."""

    def __init__(self, scaling: Scaling, optimizer: Optimizer) -> None:
        self.scaling, self.optimizer, self.flow = scaling, optimizer, scaling.flow
        self._found: dict[Backward, None] = {}

    def found(self) -> list[Backward]:
        """Functions that unseen code calls are run again after each other; what it may clear there is not known."""
        script = Script(self._happenings, self._advance, lambda world, _: world.state, self.scaling.decide)
        paths, roots = Paths(self.scaling.tree, script), self.scaling.roots
        again = [] if self._cleared_elsewhere else [r for r in roots if isinstance(r, cst.FunctionDef)]
        seen: set[State] = set()
        fresh = {world.state for root in roots for world in paths.run(root, State())}
        while fresh - seen:
            seen |= fresh
            fresh = {world.state for root in again for state in fresh for world in paths.run(root, state)}
        return [*self._found]

    def _advance(self, world: World[State], happening: object) -> State:
        state = world.state
        match happening:
            case Backward() if self._reached(happening):
                adds = state.left is Left.SPENT and not self._replaces(happening)
                return replace(state, added=state.added or happening) if adds else State(Left.FRESH)
            case OptimizerStep() if happening in self.optimizer.steps or self._shares(happening.optimizer):
                if state.added is not None and happening in self.optimizer.steps:
                    self._found[state.added] = None
                return State(Left.SPENT)
            case Clear(owner=owner) if self._cleared(happening, owner):
                return State()
        return state

    def _reached(self, act: Backward) -> bool:
        """Whether a backward may give gradients to this optimizer."""
        known = self.optimizer.owned and self.scaling.modules(act)
        return not known or self.scaling.event(act, self.optimizer) is not Event.SOME_BACKWARD

    def _replaces(self, act: Backward) -> bool:
        """Whether gradients are put where others were: ``p.grad = g``."""
        return isinstance(act.node, cst.Call) and bool(self.scaling.acts.gradients.writes(act.node))

    def _shares(self, optimizer: cst.BaseExpression) -> bool:
        """Whether another optimizer was made with the same modules."""
        places = self.scaling.origins.of(optimizer)
        others = (o for o in self.scaling.optimizers if related(o.places, places))
        return any(related(o.owned, self.optimizer.owned) for o in others)

    def _cleared(self, act: Clear, owner: cst.BaseExpression | None) -> bool:
        if self.scaling.event(act, self.optimizer) is Event.CLEAR:
            return True
        return owner is not None and (self._shares(owner) or self._may_be_mine(owner))

    def _may_be_mine(self, owner: cst.BaseExpression) -> bool:
        """Whether it cannot be told which optimizer of the step is cleared: ``wrapper.inner.zero_grad()``."""
        places = self.scaling.origins.of(owner)
        known = any(related(o.places, places) for o in self.scaling.optimizers)
        return self.scaling.code.roles.of(owner) is Role.OPTIMIZER and not known

    # ------------------------------------------------------------------ what happens

    @cached_property
    def _happenings(self) -> dict[cst.CSTNode, list[object]]:
        """The acts, and as clears the calls of functions that do nothing else to gradients."""
        found = {node: [*items] for node, items in self.scaling.happenings.items()}
        for call, function in self._clearing:
            statement = blocks.small_statement_of(self.scaling.tree, call)
            found.setdefault(statement, []).insert(0, Clear(call, function, None))
        return found

    @cached_property
    def _clearing(self) -> list[tuple[cst.Call, Function]]:
        acting, functions = self.scaling.acts.carrying, self.scaling.reached
        calls = [(n, f) for f in functions for n in self.flow.body[f] if isinstance(n, cst.Call)]
        called = [(call, f, callee) for call, f in calls if (callee := self.flow.callee(call)) is not None]
        return [(call, f) for call, f, callee in called if callee not in acting and self._clears(callee)]

    def _clears(self, function: cst.FunctionDef) -> bool:
        inside = (n for f in (function, *self.flow.reachable(function)) for n in self.flow.body[f])
        return any(isinstance(n, cst.Attribute) and n.attr.value == "zero_grad" for n in inside)

    @property
    def _cleared_elsewhere(self) -> bool:
        outside = (f for f in self.flow.functions if f not in self.scaling.reached)
        return any(
            isinstance(n, cst.Attribute) and n.attr.value == "zero_grad" for f in outside for n in self.flow.body[f]
        )
