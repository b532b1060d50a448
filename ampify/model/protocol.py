"""The protocol of a GradScaler: what happens to the gradients of each optimizer on every path of an iteration.

Two small automata per optimizer: what its gradients are, and what its scaler has noted since the last `update`.
A rule of the AMP2xx family is one more row in a table. What cannot be known is silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto

import libcst as cst

from ampify.model.paths import Fact, Paths, Script, World
from ampify.model.scaling import Event, Optimizer, Scaling
from ampify.model.step import Act, Backward, GradientUse, OptimizerStep, TrainingStep
from ampify.model.violation import Violation, Wrong
from ampify.syntax.blocks import Function


class Gradients(Enum):
    """What the gradients of an optimizer are."""

    NONE = auto()
    """Cleared, or spent by a step."""
    SCALED = auto()
    CLIPPED = auto()
    """Clipped while they were scaled."""
    TRUE = auto()
    """Unscaled again."""
    PLAIN = auto()
    """In full or in part from a backward that was never scaled."""
    UNKNOWN = auto()


class Stage(Enum):
    """What a scaler has noted for an optimizer since the last `update`."""

    READY = auto()
    UNSCALED = auto()
    STEPPED = auto()
    STALE = auto()
    """Stepped in an iteration that is over."""
    UNKNOWN = auto()


G, S, E = Gradients, Stage, Event

GRADIENTS: dict[tuple[Event, Gradients], tuple[Gradients, Wrong | None]] = {
    **{(E.CLEAR, g): (G.NONE, None) for g in G},
    (E.CLEAR, G.CLIPPED): (G.NONE, Wrong.CLIP_PER_BACKWARD),
    **{(E.SCALED_BACKWARD, g): (G.SCALED, None) for g in (G.NONE, G.UNKNOWN)},
    (E.SCALED_BACKWARD, G.CLIPPED): (G.CLIPPED, Wrong.CLIP_PER_BACKWARD),
    (E.SCALED_BACKWARD, G.TRUE): (G.UNKNOWN, None),
    **{(E.PLAIN_BACKWARD, g): (G.PLAIN, None) for g in (G.NONE, G.SCALED, G.CLIPPED)},
    (E.PLAIN_BACKWARD, G.TRUE): (G.TRUE, None),
    **{(E.SOME_BACKWARD, g): (G.UNKNOWN, None) for g in G},
    (E.UNSCALE, G.SCALED): (G.TRUE, None),
    (E.UNSCALE, G.CLIPPED): (G.TRUE, None),
    (E.CLIP, G.SCALED): (G.CLIPPED, Wrong.CLIP),
    (E.CHANGE, G.SCALED): (G.UNKNOWN, None),
    **{(E.STEP, g): (G.NONE, None) for g in G},
    (E.STEP, G.PLAIN): (G.NONE, Wrong.UNSCALED_BACKWARD),
    **{(E.BARE_STEP, g): (G.NONE, None) for g in G},
    (E.BARE_STEP, G.SCALED): (G.NONE, Wrong.BARE_STEP),
    (E.BARE_STEP, G.CLIPPED): (G.NONE, Wrong.BARE_STEP),
    (E.BARE_STEP, G.TRUE): (G.NONE, Wrong.BARE_STEP_UNSCALED),
    **{(E.HIDDEN, g): (G.UNKNOWN, None) for g in (G.SCALED, G.CLIPPED, G.TRUE, G.PLAIN)},
}
"""What an event makes of gradients, and what is wrong about it; what is not listed changes nothing."""

STAGES: dict[tuple[Event, Stage], tuple[Stage, Wrong | None]] = {
    (E.UNSCALE, S.READY): (S.UNSCALED, None),
    (E.UNSCALE, S.UNKNOWN): (S.UNSCALED, None),
    (E.UNSCALE, S.STALE): (S.UNSCALED, Wrong.MISSING_UPDATE),
    **{(E.STEP, s): (S.STEPPED, None) for s in S},
    (E.STEP, S.STALE): (S.STEPPED, Wrong.MISSING_UPDATE),
    **{(E.UPDATE, s): (S.READY, None) for s in S},
    (E.LAP, S.STEPPED): (S.STALE, None),
    **{(E.HIDDEN, s): (S.UNKNOWN, None) for s in (S.UNSCALED, S.STEPPED, S.STALE)},
}
"""The same for what the scaler has noted."""


@dataclass(frozen=True, slots=True)
class State:
    """Where one optimizer is on a path, and the acts that brought it there."""

    gradients: Gradients = Gradients.NONE
    stage: Stage = Stage.READY
    backwards: tuple[Backward, ...] = ()
    """Those whose gradients are still there."""
    clip: GradientUse | None = None
    """The first one that met scaled gradients."""
    step: OptimizerStep | None = None
    """The last one by the scaler."""


def checked(step: TrainingStep) -> TrainingStep:
    """``step`` with its violations."""
    return replace(step, violations=tuple(violations(step))) if step.scaled else step


def violations(step: TrainingStep) -> Iterator[Violation]:
    """What a step does against the protocol, each thing once for all optimizers that it concerns."""
    found: dict[tuple[Wrong, Act], list[Violation]] = {}
    scaling = Scaling(step)
    for optimizer in scaling.optimizers:
        for violation in _Run(scaling, optimizer).violations():
            found.setdefault((violation.wrong, violation.act), []).append(violation)
    for same in found.values():
        steps = dict.fromkeys(s for v in same for s in v.steps)
        yield replace(same[0], steps=tuple(steps), mended=any(v.mended for v in same))


class _Run:
    """The analysis of one optimizer."""

    def __init__(self, scaling: Scaling, optimizer: Optimizer) -> None:
        self.scaling, self.optimizer = scaling, optimizer
        self.found: dict[tuple[Wrong, Act, Act | None], list[frozenset[Fact]]] = {}
        self.harmless: set[Act] = set()
        """Acts that are also reached on paths where nothing is wrong."""
        self.mended: set[Act | None] = set()

    def violations(self) -> Iterator[Violation]:
        for root in self.scaling.roots:
            self._explore(root)
        for (wrong, act, other), facts in self.found.items():
            common = frozenset.intersection(*facts) if act in self.harmless else frozenset()
            when = tuple(sorted((f.text, f.truth) for f in common))
            yield Violation(wrong, act, other, self.optimizer.steps, when, act in self.mended)

    def _explore(self, root: Function) -> None:
        scaling = self.scaling
        script = Script(
            {node: self._translated(items) for node, items in scaling.happenings.items()},
            self._advance, self._lap, scaling.decide, scaling.dead, scaling.laps,
        )  # fmt: skip
        paths = Paths(self.scaling.tree, script)
        unsure = len(scaling.roots) > 1
        ends = paths.run(root, State(G.UNKNOWN, S.UNKNOWN) if unsure else State())
        if not unsure and scaling.repeats(root, self.optimizer):
            for state in {self._lap(world) for world in ends}:
                paths.run(root, state)

    def _translated(self, items: list[object]) -> list[object]:
        """Acts with what they are to this optimizer; those that are nothing to it left out."""
        return [
            item if isinstance(item, cst.FunctionDef) else (item, event)
            for item in items
            if isinstance(item, cst.FunctionDef)
            or (isinstance(item, Act) and (event := self.scaling.event(item, self.optimizer)) is not None)
        ]

    def _lap(self, world: World[State]) -> State:
        return self._next(world, None, E.LAP)

    def _advance(self, world: World[State], happening: object) -> State:
        assert isinstance(happening, tuple)
        act, event = happening
        return self._next(world, act, event)

    def _next(self, world: World[State], act: Act | None, event: Event) -> State:
        state = world.state
        gradients, wrong = GRADIENTS.get((event, state.gradients), (state.gradients, None))
        stage, late = STAGES.get((event, state.stage), (state.stage, None))
        for one in (wrong, late):
            if one is not None:
                self._note(one, state, act, world.facts)
        if act is not None and wrong is None:
            self.harmless.add(act)
        match event, state:
            case Event.CLIP, State(gradients=Gradients.TRUE):
                self.mended.add(act)
            case Event.UPDATE, State(stage=Stage.STEPPED):
                self.mended.add(state.step)
        return self._remembered(replace(state, gradients=gradients, stage=stage), act, event)

    def _remembered(self, state: State, act: Act | None, event: Event) -> State:
        if isinstance(act, Backward) and act not in state.backwards:
            return replace(state, backwards=(*state.backwards, act))
        if state.gradients is G.NONE:
            state = replace(state, backwards=(), clip=None)
        if isinstance(act, GradientUse) and state.gradients is G.CLIPPED and state.clip is None:
            return replace(state, clip=act)
        return replace(state, step=act) if event is E.STEP and isinstance(act, OptimizerStep) else state

    def _note(self, wrong: Wrong, state: State, act: Act | None, facts: frozenset[Fact]) -> None:
        """A violation is reported where the mistake is, which need not be where it shows."""
        last = state.backwards[-1] if state.backwards else None
        match wrong:
            case Wrong.UNSCALED_BACKWARD:
                for backward in state.backwards:
                    if not self.scaling.is_scaled(backward):
                        self._add(wrong, backward, act, facts)
            case Wrong.MISSING_UPDATE:
                self._add(wrong, state.step, act, facts)
            case Wrong.CLIP_PER_BACKWARD:
                self._add(wrong, state.clip, act, facts)
            case _:
                self._add(wrong, act, last, facts)

    def _add(self, wrong: Wrong, act: Act | None, other: Act | None, facts: frozenset[Fact]) -> None:
        if act is not None:
            if any(w is wrong and a is act for w, a, _ in self.found):
                other = next(o for w, a, o in self.found if w is wrong and a is act)
            self.found.setdefault((wrong, act, other), []).append(facts)
