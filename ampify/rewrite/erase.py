"""Takes AMP out of a program: what remains is the same program in full precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ampify.model.amp import AmpFacts
from ampify.rewrite.cut import Cuts
from ampify.rewrite.erase_carriers import cut_carriers, cut_imports, cut_switches
from ampify.rewrite.erase_folds import fold, give_back
from ampify.rewrite.erase_uses import Uses, merge_branches
from ampify.rewrite.imports import AddedImport
from ampify.source.edits import Edit, splice
from ampify.source.text import Span
from ampify.syntax.tree import Tree, Unreadable

_ROUNDS = 100
"""Each round takes out one level of nesting; code that needs more is not code."""

FLOAT = ".float()"

Act = Callable[[AmpFacts, Cuts], None]


class EraseFailed(ValueError):
    """AMP could not be taken out of a text; says why."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What only the plan of a conversion knows."""

    imports: frozenset[AddedImport] = frozenset()
    """Import statements that it added."""
    folds: tuple[str, ...] = ()
    closures: tuple[str, ...] = ()
    """Closures that a plan calls itself, before a step that was given them."""
    """Names that it gave to expressions which stood inside others."""
    floats: tuple[Span, ...] = ()
    """Where it put ``.float()``, in the text that is erased."""
    carried: frozenset[str] = frozenset()
    """Parameters that it added, where one file alone does not tell that they carry a scaler or a switch."""
    had: frozenset[str] | None = None
    """What the program assigned before any AMP came in; None: unknown, it may have branches and switches for AMP."""


def erase_text(text: str, hints: Hints = Hints(), paths: Sequence[str] = ()) -> str:
    """``text`` without AMP; byte for byte the same where there is none. ``paths`` are those of its files."""
    try:
        return _Erasing(hints, paths).run(_without_floats(text, hints.floats))
    except Unreadable as error:
        raise EraseFailed(f"line {error.line}: {error}") from None


def _without_floats(text: str, floats: tuple[Span, ...]) -> str:
    for span in floats:
        if (found := text[span.start : span.end]) != FLOAT:
            raise EraseFailed(f"`{FLOAT}` was expected where `{found}` stands")
    return splice(text, (Edit(span, "") for span in floats))


class _Erasing:
    """Rounds of cuts up to a fixed point, with what has to be remembered of the code that is already gone."""

    def __init__(self, hints: Hints, paths: Sequence[str]) -> None:
        self.hints, self.paths = hints, paths
        self.carriers = hints.carried
        self.freed: set[str] = set()
        self.tests: set[str] = set()

    def run(self, text: str) -> str:
        facts = AmpFacts(Tree(text, self.paths), self.carriers)
        if not facts.touched and self.hints in (Hints(), Hints(had=self.hints.had)):
            return text
        self.carriers |= {facts.title(param) for param in facts.parameters}
        for _ in range(_ROUNDS):
            before, text = text, self._round(facts)
            if before == text:
                return text
            facts = AmpFacts(Tree(text, self.paths), self.carriers)
        raise EraseFailed("AMP is nested too deeply to be taken out")

    def _round(self, facts: AmpFacts) -> str:
        """The text after the first kind of cut that finds something; the order matters."""
        text = facts.tree.source.text
        for act in self._acts():
            cuts = Cuts(facts.tree)
            act(facts, cuts)
            after, freed = cuts.apply()
            if after != text:
                self.freed |= freed
                return after
        return text

    def _acts(self) -> Iterator[Act]:
        yield lambda facts, cuts: give_back(facts, cuts, self.hints.closures)
        yield self._cut_uses
        yield lambda facts, cuts: fold(facts, cuts, self.hints.folds)
        yield cut_carriers
        yield self._cut_switches
        yield self._cut_imports

    def _cut_uses(self, facts: AmpFacts, cuts: Cuts) -> None:
        uses = Uses(facts, cuts)
        uses.cut()
        if self.hints.had is None:
            self.tests |= uses.tests
            merge_branches(facts, cuts, self.tests)

    def _cut_imports(self, facts: AmpFacts, cuts: Cuts) -> None:
        """A program that used no AMP keeps what it imported all the same."""
        cut_imports(facts, cuts, self.freed if self.hints.had is None else set(), self.hints.imports)

    def _cut_switches(self, facts: AmpFacts, cuts: Cuts) -> None:
        cut_switches(facts, cuts, self.freed, self.hints.carried, self.hints.had or frozenset())
