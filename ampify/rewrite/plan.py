"""Decides what becomes of a training step: a plan of edits, a refusal with its reasons, or nothing to do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import libcst as cst

from ampify.config import OLDEST_TORCH, Settings
from ampify.model.flags import Unheard, Wish
from ampify.model.frameworks import Framework
from ampify.model.step import Obstacle, TrainingStep
from ampify.rewrite.adopt import Adoption, Unsaid
from ampify.rewrite.edit import crowded
from ampify.rewrite.placement import Misplaced, Placement, place
from ampify.rewrite.prove import Erases
from ampify.source.edits import Applicability, Edit, Fix
from ampify.source.text import Span


@dataclass(frozen=True, slots=True, eq=False)
class RewritePlan:
    """The conversion of one step as one fix."""

    fix: Fix
    unheard: Unheard | None = None
    """An option of the script for mixed precision that it does not listen to."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a program that comes from other AMP says about the one it is to have."""

    wishes: tuple[Wish, ...] = ()
    """What switches it on, by the function that did so."""
    scale: tuple[str, ...] = ()
    """Further arguments of the scaler."""
    scaled: bool = False
    """Its gradients have been scaled before."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What stands in the way of a conversion; the first obstacle is the one to name."""

    obstacles: tuple[Obstacle, ...]


@dataclass(frozen=True, slots=True)
class AlreadyMixed:
    """The step is in mixed precision already: the rules for AMP code look after it."""


@dataclass(frozen=True, slots=True)
class Managed:
    """A framework goes backward in the step, and is to put it in mixed precision: AMP701 says so, file by file."""

    framework: Framework


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """A training step and what becomes of it; the subject of AMP001 and of the rules about refusals."""

    step: TrainingStep
    outcome: RewritePlan | Refusal | AlreadyMixed | Managed

    @property
    def word(self) -> str:
        match self.outcome:
            case RewritePlan():
                return "convert"
            case Refusal():
                return "refuse"
            case AlreadyMixed():
                return "already mixed"
            case Managed():
                return "leave alone"

    @property
    def code(self) -> str | None:
        match self.outcome:
            case RewritePlan():
                return "AMP001"
            case Refusal(obstacles):
                return obstacles[0].code
            case Managed():
                return "AMP701"
            case AlreadyMixed():
                return None

    @property
    def reason(self) -> str:
        match self.outcome:
            case Refusal(obstacles):
                return obstacles[0].reason
            case Managed(framework):
                return framework.answer
            case AlreadyMixed():
                return "it uses autocast, a GradScaler or half precision already"
            case RewritePlan():
                return ""

    @property
    def uncalled(self) -> Obstacle | None:
        """The obstacle, where it is that no calls of a function were seen."""
        match self.outcome:
            case Refusal((first, *_)) if first.uncalled:
                return first
        return None

    def called_from(self, caller: str) -> Decision:
        """A refusal for unseen calls that names the file they are in."""
        assert self.uncalled is not None
        reason = f"`{caller}` uses `{self.uncalled.uncalled}`, and is not rewritten together with it"
        return Decision(self.step, Refusal((replace(self.uncalled, reason=reason),)))

    def refused(self, code: str) -> Obstacle | None:
        """The obstacle that this step is refused for, if it is the business of rule ``code``."""
        match self.outcome:
            case Refusal((first, *_)) if first.code == code:
                return first
        return None


_ORDER = (
    "AMP710", "AMP707", "AMP010", "AMP016", "AMP013", "AMP011", "AMP012", "AMP015", "AMP014", "AMP019", "AMP020",
    "AMP021", "AMP018", "AMP017",
)  # fmt: skip
"""What says most about a step comes first: that its optimizer takes closures, before that its calls are not seen."""


def decide(
    step: TrainingStep, settings: Settings, importer: str | None = None, owned: int = 1, asked: Asked = Asked()
) -> Decision:
    """The decision for one step under ``settings``; ``importer`` is a file that imports what would change.

    Of a text of several files, only the first ``owned`` may change. ``asked`` is known of steps that used Apex.
    """
    if step.framework is not None:
        return Decision(step, Managed(step.framework))
    if step.mixed:
        return Decision(step, AlreadyMixed())
    if settings.target_torch is not None and settings.target_torch < OLDEST_TORCH:
        return Decision(step, Refusal((_too_old(step, settings.target_torch),)))
    scaling = settings.dtype == "float16" and settings.device != "cpu"
    if obstacles := _in_the_way(step, settings, scaling, asked):
        return Decision(step, Refusal(tuple(sorted(obstacles, key=lambda o: _ORDER.index(o.code)))))
    if importer is not None and scaling:
        return Decision(step, Refusal((_called_elsewhere(step, importer),)))
    if (crowd := _crowded(step)) is not None:
        return Decision(step, Refusal((crowd,)))
    try:
        placement = place(step) if scaling else Placement()
    except Misplaced as error:
        obstacle = Obstacle("AMP017", step.tree.span(error.node), error.reason)
        return Decision(step, Refusal((obstacle,)))
    adoption = Adoption(step, settings, placement, asked.wishes, asked.scale)
    try:
        fix = _conversion(adoption)
    except Unsaid as error:
        return Decision(step, Refusal((Obstacle("AMP017", step.span, str(error)),)))
    outside = next((e.span for e in fix.edits if step.tree.source.file(e.span.start) >= owned), None)
    return Decision(step, RewritePlan(fix, adoption.unheard) if outside is None else Refusal((_shared(step, outside),)))


def _in_the_way(step: TrainingStep, settings: Settings, scaling: bool, asked: Asked) -> list[Obstacle]:
    """The obstacles that hold under ``settings``.

    Without a scaler, closures are left as an unsafe conversion; with unsafe fixes, risks are taken. A step that used
    Apex has an accelerator, and its hooks have always seen scaled gradients.
    """
    passed = {"AMP018"} if settings.device in ("cpu", "cuda") else set()
    if asked.scaled:
        passed |= {"AMP014", "AMP018"}
    there = _there(step, settings)
    if not scaling:
        passed |= {o.code for o in there if o.scaling and (o.code != "AMP010" or settings.unsafe_fixes)}
    return [
        o
        for o in there
        if not (o.risk and settings.unsafe_fixes) and not (o.code in passed and (o.scaling or o.code == "AMP018"))
    ]


def _there(step: TrainingStep, settings: Settings) -> list[Obstacle]:
    """The obstacles on the device that is asked for; only by name is it the CPU."""
    return [o for o in step.obstacles if not o.cpu or settings.device == "cpu"]


def _too_old(step: TrainingStep, target: tuple[int, int]) -> Obstacle:
    version = ".".join(map(str, target))
    reason = (
        f"the project allows torch {version}, which has no `torch.autocast`; raise its pin or pass `--target-torch`"
    )
    return Obstacle("AMP017", step.span, reason)


def _crowded(step: TrainingStep) -> Obstacle | None:
    """A region cannot begin in the middle of a line."""
    for region in step.regions:
        for node in (*region.statements, *(h.expression for h in region.hoists)):
            if crowded(step.tree, node) and not isinstance(node, cst.SimpleStatementLine):
                reason = "its forward shares a line with other statements or with the head of its block"
                return Obstacle("AMP017", step.tree.span(node), reason)
    return None


def _shared(step: TrainingStep, place: Span) -> Obstacle:
    """A file that is read for what it defines may serve other programs, which must not change."""
    path = step.tree.paths[step.tree.source.file(place.start)]
    reason = f"a part of it stands in `{path}`, which other programs may use as well"
    return Obstacle("AMP017", step.span, reason)


def _called_elsewhere(step: TrainingStep, importer: str) -> Obstacle:
    if step.reach.parameters:
        name = step.reach.parameters[0].name
        reason = f"`{name.value}` would need a new parameter, and `{importer}` calls it too"
        return Obstacle("AMP017", step.tree.span(name), reason)
    if step.needing:
        name = step.needing[0].name
        reason = f"`{name.value}` would rely on a scaler that an object brings along, and `{importer}` uses it too"
        return Obstacle("AMP017", step.tree.span(name), reason)
    (cls,) = (home.cls for home in step.reach.homes if home.cls is not None)
    reason = f"`{cls.name.value}` would make the scaler, and `{importer}` derives a class from it"
    return Obstacle("AMP017", step.tree.span(cls.name), reason)


def _conversion(adoption: Adoption) -> Fix:
    edits: list[Edit] = [*adoption.edits()]
    proof = Erases(
        frozenset(adoption.imports), tuple(adoption.folds), tuple(adoption.floats), closures=tuple(adoption.closures)
    )
    title = "Train under `torch.autocast` with a `GradScaler`" if adoption.scaling else "Train under `torch.autocast`"
    there = _there(adoption.step, adoption.settings)
    risky = any(o.code == "AMP010" or (o.risk and (adoption.scaling or not o.scaling)) for o in there)
    return Fix(title, tuple(edits), Applicability.UNSAFE if risky else Applicability.SAFE, proof)
