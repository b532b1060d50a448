"""AMP701: training that Lightning, Accelerate or another framework runs and puts in mixed precision itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ampify.diagnostic import Note, Severity
from ampify.model.frameworks import FrameworkCall, Frameworks
from ampify.model.step import FileModel
from ampify.rule import Finding, rule, table
from ampify.source.text import Span


@dataclass(frozen=True, slots=True)
class Framework:
    """A row of the table, which says what the fields mean."""

    name: str
    packages: tuple[str, ...]
    how: str
    makes: Mapping[str, list[str]] = field(default_factory=dict)
    derives: Mapping[str, list[str]] = field(default_factory=dict)
    settled: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    def findings(self, uses: Frameworks) -> Iterator[Finding]:
        """Where its object is built, else the classes and calls that rely on one that is built elsewhere."""
        named = {call: self._names(call.paths) for call in uses.calls}
        if any(names & {*self.settled, *self.switches} for names in named.values()):
            return
        made = [call for call, names in named.items() if names & {*self.makes}]
        for call in made:
            if not self._decided(call, named[call]):
                notes = (Note("this differentiates the loss", span) for span in call.backwards)
                yield self._finding(call.span, notes)
        if not made:
            yield from (self._finding(span) for span in self._elsewhere(uses))

    def _elsewhere(self, uses: Frameworks) -> Iterator[Span]:
        for cls in uses.classes:
            bases = self._names(cls.bases)
            if any(base in bases and cls.methods & {*methods} for base, methods in self.derives.items()):
                yield cls.span
        yield from (use.span for use in uses.backwards if self._names(use.types) & {*self.types})

    def _names(self, paths: Iterable[str]) -> set[str]:
        """The names along those paths that are in its packages."""
        return {name for path in paths if path.split(".")[0] in self.packages for name in path.split(".")[1:]}

    def _decided(self, call: FrameworkCall, names: set[str]) -> bool:
        """Whether the call says something about mixed precision, or may say it where it cannot be seen."""
        classmethod = not any(path.rpartition(".")[2] in self.makes for path in call.paths)
        arguments = {argument for name in names & {*self.makes} for argument in self.makes[name]}
        return call.opaque or classmethod or bool(arguments & call.settings or call.methods & {*self.switches})

    def _finding(self, span: Span, notes: Iterable[Note] = ()) -> Finding:
        message = f"Mixed precision is the business of {self.name} here; {self.how} switches it on"
        return Finding(span, message, notes=tuple(notes))


FRAMEWORKS = [Framework(name, **row) for name, row in table(__file__).items()]


@rule("AMP701", "framework-managed-amp", Severity.INFO)
def check(model: FileModel) -> Iterator[Finding]:
    for framework in FRAMEWORKS:
        yield from framework.findings(model.frameworks)
