"""AMP701: training that Lightning, Accelerate or another framework runs and puts in mixed precision itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ampify.diagnostic import Note, Severity
from ampify.model.frameworks import FRAMEWORKS, Framework, FrameworkCall, Frameworks
from ampify.model.step import FileModel
from ampify.rewrite import switch
from ampify.rule import Finding, rule
from ampify.source.edits import Fix
from ampify.source.text import Span

_FORMS = ("{}(", "{} as", "{}\n")
NEEDS = tuple(
    (
        "|".join(f"\n{package}" for package in framework.packages),
        "|".join(form.format(name) for name in sorted(framework.trained) for form in _FORMS),
        *framework.environment,
    )
    for framework in FRAMEWORKS
)


@rule("AMP701", "framework-managed-amp", Severity.INFO, NEEDS)
def check(model: FileModel) -> Iterator[Finding]:
    for framework in FRAMEWORKS:
        yield from _findings(framework, model)


def _findings(framework: Framework, model: FileModel) -> Iterator[Finding]:
    """Where its object is built, else the classes and calls that rely on one that is built elsewhere."""
    uses = model.frameworks
    named = {call: framework.names(call.paths) for call in uses.calls}
    if any(names & {*framework.settled, *framework.switches} for names in named.values()):
        return
    if not framework.environment.items() <= uses.environment.items():
        return
    made = [call for call, names in named.items() if names & {*framework.makes}]
    for call in made:
        if not _decided(framework, call, named[call]):
            notes = (Note("this differentiates the loss", span) for span in call.backwards)
            yield _finding(framework, call.span, _fix(framework, model, call), notes)
    if not made:
        yield from (_finding(framework, span) for span in _elsewhere(framework, uses))


def _elsewhere(framework: Framework, uses: Frameworks) -> Iterator[Span]:
    for cls in uses.classes:
        bases = framework.names(cls.bases)
        if any(base in bases and cls.methods & {*methods} for base, methods in framework.derives.items()):
            yield cls.span
    yield from (use.span for use in uses.backwards if framework.names(use.types) & {*framework.types})


def _decided(framework: Framework, call: FrameworkCall, names: set[str]) -> bool:
    """Whether the call says something about mixed precision, may say it out of sight, or is for a CPU."""
    classmethod = not any(path.rpartition(".")[2] in framework.makes for path in call.paths)
    arguments = {argument for name in names & {*framework.makes} for argument in framework.makes[name]}
    said = arguments & {*call.arguments, *call.keys} or call.methods & {*framework.switches}
    on_cpu = any(call.arguments.get(name, "").replace("'", '"') == value for name, value in framework.without.items())
    return call.opaque or classmethod or bool(said) or on_cpu


def _fix(framework: Framework, model: FileModel, call: FrameworkCall) -> Fix | None:
    tree = model.code.tree
    if framework.argument is not None:
        return switch.with_argument(tree, call, framework.argument)
    if framework.method is not None:
        return switch.with_method(call, framework.method)
    return switch.with_entry(tree, call, *framework.entry) if framework.entry is not None else None


def _finding(framework: Framework, span: Span, fix: Fix | None = None, notes: Iterable[Note] = ()) -> Finding:
    return Finding(span, framework.answer[0].upper() + framework.answer[1:], fix, tuple(notes))
