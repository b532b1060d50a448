"""The protocol of a GradScaler: what happens to the gradients of each optimizer on every path of an iteration.

Two small automata per optimizer: what its gradients are, and what its scaler has noted since the last `update`.
A rule of the AMP2xx family is one more row in a table. What cannot be known is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto

import libcst as cst

from ampify.model.events import Event, Optimizer
from ampify.model.paths import Fact, Paths, Script, World
from ampify.model.scaling import Scaling
from ampify.model.step import Act, Backward, GradientUse, OptimizerStep, TrainingStep, Update
from ampify.model.violation import Violation, Wrong
from ampify.syntax.blocks import Function


class Gradients(Enum):
    """What the gradients of an optimizer are."""

    NONE = auto()
    """There are none, or none that matter."""
    SPENT = auto()
    """A step has used them in this iteration."""
    CLEARED = auto()
    """There were some in this iteration, until they were cleared."""
    SCALED = auto()
    SEEN = auto()
    """Read while they were scaled."""
    CLIPPED = auto()
    """Clipped, or changed otherwise, while they were scaled."""
    TRUE = auto()
    """Unscaled again."""
    PLAIN = auto()
    """In full or in part from a backward that was never scaled."""
    FOREIGN = auto()
    """In full or in part scaled by another scaler."""
    OUTDATED = auto()
    """Scaled, and `update` has run since."""
    RESCALED = auto()
    """Scaled, and ``update(scale)`` has run since."""
    UNKNOWN = auto()


class Stage(Enum):
    """What a scaler has noted for an optimizer since the last `update`."""

    READY = auto()
    UNSCALED = auto()
    LEFT = auto()
    """Unscaled in an iteration that a jump has left."""
    CARRIED = auto()
    """Unscaled in an iteration that is over."""
    STEPPED = auto()
    STALE = auto()
    """Stepped in an iteration that is over."""
    UNKNOWN = auto()


G, S, E, W = Gradients, Stage, Event, Wrong

IDLE = (G.NONE, G.SPENT, G.CLEARED)
BIG = (G.SCALED, G.SEEN, G.CLIPPED)

GRADIENTS: dict[tuple[Event, Gradients], tuple[Gradients, Wrong | None]] = {
    **{(E.CLEAR, g): (G.CLEARED, None) for g in G if g not in IDLE},
    **{(E.CLEAR, g): (G.NONE, None) for g in (G.SPENT, G.UNKNOWN)},
    **{(E.CLEAR, g): (G.CLEARED, W.CLIP_PER_BACKWARD) for g in (G.SEEN, G.CLIPPED)},
    **{(E.SCALED_BACKWARD, g): (G.SCALED, None) for g in (*IDLE, G.UNKNOWN)},
    **{(E.SCALED_BACKWARD, g): (g, W.CLIP_PER_BACKWARD) for g in (G.SEEN, G.CLIPPED)},
    **{(E.SCALED_BACKWARD, g): (G.UNKNOWN, None) for g in (G.TRUE, G.FOREIGN, G.OUTDATED)},
    **{(E.PLAIN_BACKWARD, g): (G.PLAIN, None) for g in (*IDLE, *BIG)},
    **{(E.PLAIN_BACKWARD, g): (G.UNKNOWN, None) for g in (G.FOREIGN, G.OUTDATED, G.RESCALED)},
    **{(E.FOREIGN_BACKWARD, g): (G.FOREIGN if g in (*IDLE, G.SCALED) else G.UNKNOWN, None) for g in G},
    **{(E.SOME_BACKWARD, g): (G.UNKNOWN, None) for g in G},
    **{(E.UNSCALE, g): (G.TRUE, None) for g in BIG},
    (E.UNSCALE, G.FOREIGN): (G.TRUE, W.OTHER_SCALER),
    (E.UNSCALE, G.OUTDATED): (G.TRUE, W.EARLY_UPDATE),
    (E.UNSCALE, G.RESCALED): (G.TRUE, W.SCALE_SET),
    (E.CLIP, G.SCALED): (G.CLIPPED, W.CLIP),
    (E.CLIP, G.SEEN): (G.CLIPPED, W.CLIP),
    (E.READ, G.SCALED): (G.SEEN, W.READ),
    (E.WRITE, G.SCALED): (G.CLIPPED, W.WRITE),
    (E.WRITE, G.SEEN): (G.CLIPPED, W.WRITE),
    **{(E.CHANGE, g): (G.UNKNOWN, None) for g in (G.SCALED, G.SEEN)},
    **{(E.STEP, g): (G.SPENT, None) for g in G},
    (E.STEP, G.PLAIN): (G.SPENT, W.UNSCALED_BACKWARD),
    (E.STEP, G.FOREIGN): (G.SPENT, W.OTHER_SCALER),
    (E.STEP, G.OUTDATED): (G.SPENT, W.EARLY_UPDATE),
    (E.STEP, G.RESCALED): (G.SPENT, W.SCALE_SET),
    (E.STEP, G.CLEARED): (G.SPENT, W.CLEARED),
    (E.STEP, G.SPENT): (G.SPENT, W.DOUBLE_STEP),
    **{(E.BARE_STEP, g): (G.SPENT, None) for g in G},
    **{(E.BARE_STEP, g): (G.SPENT, W.BARE_STEP) for g in BIG},
    (E.BARE_STEP, G.TRUE): (G.SPENT, W.BARE_STEP_UNSCALED),
    (E.BARE_STEP, G.SPENT): (G.SPENT, W.DOUBLE_STEP),
    **{(E.UPDATE, g): (G.OUTDATED, None) for g in BIG},
    **{(E.SET_SCALE, g): (G.RESCALED, None) for g in BIG},
    **{(E.HIDDEN, g): (G.UNKNOWN, None) for g in G if g not in IDLE},
    **{(E.HIDDEN, g): (G.NONE, None) for g in IDLE},
    **{(E.LAP, g): (G.NONE, None) for g in IDLE},
    (E.LAP, G.OUTDATED): (G.UNKNOWN, None),
    **{(E.EPOCH, g): (G.NONE, None) for g in IDLE},
    **{(E.EPOCH, g): (G.UNKNOWN, None) for g in (G.OUTDATED, G.TRUE)},
}
"""What an event makes of gradients, and what is wrong about it; what is not listed changes nothing."""

STAGES: dict[tuple[Event, Stage], tuple[Stage, Wrong | None]] = {
    (E.UNSCALE, S.READY): (S.UNSCALED, None),
    (E.UNSCALE, S.UNKNOWN): (S.UNSCALED, None),
    (E.UNSCALE, S.UNSCALED): (S.UNSCALED, W.UNSCALE_AGAIN),
    (E.UNSCALE, S.CARRIED): (S.UNSCALED, W.UNSCALE_AGAIN),
    (E.UNSCALE, S.LEFT): (S.UNSCALED, W.SKIPPED_UPDATE),
    (E.UNSCALE, S.STEPPED): (S.STEPPED, W.UNSCALE_AFTER_STEP),
    (E.UNSCALE, S.STALE): (S.UNSCALED, W.MISSING_UPDATE),
    **{(E.STEP, s): (S.STEPPED, None) for s in S},
    (E.STEP, S.STALE): (S.STEPPED, W.MISSING_UPDATE),
    **{(e, s): (S.READY, None) for e in (E.UPDATE, E.SET_SCALE) for s in S},
    (E.UPDATE, S.READY): (S.READY, W.IDLE_UPDATE),
    (E.LEAVE, S.UNSCALED): (S.LEFT, None),
    (E.LAP, S.UNSCALED): (S.CARRIED, None),
    **{(e, S.STEPPED): (S.STALE, None) for e in (E.LAP, E.EPOCH)},
    **{(E.EPOCH, s): (S.UNKNOWN, None) for s in (S.UNSCALED, S.CARRIED, S.LEFT)},
    **{(E.HIDDEN, s): (S.UNKNOWN, None) for s in S},
}
"""The same for what the scaler has noted."""

BOTH: dict[tuple[Event, Gradients, Stage], Wrong] = {
    **{(E.SCALED_BACKWARD, G.TRUE, s): W.BACKWARD_AFTER_UNSCALE for s in (S.UNSCALED, S.CARRIED)},
    (E.STEP, G.TRUE, S.READY): W.EARLY_UPDATE,
}
"""What is wrong for gradients and scaler together."""


PER_OBJECT = {
    W.UNSCALE_AGAIN, W.UNSCALE_AFTER_STEP, W.BACKWARD_AFTER_UNSCALE, W.EARLY_UPDATE, W.DOUBLE_STEP, W.CLEARED,
}  # fmt: skip
"""What cannot be said of several optimizers that share a name."""

PAIRED = {W.UNSCALE_AGAIN, W.EARLY_UPDATE, W.DOUBLE_STEP, W.CLEARED, W.BACKWARD_TWICE}
"""What two acts do together: nothing is said where each stands behind a test of its own."""


@dataclass(frozen=True, slots=True)
class State:
    """Where one optimizer is on a path, and the acts that brought it there: the last ones of their kind."""

    gradients: Gradients = Gradients.NONE
    stage: Stage = Stage.READY
    backwards: tuple[Backward, ...] = ()
    """Those whose gradients are still there."""
    round: tuple[Backward, ...] = ()
    """Those of this iteration."""
    clip: GradientUse | None = None
    """The first one that met scaled gradients."""
    step: OptimizerStep | None = None
    """By the scaler."""
    last: OptimizerStep | None = None
    unscale: Act | None = None
    update: Act | None = None
    clear: Act | None = None
    leave: Act | None = None


def checked(step: TrainingStep) -> TrainingStep:
    """``step`` with its violations."""
    return replace(step, violations=tuple(violations(step))) if step.scaled else step


def violations(step: TrainingStep) -> Iterator[Violation]:
    """What a step does against the protocol, each thing once for all optimizers that it concerns."""
    found: dict[tuple[Wrong, Act], list[Violation]] = {}
    scaling = Scaling(step)
    runs = [_Run(scaling, o, lambda act, o=o: scaling.event(act, o)) for o in scaling.optimizers]  # type: ignore[misc]
    idle = [_Run(scaling, o, lambda act, o=o: scaling.noted(act, o), idle=True) for o in scaling.together]  # type: ignore[misc]
    for run in (*runs, *idle):
        for violation in run.violations():
            found.setdefault((violation.wrong, violation.act), []).append(violation)
    for (wrong, act), same in found.items():
        if not any((better, act) in found for better in BETTER.get(wrong, ())):
            steps = dict.fromkeys(s for v in same for s in v.steps)
            yield replace(same[0], steps=tuple(steps), mended=any(v.mended for v in same))


BETTER = {
    W.BARE_STEP: (W.DOUBLE_STEP,),
    W.BARE_STEP_UNSCALED: (W.DOUBLE_STEP,),
    W.UNSCALED_BACKWARD: (W.BACKWARD_TWICE,),
    W.IDLE_UPDATE: (W.EARLY_UPDATE,),
    W.BACKWARD_AFTER_UNSCALE: (W.UNSCALE_AGAIN,),
}
"""What says more of an act than the first does."""


class _Run:
    """The analysis of one optimizer, or of all those of a scaler together where it may be ``idle``."""

    def __init__(
        self, scaling: Scaling, optimizer: Optimizer, event: Callable[[Act], Event | None], *, idle: bool = False
    ) -> None:
        self.scaling, self.optimizer, self.event, self.idle = scaling, optimizer, event, idle
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
            if isinstance(item, cst.FunctionDef) or (isinstance(item, Act) and (event := self.event(item)) is not None)
        ]

    def _lap(self, world: World[State], loop: cst.CSTNode | None = None) -> State:
        event = E.EPOCH if loop is not None and self.scaling.over_epochs(loop) else E.LAP
        state = self._next(world, None, event)
        return replace(
            state,
            round=(),
            step=state.step if state.stage is S.STALE else None,
            last=None,
            unscale=state.unscale if state.stage in (S.CARRIED, S.LEFT) else None,
            update=state.update if state.gradients is G.RESCALED else None,
            clear=None,
            leave=state.leave if state.stage is S.LEFT else None,
        )

    def _advance(self, world: World[State], happening: object) -> State:
        assert isinstance(happening, tuple)
        act, event = happening
        return self._next(world, act, event)

    def _next(self, world: World[State], act: Act | None, event: Event) -> State:
        state = world.state
        gradients, *wrongs = GRADIENTS.get((event, state.gradients), (state.gradients, None))
        stage, late = STAGES.get((event, state.stage), (state.stage, None))
        wrongs += [late, BOTH.get((event, state.gradients, state.stage))]
        if isinstance(act, Backward):
            self._compare(state, act, world.facts)
        for one in wrongs:
            if one is not None:
                self._note(one, state, act, world.facts)
        if act is not None and not any(wrongs):
            self.harmless.add(act)
        match event, state:
            case Event.CLIP, State(gradients=Gradients.TRUE):
                self.mended.add(act)
            case Event.UPDATE, State(stage=Stage.STEPPED):
                self.mended.add(state.step)
            case Event.UPDATE, State(backwards=backwards) if not self._reached(backwards):
                gradients = state.gradients
        return self._remembered(replace(state, gradients=gradients, stage=stage), act, event)

    def _reached(self, backwards: tuple[Backward, ...]) -> bool:
        return any(self.scaling.surely(b, self.optimizer) for b in backwards)

    def _remembered(self, state: State, act: Act | None, event: Event) -> State:
        if isinstance(act, Backward):
            backwards = state.backwards if act in state.backwards else (*state.backwards, act)
            return replace(state, backwards=backwards, round=(*(b for b in state.round if b is not act), act))
        if state.gradients in IDLE:
            state = replace(state, backwards=(), clip=None)
        if isinstance(act, GradientUse) and state.gradients in (G.SEEN, G.CLIPPED) and state.clip is None:
            return replace(state, clip=act)
        match event:
            case Event.STEP | Event.BARE_STEP if isinstance(act, OptimizerStep):
                return replace(state, step=act if event is E.STEP else state.step, last=act)
            case Event.UNSCALE:
                return replace(state, unscale=act)
            case Event.UPDATE | Event.SET_SCALE:
                return replace(state, update=act)
            case Event.CLEAR:
                return replace(state, clear=act)
            case Event.LEAVE:
                return replace(state, leave=act)
        return state

    def _compare(self, state: State, act: Backward, facts: frozenset[Fact]) -> None:
        """Whether an earlier backward of this iteration has gone through the same graph."""
        for earlier in state.round:
            if self.scaling.same_graph(earlier, act):
                plain = earlier if self.scaling.is_scaled(act) and not self.scaling.is_scaled(earlier) else act
                self._add(W.BACKWARD_TWICE, plain, act if plain is earlier else earlier, facts)

    def _note(self, wrong: Wrong, state: State, act: Act | None, facts: frozenset[Fact]) -> None:
        """A violation is reported where the mistake is, which need not be where it shows."""
        if (wrong is W.IDLE_UPDATE) is not self.idle:
            return
        last = state.backwards[-1] if state.backwards else None
        match wrong:
            case Wrong.UNSCALED_BACKWARD:
                for backward in state.backwards:
                    if (thrown := self.scaling.discarded(backward)) is not None:
                        self._add(W.DISCARDED_SCALE, thrown, backward, facts)
                    elif not self.scaling.is_scaled(backward):
                        self._add(wrong, backward, act, facts)
            case Wrong.MISSING_UPDATE:
                updates = self.scaling.step.every(Update)
                if not updates or any(self.scaling.tied(state.step, u) for u in updates):
                    self._add(wrong, state.step, act, facts)
            case Wrong.CLIP_PER_BACKWARD:
                self._add(wrong, state.clip, act, facts)
            case Wrong.EARLY_UPDATE | Wrong.SCALE_SET:
                self._add(wrong, state.update, act, facts)
            case Wrong.SKIPPED_UPDATE:
                self._add(wrong, state.leave, state.unscale, facts)
            case Wrong.UNSCALE_AGAIN if self._tied(act):
                self._add(wrong, act, state.unscale, facts)
            case Wrong.UNSCALE_AFTER_STEP:
                self._add(wrong, act, state.step, facts)
            case Wrong.BACKWARD_AFTER_UNSCALE if isinstance(act, Backward) and self._reached((act,)):
                if self._tied(state.unscale):
                    self._add(wrong, state.unscale, act, facts)
            case Wrong.CLEARED if state.clear is not None and self.scaling.surely_clears(state.clear, self.optimizer):
                self._add(wrong, state.clear, act, facts)
            case Wrong.DOUBLE_STEP:
                self._note_double(state, act, facts)
            case Wrong.IDLE_UPDATE if act and self._tied(act) and self.scaling.leaves_out(act, self.optimizer.steps):
                self._add(wrong, act, state.update, facts)
            case Wrong.BACKWARD_AFTER_UNSCALE | Wrong.CLEARED | Wrong.UNSCALE_AGAIN | Wrong.IDLE_UPDATE:
                pass
            case Wrong.BARE_STEP | Wrong.BARE_STEP_UNSCALED if self.optimizer.wrapped:
                pass
            case _:
                self._add(wrong, act, last, facts)

    def _tied(self, act: Act | None) -> bool:
        return all(self.scaling.tied(act, s) for s in self.optimizer.steps)

    def _note_double(self, state: State, act: Act | None, facts: frozenset[Fact]) -> None:
        match act, state.last:
            case OptimizerStep(scaler=None), OptimizerStep(scaler=None):
                return
            case OptimizerStep(scaler=None), OptimizerStep():
                self._add(W.DOUBLE_STEP, act, state.last, facts)
            case OptimizerStep(), OptimizerStep(scaler=None):
                self._add(W.DOUBLE_STEP, state.last, act, facts)
            case OptimizerStep(), OptimizerStep() if state.stage is S.STEPPED:
                self._add(W.DOUBLE_STEP, act, state.last, facts)

    def _add(self, wrong: Wrong, act: Act | None, other: Act | None, facts: frozenset[Fact]) -> None:
        if act is None or (wrong in PER_OBJECT and self.optimizer.plural):
            return
        if wrong in PAIRED and other is not None and not self.scaling.tied(act, other):
            return
        if any(w is wrong and a is act for w, a, _ in self.found):
            other = next(o for w, a, o in self.found if w is wrong and a is act)
        self.found.setdefault((wrong, act, other), []).append(facts)
