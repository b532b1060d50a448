"""Takes Apex out of a program: what remains is the float32 program that it stands for, and what switched Apex on."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.apex import BEGINS, INIT, INITIALIZE, ApexFacts, argument
from ampify.model.flags import Wish, title
from ampify.rewrite.apex_guards import cut_imports, drop_empty_arms, fold_presence, merge_branches, truth
from ampify.rewrite.apex_uses import ApexUses, Stuck, branch_tests, wrapped
from ampify.rewrite.compose import composed
from ampify.rewrite.cut import Cuts
from ampify.source.edits import Edit, splice
from ampify.source.text import SourceText, Span
from ampify.syntax.tree import Tree

_ROUNDS = 100
_DYNAMIC = ("None", '"dynamic"', "'dynamic'")
_NEVER_GROWS = "growth_interval=2**31 - 1"

Test = tuple[str, bool]
"""A condition, and whether it has to hold or not to hold."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A program without Apex: ``edits`` lead there from the one with it."""

    text: str
    edits: tuple[Edit, ...]
    wishes: tuple[Wish, ...]
    """What switched Apex on, by function; empty where it was always off."""
    scale: tuple[str, ...]
    """Arguments that give a GradScaler the loss scale that Apex began with."""
    scaled: frozenset[tuple[int, str]]
    """The functions that went backward through Apex."""


def take_out(facts: ApexFacts) -> Plain:
    """The plain program; raises `Stuck` where a use of Apex has no plain meaning."""
    wishes, erasing = tuple(_wishes(facts)), _Erasing(facts)
    edits = tuple(erasing.run())
    return Plain(splice(facts.tree.source.text, edits), edits, wishes, _scale(facts), frozenset(_scaled(facts)))


class _Erasing:
    """Rounds of cuts up to a fixed point."""

    def __init__(self, facts: ApexFacts) -> None:
        self.facts, self.first = facts, facts.tree
        self.text = facts.tree.source.text
        self.wrapped = frozenset(wrapped(facts))
        named = (n for n in facts.nodes if isinstance(n, cst.Name | cst.Attribute) and facts.path(n) is not None)
        self.freed = frozenset(facts.tree.text(node).partition(".")[0] for node in named)
        self.tests: set[str] = set()
        self.switches = frozenset(test for use in facts.uses() for test in branch_tests(facts, use.node))

    def run(self) -> list[Edit]:
        edits: list[Edit] = []
        for _ in range(_ROUNDS):
            made = self._round()
            if not made:
                self._nothing_left()
                return [_tidied(self.first.source, edit, edits) for edit in edits]
            edits = composed(self.first.source.text, edits, made)
            self.text = splice(self.first.source.text, edits)
            self.facts = type(self.facts)(Tree(self.text, self.first.paths))
        raise Stuck("it is nested too deeply")

    def _round(self) -> list[Edit]:
        """The edits of the first kind of cut that finds something; the order matters."""
        for act in self._acts():
            cuts = Cuts(self.facts.tree)
            act(self.facts, cuts)
            if made := cuts.edits():
                return made
        return []

    def _acts(self) -> Iterator[Callable[[ApexFacts, Cuts], None]]:
        yield fold_presence
        yield self._cut_uses
        yield lambda facts, cuts: merge_branches(facts, cuts, self.tests)
        yield lambda facts, cuts: ApexUses(facts, cuts, self.wrapped, self.switches).master_params()
        yield lambda facts, cuts: cut_imports(facts, cuts, self.freed)
        yield lambda facts, cuts: drop_empty_arms(facts, cuts, {*self.switches})

    def _cut_uses(self, facts: ApexFacts, cuts: Cuts) -> None:
        uses = ApexUses(facts, cuts, self.wrapped, self.switches)
        uses.cut()
        self.tests |= uses.tests
        for node in facts.nodes:
            if facts.called(node, "apex.amp.master_params"):
                self.tests |= {*branch_tests(facts, node)}

    def _nothing_left(self) -> None:
        for use in sorted(self.facts.uses(), key=lambda use: use.is_import):
            what = self.facts.tree.text(use.node).partition("\n")[0]
            if use.is_import:
                raise Stuck(f"whether `{what}` succeeds is asked elsewhere")
            if use.path.endswith("_function"):
                raise Stuck(f"`{what}` has to be replaced by hand first (AMP132)")
            raise Stuck(f"`{what}` has no counterpart in torch.amp")
        if any(use.path == "apex.amp.wrap_optimizer" for use in ApexFacts(self.first).uses()):
            self._nothing_scales()

    def _nothing_scales(self) -> None:
        """An optimizer in a handle of Apex could scale losses."""
        for node in self.facts.nodes:
            if isinstance(node, cst.Attribute) and node.attr.value == "scale_loss":
                raise Stuck(f"`{self.facts.tree.text(node)}` has no counterpart in torch.amp")


def _scaled(facts: ApexFacts) -> Iterator[tuple[int, str]]:
    names = {*wrapped(facts)}
    for node in facts.nodes:
        match node:
            case cst.Call() if facts.called(node, "apex.amp.scale_loss"):
                yield title(facts.tree, node)
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(value="backward")), args=[_, *_]):
                if facts.tree.text(owner) in names:
                    yield title(facts.tree, node)


def _tidied(source: SourceText, edit: Edit, edits: list[Edit]) -> Edit:
    """A cut of whole lines takes along the comment on Apex above it, and blank lines below it: as many as are above,
    all where it begins a block."""
    if edit.text or source.line_start(edit.span.start) != edit.span.start:
        return edit
    if source.line_start(edit.span.end) != edit.span.end:
        return edit
    first, below = _headed(source, edit.span), source.line(edit.span.end)
    above, opens = first - 1, source.text_of_line(first - 1).rstrip().endswith(":")
    while (opens or _is_blank(source, above)) and _is_blank(source, below):
        above, below = above - 1, below + 1
    wider = Span(source.line_starts[first - 1], source.line_starts[below - 1])
    return edit if any(other is not edit and other.span.overlaps(wider) for other in edits) else Edit(wider, "")


def _headed(source: SourceText, cut: Span) -> int:
    """The line that a cut begins with: of the comment above, if it is about Apex and stands over nothing else."""
    line = first = source.line(cut.start)
    while source.text_of_line(first - 1).lstrip().startswith("#"):
        first -= 1
    comment = [source.text_of_line(number).lower() for number in range(first, line)]
    alone = not source.text_of_line(source.line(cut.end)).strip()
    return first if alone and comment and all("apex" in text for text in comment) else line


def _is_blank(source: SourceText, line: int) -> bool:
    return 1 <= line < len(source.line_starts) and not source.text_of_line(line).strip()


# ---------------------------------------------------------------------- what switched it on


def _wishes(facts: ApexFacts) -> Iterator[Wish]:
    chains: dict[tuple[int, str], list[tuple[Test, ...]]] = {}
    for node in facts.nodes:
        if isinstance(node, cst.Call) and facts.called(node, *BEGINS) and (tests := _tests(facts, node)) is not None:
            chains.setdefault(title(facts.tree, node), []).append(tests)
    for (file, function), found in chains.items():
        merged = _merged(found)
        if len(merged) > 1:
            raise Stuck("Apex is initialized in several places, under different conditions")
        yield Wish(file, function, tuple(_said(text, holds) for text, holds in merged[0]))


def _tests(facts: ApexFacts, call: cst.Call) -> tuple[Test, ...] | None:
    """The conditions under which Apex is on after ``call``; None: never."""
    found = [*_around(facts, call)]
    if not facts.called(call, "apex.fp16_utils.FP16_Optimizer"):
        handled = facts.called(call, "apex.amp.init")
        enabled = argument(call, "enabled", INIT if handled else INITIALIZE)
        level = None if handled else argument(call, "opt_level", INITIALIZE)
        match enabled:
            case cst.Name(value="False"):
                return None
            case cst.BaseExpression() if facts.tree.text(enabled) != "True":
                found.append((facts.tree.text(enabled), True))
        match level:
            case cst.SimpleString() if level.evaluated_value == "O0":
                return None
            case cst.BaseExpression() if not isinstance(level, cst.SimpleString):
                found.append((f'{facts.tree.text(level)} != "O0"', True))
    return tuple({_meaning(text, holds): (text, holds) for text, holds in found}.values())


def _meaning(text: str, holds: bool) -> tuple[str, bool]:
    return ast.dump(ast.parse(f"({text})")), holds


def _around(facts: ApexFacts, call: cst.Call) -> Iterator[Test]:
    """The tests that hold where ``call`` runs, outermost first."""
    found: list[Test] = []
    child: cst.CSTNode = call
    for parent in facts.tree.parents(call):
        if isinstance(parent, cst.FunctionDef):
            break
        if isinstance(parent, cst.If | cst.IfExp) and child is not parent.test:
            found = [*_conditions(facts, parent.test, child is parent.body), *found]
        child = parent
    yield from found


def _conditions(facts: ApexFacts, test: cst.BaseExpression, holds: bool) -> Iterator[Test]:
    """The parts of a test, without those that ask whether Apex is installed."""
    match test:
        case cst.BooleanOperation(left=left, operator=cst.And(), right=right) if holds:
            yield from _conditions(facts, left, holds)
            yield from _conditions(facts, right, holds)
        case cst.BooleanOperation(left=left, operator=cst.Or(), right=right) if not holds:
            yield from _conditions(facts, left, holds)
            yield from _conditions(facts, right, holds)
        case cst.UnaryOperation(operator=cst.Not(), expression=inner):
            yield from _conditions(facts, inner, not holds)
        case _ if truth(facts, test) is None:
            yield facts.tree.text(test), holds


def _merged(chains: list[tuple[Test, ...]]) -> list[tuple[Test, ...]]:
    """Chains of conditions that differ in whether one of them holds are one without it."""
    found = list(dict.fromkeys(chains))
    for one in found:
        for index, (text, holds) in enumerate(one):
            other = (*one[:index], (text, not holds), *one[index + 1 :])
            if other in found:
                rest = [chain for chain in found if chain not in (one, other)]
                return _merged([*rest, (*one[:index], *one[index + 1 :])])
    return found


def _said(text: str, holds: bool) -> str:
    """A condition as an operand of ``and``."""
    node = cst.parse_expression(text)
    loose = isinstance(node, cst.IfExp | cst.Lambda | cst.NamedExpr) and not node.lpar
    if holds:
        return f"({text})" if loose or (isinstance(node, cst.BooleanOperation) and not node.lpar) else text
    atom = isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript) or bool(node.lpar)
    return f"not {text}" if atom else f"not ({text})"


# ---------------------------------------------------------------------- the loss scale it began with


def _scale(facts: ApexFacts) -> tuple[str, ...]:
    """A loss scale that is written out as a number, as arguments of a GradScaler."""
    found = {scale for node in facts.nodes if (scale := _scale_of(facts, node))}
    return found.pop() if len(found) == 1 else ()


def _scale_of(facts: ApexFacts, node: cst.CSTNode) -> tuple[str, ...]:
    match node:
        case cst.Call() if facts.called(node, "apex.amp.initialize", "apex.amp.init"):
            handled = facts.called(node, "apex.amp.init")
            scale = argument(node, "loss_scale", INIT if handled else INITIALIZE)
            if scale is not None and facts.tree.text(scale) not in _DYNAMIC and _is_number(scale):
                return (f"init_scale={facts.tree.text(scale)}", _NEVER_GROWS)
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Attribute(attr=cst.Name("_loss_scale")) as target)]):
            owners = (facts.path(n) for n in facts.nodes if facts.tree.contains(target, n))
            if "apex.amp._amp_state" in owners and _is_number(node.value):
                return (f"init_scale={facts.tree.text(node.value)}",)
    return ()


def _is_number(node: cst.BaseExpression) -> bool:
    match node:
        case cst.Integer() | cst.Float():
            return True
        case cst.BinaryOperation(left=left, right=right):
            return _is_number(left) and _is_number(right)
        case cst.UnaryOperation(expression=inner):
            return _is_number(inner)
    return False
