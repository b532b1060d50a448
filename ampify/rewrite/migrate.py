"""Apex becomes torch.amp: taken out, then the plain program is converted. One fix for a whole program, or a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from ampify.model.apex import BEGINS, INIT, INITIALIZE, SCALE_LOSS, ApexFacts, ApexUse
from ampify.model.find import read
from ampify.model.flags import title
from ampify.model.step import Backward, FileModel, OptimizerStep, TrainingStep
from ampify.rewrite.apex import Plain, take_out
from ampify.rewrite.apex_uses import Stuck
from ampify.rewrite.compose import composed
from ampify.rewrite.plan import Asked, Decision, RewritePlan
from ampify.rewrite.prove import Erases, Migrates
from ampify.source.edits import Applicability, Edit, Fix, choose, landed
from ampify.syntax.tree import Tree, Unreadable

Decide = Callable[[TrainingStep, Asked], Decision]

_GOES_BACKWARD = ("apex.amp.scale_loss", "apex.fp16_utils.FP16_Optimizer")
_SAFE = {"apex.amp.initialize", "apex.amp.scale_loss", "apex.amp.master_params"}
_PLAIN_KEYWORDS = {"models", "optimizers", "enabled", "opt_level", "verbosity"}


@dataclass(frozen=True, slots=True, eq=False)
class Migration:
    """A use of Apex and what becomes of it; the subject of the rules AMP120 to AMP134."""

    use: ApexUse
    fix: Fix | None
    """Takes Apex out of the whole program, so that all uses share it."""
    reason: str | None
    """Why there is no such fix, as the end of a sentence."""


def migrations(model: FileModel, decide: Decide, owned: int = 1) -> Iterator[Migration]:
    """Every use of what Apex no longer has, but for its forks."""
    tree = model.code.tree
    if "apex" not in tree.source.text or (facts := ApexFacts(tree)).forked:
        return
    if not (uses := [*facts.uses()]):
        return
    fix, reason = _outcome(facts, uses, model, decide, owned)
    for use in uses:
        yield Migration(use, fix, reason)


def _outcome(
    facts: ApexFacts, uses: list[ApexUse], model: FileModel, decide: Decide, owned: int
) -> tuple[Fix | None, str | None]:
    try:
        return _fix(facts, uses, model, decide, owned), None
    except Stuck as stuck:
        return None, str(stuck)
    except (Unreadable, SyntaxError):
        return None, "the code without it cannot be read back"


def _fix(facts: ApexFacts, uses: list[ApexUse], model: FileModel, decide: Decide, owned: int) -> Fix:
    tree = facts.tree
    if facts.vendored:
        raise Stuck("the project has a package of its own that is called `apex`")
    paths = {use.path for use in uses if not use.is_import}
    plain = take_out(facts)
    if any(tree.source.file(tree.span(use.node).start) >= owned for use in uses):
        raise Stuck("a part of it stands in a file that other programs may use as well")
    _none_halved(uses, plain, tree.paths)
    title = "Take Apex out"
    if paths.isdisjoint((*BEGINS, *_GOES_BACKWARD)) or _always_off(uses):
        return Fix(title, plain.edits, _applicability(uses))
    if paths.isdisjoint(BEGINS):
        raise Stuck("it is not in sight where Apex is initialized")
    if not plain.scaled:
        raise Stuck("no training step in sight goes backward through it; put the forward under `torch.autocast`")
    return converted(uses, plain, model, decide)


def _none_halved(uses: list[ApexUse], plain: Plain, paths: Sequence[str]) -> None:
    """Code that casts by hand counts on half weights, which autocast does not have."""
    halved = [use for use in uses if use.path.startswith("apex.fp16_utils.") and not use.is_import]
    if halved and all(use.path != "apex.fp16_utils.FP16_Optimizer" for use in halved):
        raise Stuck(f"`{halved[0].path.rpartition('.')[2]}` makes half weights that no optimizer of Apex trains")
    levels = {use.level() for use in uses if use.path == "apex.amp.initialize"}
    if halved or levels & {"O2", "O3"}:
        tree = Tree(plain.text, paths)
        casts = (n for n in tree.nodes() if isinstance(n, cst.Attribute) and n.attr.value == "half")
        for cast in casts:
            raise Stuck(f"`{tree.text(cast)}` casts by hand, for half weights")


def _always_off(uses: list[ApexUse]) -> bool:
    """Whether each `amp.initialize` is told in so many words to do nothing."""
    begins = [use for use in uses if use.path in BEGINS]
    handled = [use for use in begins if use.path == "apex.amp.init"]
    off = [use.level() == "O0" or use.text("enabled", INITIALIZE) == "False" for use in begins if use not in handled]
    off += [use.text("enabled", INIT) == "False" for use in handled]
    return bool(begins) and all(off)


# ---------------------------------------------------------------------- the conversion of the plain program


def converted(uses: list[ApexUse], plain: Plain, model: FileModel, decide: Decide) -> Fix:
    """The fix of a program that used Apex by way of the ``plain`` one; raises `Stuck` where that is not converted."""
    tree = model.code.tree
    steps = _steps(plain, read(Tree(plain.text, tree.paths), model.target, model.line_length))
    _all_step(uses, steps)
    plans = [_planned(step, plain, decide) for step in steps]
    own = [replace(p, edits=tuple(e for e in p.edits if not _imports(e, p))) for p in plans]
    if len(choose(own, Applicability.MANUAL)) < len(plans):
        raise Stuck("two training steps would change the same place")
    second = list(dict.fromkeys(e for p in plans for e in p.edits))
    edits = composed(tree.source.text, plain.edits, second)
    proof = _proof(plain, plans, second, edits)
    lowest = min([_applicability(uses), *(p.applicability for p in plans)])
    return Fix("Replace Apex by `torch.autocast` and a `GradScaler`", tuple(edits), lowest, proof)


def _imports(edit: Edit, plan: Fix) -> bool:
    assert isinstance(plan.proof, Erases)
    return any(edit.text.strip() == text for _, text in plan.proof.imports)


def _steps(plain: Plain, model: FileModel) -> list[TrainingStep]:
    """The training steps that went backward through Apex."""
    found = [(step, {title(model.code.tree, a.node) for a in step.every(Backward)}) for step in model.steps]
    if not plain.scaled <= {place for _, places in found for place in places}:
        raise Stuck("a backward pass through it belongs to no training step in sight")
    return [step for step, places in found if places & plain.scaled]


def _all_step(uses: list[ApexUse], steps: list[TrainingStep]) -> None:
    """Raises `Stuck` where a loop steps not what Apex was given, but what holds it."""
    scaled = (use for use in uses if use.path == "apex.amp.scale_loss")
    for given in {text for use in scaled if (text := use.text("optimizers", SCALE_LOSS)) is not None}:
        for step in steps:
            for act in step.every(OptimizerStep):
                if given.startswith(f"{(stepped := step.tree.text(act.optimizer))}."):
                    raise Stuck(f"Apex was given `{given}`, and the loop steps `{stepped}`, which may do more")


def _planned(step: TrainingStep, plain: Plain, decide: Decide) -> Fix:
    decision = decide(step, Asked(plain.wishes, plain.scale, scaled=True))
    if isinstance(decision.outcome, RewritePlan):
        return decision.outcome.fix
    raise Stuck(decision.reason)


def _proof(plain: Plain, plans: list[Fix], second: list[Edit], edits: list[Edit]) -> Migrates:
    proofs = [p.proof for p in plans if isinstance(p.proof, Erases)]
    marked = {id(e) for proof in proofs for e in proof.floats}
    spans = [span for e, span in zip(second, landed(second), strict=True) if id(e) in marked]
    homes = [*zip(edits, landed(edits), strict=True)]
    floats = tuple((e, span.start - home.start) for span in spans for e, home in homes if span in home)
    erases = Erases(
        imports=frozenset().union(*(p.imports for p in proofs)),
        folds=tuple(dict.fromkeys(name for p in proofs for name in p.folds)),
        closures=tuple(dict.fromkeys(name for p in proofs for name in p.closures)),
    )
    return Migrates(plain.edits, erases, floats)


# ---------------------------------------------------------------------- how safe it is


def _applicability(uses: Sequence[ApexUse]) -> Applicability:
    return Applicability.SAFE if all(map(_is_safe, uses)) else Applicability.UNSAFE


def _is_safe(use: ApexUse) -> bool:
    """Whether a use means exactly what torch.amp does: level O0 or O1, one scaled backward."""
    if use.is_import:
        return True
    if use.path not in _SAFE or use.call is None:
        return False
    words = {a.keyword.value for a in use.call.args if a.keyword is not None}
    match use.path:
        case "apex.amp.initialize":
            return use.level() in ("O0", "O1") and words <= _PLAIN_KEYWORDS and len(use.call.args) - len(words) <= 2
        case "apex.amp.scale_loss":
            return words <= {*SCALE_LOSS} - {"loss_id", "model"} and len(use.call.args) - len(words) <= 2
    return True
