"""AMP701: training that Lightning, Accelerate or another framework runs and puts in mixed precision itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ampify.diagnostic import Note, Severity
from ampify.model.frameworks import FrameworkCall, Frameworks
from ampify.model.step import FileModel
from ampify.rewrite import switch
from ampify.rule import Finding, rule, table
from ampify.source.edits import Fix
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
    without: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    argument: str | None = None
    method: str | None = None
    entry: tuple[str, str] | None = None

    def findings(self, model: FileModel) -> Iterator[Finding]:
        """Where its object is built, else the classes and calls that rely on one that is built elsewhere."""
        uses = model.frameworks
        named = {call: self._names(call.paths) for call in uses.calls}
        if any(names & {*self.settled, *self.switches} for names in named.values()):
            return
        if not self.environment.items() <= uses.environment.items():
            return
        made = [call for call, names in named.items() if names & {*self.makes}]
        for call in made:
            if not self._decided(call, named[call]):
                notes = (Note("this differentiates the loss", span) for span in call.backwards)
                yield self._finding(call.span, self._fix(model, call), notes)
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
        """Whether the call says something about mixed precision, may say it out of sight, or is for a CPU."""
        classmethod = not any(path.rpartition(".")[2] in self.makes for path in call.paths)
        arguments = {argument for name in names & {*self.makes} for argument in self.makes[name]}
        said = arguments & {*call.arguments, *call.keys} or call.methods & {*self.switches}
        on_cpu = any(call.arguments.get(name, "").replace("'", '"') == value for name, value in self.without.items())
        return call.opaque or classmethod or bool(said) or on_cpu

    def _fix(self, model: FileModel, call: FrameworkCall) -> Fix | None:
        tree = model.code.tree
        if self.argument is not None:
            return switch.with_argument(tree, call, self.argument)
        if self.method is not None:
            return switch.with_method(call, self.method)
        return switch.with_entry(tree, call, *self.entry) if self.entry is not None else None

    def _finding(self, span: Span, fix: Fix | None = None, notes: Iterable[Note] = ()) -> Finding:
        message = f"Mixed precision is the business of {self.name} here; {self.how} switches it on"
        return Finding(span, message, fix, tuple(notes))


FRAMEWORKS = [Framework(name, **row) for name, row in table(__file__).items()]


@rule("AMP701", "framework-managed-amp", Severity.INFO)
def check(model: FileModel) -> Iterator[Finding]:
    for framework in FRAMEWORKS:
        yield from framework.findings(model)
