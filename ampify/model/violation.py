"""What can be wrong with a scaler and its optimizers; found by `protocol`, reported by the rules AMP202 to AMP231."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampify.model.step import Act, OptimizerStep


class Wrong(Enum):
    UNSCALED_BACKWARD = auto()
    """A scaler steps with gradients of a backward that was not scaled."""
    BARE_STEP = auto()
    """The optimizer steps by itself with scaled gradients."""
    BARE_STEP_UNSCALED = auto()
    """The optimizer steps by itself after `unscale_`: nothing looks for infinities."""
    CLIP = auto()
    """Gradients are clipped while they are scaled."""
    CLIP_PER_BACKWARD = auto()
    """Such a clip runs more often than its optimizer steps: `unscale_` cannot simply go before it."""
    MISSING_UPDATE = auto()
    """An iteration ends after a step and before `update`."""
    DISCARDED_SCALE = auto()
    """The scaled loss is thrown away, and the plain one goes backward."""
    DOUBLE_STEP = auto()
    """The optimizer steps by itself and by the scaler, with the same gradients."""
    READ = auto()
    """Gradients are read while they are scaled."""
    WRITE = auto()
    """Gradients are changed, other than by a factor, while they are scaled."""
    UNSCALE_AGAIN = auto()
    """`unscale_` a second time before `update`."""
    BACKWARD_AFTER_UNSCALE = auto()
    """Scaled gradients are added to unscaled ones."""
    UNSCALE_AFTER_STEP = auto()
    """`unscale_` between a step and `update`."""
    IDLE_UPDATE = auto()
    """`update` where no optimizer was unscaled or stepped since the last one."""
    EARLY_UPDATE = auto()
    """`update` between a backward, or `unscale_`, and the step that its gradients are for."""
    SKIPPED_UPDATE = auto()
    """An iteration is left after `unscale_` and before `update`."""
    OTHER_SCALER = auto()
    """The loss was scaled by another scaler than the one that steps."""
    BACKWARD_TWICE = auto()
    """Two backwards of the same loss."""
    CLEARED = auto()
    """Gradients are cleared between backward and step."""
    SCALE_SET = auto()
    """The scale is set to another value between a backward and the step that its gradients are for."""


@dataclass(frozen=True, slots=True, eq=False)
class Violation:
    """One mistake: the act that is wrong, and the one that it is wrong with."""

    wrong: Wrong
    act: Act
    other: Act | None
    steps: tuple[OptimizerStep, ...]
    """The steps of the optimizers that it concerns."""
    when: tuple[tuple[str, bool], ...] = ()
    """The tests, and how they come out, on the paths where it happens; empty where it happens on every path."""
    mended: bool = False
    """On another path the same act is as it should be, so that a simple mend would break that one."""
