"""What can happen to the gradients of an optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import libcst as cst

from ampify.model.definitions import Place
from ampify.model.step import Act, OptimizerStep


class Event(Enum):
    """What an act is to one optimizer."""

    SCALED_BACKWARD = auto()
    PLAIN_BACKWARD = auto()
    SOME_BACKWARD = auto()
    """It may or may not reach the parameters of this optimizer, or scale by itself."""
    FOREIGN_BACKWARD = auto()
    """Scaled by another scaler than the one that steps this optimizer."""
    UNSCALE = auto()
    CLIP = auto()
    READ = auto()
    WRITE = auto()
    """Gradients are changed other than by a factor."""
    CHANGE = auto()
    """Gradients are changed or handed on: perhaps that unscales them."""
    STEP = auto()
    BARE_STEP = auto()
    UPDATE = auto()
    SET_SCALE = auto()
    """``update(scale)``."""
    LEAVE = auto()
    """A jump leaves the iteration."""
    CLEAR = auto()
    HIDDEN = auto()
    """Code that cannot be seen is given the scaler."""
    LAP = auto()
    """The next iteration begins."""
    EPOCH = auto()
    """The next loop over iterations begins: what was known in the last one is not known any more."""


@dataclass(frozen=True, slots=True, eq=False)
class Clear(Act):
    """``zero_grad()``, or gradients set to None or zero by hand; ``owner`` has it called."""

    owner: cst.BaseExpression | None


@dataclass(frozen=True, slots=True, eq=False)
class Hidden(Act):
    """A call of a function that cannot be seen, with the scaler or the object that holds it as an argument."""


@dataclass(frozen=True, slots=True, eq=False)
class Leave(Act):
    """``continue`` or ``return`` that ends an iteration before its last statement."""


@dataclass(frozen=True, slots=True, eq=False)
class Discarded(Act):
    """``scaler.scale(loss)`` whose result nothing uses."""


@dataclass(frozen=True, slots=True, eq=False)
class Optimizer:
    """One optimizer of a step, however many names it has."""

    places: frozenset[Place]
    steps: tuple[OptimizerStep, ...]
    scalers: frozenset[Place]
    """Of the scaler that steps it."""
    owned: frozenset[Place]
    """The modules whose parameters it was made with; empty where that is not known."""
    plural: bool = False
    """It may be several objects, taken one after the other."""
    wrapped: bool = False
    """A function was given it and has given it back, perhaps as something else: what its step does is not known."""
