"""Programs that look in torch for what only Apex had, in torch's own AMP: they become what they were meant to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import pairwise

import libcst as cst

from ampify.model.amp import AmpFacts
from ampify.model.apex import ApexFacts
from ampify.model.step import FileModel
from ampify.rewrite.apex import Plain, take_out
from ampify.rewrite.apex_uses import Stuck
from ampify.rewrite.compose import composed
from ampify.rewrite.cut import Cuts
from ampify.rewrite.erase import EraseFailed, erase_text
from ampify.rewrite.erase_carriers import cut_imports
from ampify.rewrite.migrate import Decide, converted
from ampify.source.edits import Applicability, Edit, Fix, splice
from ampify.source.text import SourceText, Span
from ampify.syntax.blocks import Block
from ampify.syntax.tree import Tree, Unreadable

_OWNERS = ("torch.cuda.amp.", "torch.amp.")
_GHOSTS = ("scale_loss", "initialize", "master_params", "state_dict", "load_state_dict")


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """The files of a text, and what decides on their training steps; the subject of AMP110."""

    model: FileModel
    decide: Decide


class _Ghosts(ApexFacts):
    """What is called as in Apex, and looked for in torch."""

    def paths(self, node: cst.CSTNode) -> frozenset[str]:
        found = self.names.imported(node)
        names = frozenset(p.removeprefix(owner) for p in found for owner in _OWNERS if p.startswith(owner))
        return frozenset(f"apex.amp.{name}" for name in names) if names and names <= {*_GHOSTS} else frozenset()


def meant(program: Program) -> Fix | None:
    """What scales the losses that `torch.cuda.amp.scale_loss` was to scale: autocast and scaler made anew."""
    facts = _Ghosts(program.model.code.tree)
    if not any(facts.called(node, "apex.amp.scale_loss") for node in facts.nodes):
        return None
    try:
        fix = converted([*facts.uses()], _without_amp(facts), program.model, program.decide)
    except (Stuck, EraseFailed, Unreadable, SyntaxError):
        return None
    return replace(fix, title="Scale the loss by a `GradScaler`", applicability=Applicability.UNSAFE)


def _without_amp(facts: ApexFacts) -> Plain:
    """The float32 program, without torch's AMP too."""
    plain, source, paths = take_out(facts), facts.tree.source.text, facts.tree.paths
    text = erase_text(plain.text, paths=paths)
    edits = composed(source, plain.edits, [*_edits(plain.text, text)])
    tree = Tree(text, paths)
    cuts = Cuts(tree)
    for node in _repeated(tree):
        cuts.drop(node)
    freed = {facts.tree.text(use.node).partition(".")[0] for use in facts.uses()}
    cut_imports(AmpFacts(tree), cuts, freed, frozenset())
    edits = composed(source, edits, cuts.edits())
    return replace(plain, text=splice(source, edits), edits=tuple(edits))


def _edits(before: str, after: str) -> Iterator[Edit]:
    """The lines of ``before`` that differ in ``after``."""
    old, new = SourceText(before), SourceText(after)
    ends = [*old.line_starts, len(before)], [*new.line_starts, len(after)]
    lines = [[text[a:b] for a, b in pairwise(marks)] for text, marks in zip((before, after), ends, strict=True)]
    for tag, i, j, k, m in SequenceMatcher(None, lines[0], lines[1], autojunk=False).get_opcodes():
        if tag != "equal":
            yield Edit(Span(ends[0][i], ends[0][j]), "".join(lines[1][k:m]))


def _repeated(tree: Tree) -> Iterator[cst.CSTNode]:
    """A backward whose like follows, through the same graph: the second one would raise."""
    for block in tree.nodes():
        if isinstance(block, Block | cst.Module):
            for first, second in pairwise(block.body):
                if tree.text(first) == tree.text(second) and (call := _backward(first)) is not None:
                    yield call


def _backward(statement: cst.CSTNode) -> cst.CSTNode | None:
    match statement:
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.Call(func=cst.Attribute(attr=name), args=[])) as line]):
            return line if name.value == "backward" else None
    return None
