"""Proves a fix: what it claims to have kept is compared, without trusting how the edits were made."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import libcst as cst

from ampify.model.amp import AmpFacts
from ampify.rewrite.cut import comments
from ampify.rewrite.erase import FLOAT, EraseFailed, Hints, erase_text
from ampify.rewrite.imports import AddedImport
from ampify.source.edits import Edit, Fix, landed, splice
from ampify.source.text import SEAM, Span
from ampify.syntax.tree import Tree, Unreadable


class ProofFailed(ValueError):
    """A rewritten text is not what its fixes claim; says what differs."""


@dataclass(frozen=True, slots=True)
class Erases:
    """Claims: taking AMP out again gives the text before. The fields are those of `Hints`; ``floats`` are edits."""

    imports: frozenset[AddedImport] = frozenset()
    folds: tuple[str, ...] = ()
    floats: tuple[Edit, ...] = ()
    carried: frozenset[str] = frozenset()
    closures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SameErasure:
    """Claims: with and without the fix it is the same program once AMP is taken out."""

    imports: frozenset[AddedImport] = frozenset()


@dataclass(frozen=True, slots=True)
class Migrates:
    """Claims: ``taken`` gives a plain program, and taking AMP out of the result gives that program.

    ``floats`` are edits of the fix, each with the offset in its text where a ``.float()`` was put.
    """

    taken: tuple[Edit, ...]
    erases: Erases
    floats: tuple[tuple[Edit, int], ...] = ()


def prove(before: str, after: str, fixes: Iterable[Fix], paths: Sequence[str] = (), owned: int | None = None) -> None:
    """Raise `ProofFailed` unless ``after`` is what ``fixes``, applied together to ``before``, claim it is.

    ``paths`` are those of the files of both. Those behind the first ``owned`` were only read: they are the same, and
    whatever they do with AMP is no part of the claim.
    """
    chosen = list(fixes)
    (before, rest), (after, seen) = _divided(before, owned), _divided(after, owned)
    if rest != seen:
        raise ProofFailed("A file that is only read has changed")
    paths = paths[:owned]
    try:
        if all(fix.proof is None for fix in chosen):
            _same_outside(before, after, [e for fix in chosen for e in fix.edits])
        else:
            _same_erasure(before, after, chosen, paths)
    except (EraseFailed, Unreadable, SyntaxError, RecursionError) as error:
        raise ProofFailed(f"The result cannot be read back: {error}") from error


def _divided(text: str, owned: int | None) -> tuple[str, list[str]]:
    """The text of the first files, and the others."""
    parts = text.split(SEAM)
    return SEAM.join(parts[:owned]), parts[owned:] if owned is not None else []


def _same_outside(before: str, after: str, edits: list[Edit]) -> None:
    """Outside the declared spans nothing has changed, comments and code alike."""
    _asts(before), _asts(after)
    kept = _outside(before, [e.span for e in edits])
    if kept != _outside(after, landed(edits)):
        raise ProofFailed("Text has changed outside the places that were to be changed")


def _asts(text: str) -> list[ast.Module]:
    """What each file of a text says."""
    return [ast.parse(part) for part in text.split(SEAM)]


def _outside(text: str, spans: list[Span]) -> str:
    return splice(text, (Edit(span, "\1") for span in spans))


def _same_erasure(before: str, after: str, fixes: list[Fix], paths: Sequence[str]) -> None:
    """Fixes with declared spans come first; the others may then add and take nothing but AMP."""
    declared = [e for fix in fixes for e in _declared(fix)]
    base = splice(before, declared)
    _same_outside(before, base, declared)
    hints = _hints(fixes)
    bound = splice(before, [*declared, *_importing(fixes, hints)])  # what was there may use what is imported now
    if AmpFacts(Tree(bound, paths)).erasable:
        want, got = erase_text(bound, Hints(hints.imports), paths), erase_text(after, hints, paths)
    else:
        want, got = base, erase_text(after, replace(hints, had=_assigned(Tree(base, paths))), paths)
    _same_program(want, got)


def _importing(fixes: list[Fix], hints: Hints) -> list[Edit]:
    """The edits that add imports; several fixes may bring the same one."""
    added = {text for _, text in hints.imports}
    return [*dict.fromkeys(e for fix in fixes if fix.proof is not None for e in fix.edits if e.text.strip() in added)]


def _declared(fix: Fix) -> tuple[Edit, ...]:
    """The edits of a fix that may change what the program is."""
    match fix.proof:
        case None:
            return fix.edits
        case Migrates(taken):
            return taken
    return ()


def _hints(fixes: list[Fix]) -> Hints:
    proofs = [fix.proof for fix in fixes if isinstance(fix.proof, Erases | SameErasure | Migrates)]
    if len(proofs) != sum(fix.proof is not None for fix in fixes):
        raise ProofFailed("A fix comes with a proof of an unknown kind")
    claims = [p.erases if isinstance(p, Migrates) else p for p in proofs]
    erases = [p for p in claims if isinstance(p, Erases)]
    return Hints(
        imports=frozenset().union(*(p.imports for p in claims)),
        folds=tuple(dict.fromkeys(name for p in erases for name in p.folds)),
        floats=_floats(fixes),
        carried=frozenset().union(*(p.carried for p in erases)),
        closures=tuple(dict.fromkeys(name for p in erases for name in p.closures)),
    )


def _floats(fixes: list[Fix]) -> tuple[Span, ...]:
    """Where each ``.float()`` stands that the fixes have put in."""
    edits = [edit for fix in fixes for edit in fix.edits]
    marks = [mark for fix in fixes for mark in _marks(fix)]
    homes = {id(edit): span.start for edit, span in zip(edits, landed(edits), strict=True)}
    return tuple(Span(homes[id(edit)] + at, homes[id(edit)] + at + len(FLOAT)) for edit, at in marks)


def _marks(fix: Fix) -> Iterator[tuple[Edit, int]]:
    match fix.proof:
        case Erases(floats=floats):
            yield from ((edit, 0) for edit in floats)
        case Migrates(floats=floats):
            yield from floats


def _assigned(tree: Tree) -> frozenset[str]:
    """What the program assigns, as written."""
    targets = (n.target for n in tree.nodes() if isinstance(n, cst.AssignTarget | cst.AnnAssign))
    return frozenset(tree.text(target) for target in targets)


def _same_program(want: str, got: str) -> None:
    if [*map(ast.dump, _asts(want))] != [*map(ast.dump, _asts(got))]:
        raise ProofFailed(f"More has changed than mixed precision: {_difference(want, got)}")
    if [want[c.start : c.end] for c in comments(want)] != [got[c.start : c.end] for c in comments(got)]:
        raise ProofFailed("A comment was lost, added or moved")


def _difference(want: str, got: str) -> str:
    """The first line that differs when both are written out plainly."""
    one, other = ("\n".join(map(ast.unparse, _asts(text))).splitlines() for text in (want, got))
    pairs = zip([*one, ""], [*other, ""], strict=False)
    left, right = next(((a, b) for a, b in pairs if a != b), ("", ""))
    return f"`{left.strip()}` has become `{right.strip()}`"
