"""`--fix --verified-only SCRIPT`: conversions that `ampify verify` holds for are written, just as it ran them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampify.config import Settings
from ampify.diagnostic import TOOL_CODES, Diagnostic, Severity
from ampify.offer import Offer
from ampify.source.text import SourceText, Span

if TYPE_CHECKING:
    from ampify.engine import Report, Run, Track
    from ampify.inspection import FileReport
    from ampify.verify.sources import Sources
    from ampify.verify.verdict import Verdict

Key = tuple[str, str, str, str]
"""By which a conversion is known: file, rule, function, and the head of the step."""
_HOLDS = ("EQUIVALENT", "PLUMBING-EQUIVALENT")


@dataclass(frozen=True, slots=True)
class _Trial:
    """A climb with some conversions: what it says, the two programs, and the conversions that were offered."""

    verdict: Verdict
    sources: Sources | None
    offered: tuple[Key, ...]

    @property
    def holds(self) -> bool:
        """Whether every level that ran holds, and something of the conversion ran."""
        statements = sum(map(len, self.sources.changed.values())) if self.sources else 0
        return self.verdict.word in _HOLDS and len(self.verdict.unverified) < statements


def check(paths: Sequence[Path], run: Run, track: Track, script: Path, words: tuple[str, ...]) -> Report:
    """Write what is verified, then all fixes that bring no AMP; AMP901 is said of what does not hold."""
    from ampify import engine

    trials = _Trials(_climber(script, words, run.settings))
    _fix(paths, run, script, trials.best())
    report = engine.check(paths, replace(run, ask=lambda offer: not _converts(offer)), track)
    why = f"`ampify verify {script}` does not hold for this step, so it is not converted"
    return replace(report, files=(*report.files, *(_accusation(key, why, run) for key in sorted(trials.refused))))


def _accusation(key: Key, why: str, run: Run) -> FileReport:
    """AMP901 at a step that was refused, as it stands now."""
    from ampify.inspection import FileReport
    from ampify.source.document import Part
    from ampify.source.python import decode
    from ampify.source.statements import statements

    path = Path(key[0])
    text = decode(path, path.read_bytes()).text
    source = SourceText(text)
    there = [each for each in statements(source, source.files[0]) if (each.scope, each.code) == key[2:]]
    start = source.offset(there[0].first if there else 1, 0)
    start += len(source.indent(start))
    row, level = TOOL_CODES["AMP901"], Severity[run.settings(path).fail_level.upper()]
    found = Diagnostic(_shown(path), Span(start, source.line_end(start)), "AMP901", row.name, row.severity, why)
    return FileReport(_shown(path), text, text, (found,), (), level, Part(text))


def _fix(paths: Sequence[Path], run: Run, script: Path, trial: _Trial) -> None:
    """Write the conversions of a trial, if it holds."""
    from ampify.source.files import find

    given = {path.resolve() for path in find(paths, lambda error: None)}
    written = list(_write(trial.sources.candidate, given, run)) if trial.holds and trial.sources else []
    for path in written:
        click.echo(f"ampify: wrote {_shown(path)} as it was verified; {_levels(trial.verdict)}", err=True)
    if not written:
        click.echo(f"ampify: no conversion is written: {_why(trial)}", err=True)
    if trial.verdict.word == "CANNOT RUN":
        run.errors.append(f"{script} could not be verified: {trial.verdict.reason}")


@dataclass(slots=True)
class _Trials:
    """Looks for the conversions that hold, and remembers those that do not."""

    climb: Callable[[Callable[[Key], bool]], _Trial]
    refused: set[Key] = field(default_factory=set)

    def best(self) -> _Trial:
        """The trial with all conversions if it holds, else with those that hold alone."""
        trial = self._try(lambda key: True)
        keys = list(dict.fromkeys(trial.offered))
        if len(keys) < 2 or (trial.holds and not trial.verdict.unverified) or trial.verdict.word == "CANNOT RUN":
            return trial
        self.refused.clear()
        alone = {key: self._try(key.__eq__) for key in keys}
        held = {key for key, each in alone.items() if each.holds}
        if len(held) == 1:
            return alone[held.pop()]
        return self._try(held.__contains__) if held else trial

    def _try(self, wanted: Callable[[Key], bool]) -> _Trial:
        trial = self.climb(wanted)
        if trial.verdict.word == "NOT EQUIVALENT":
            self.refused |= {key for key in trial.offered if wanted(key)}
        return trial


def _climber(
    script: Path, words: tuple[str, ...], settings: Callable[[Path], Settings]
) -> Callable[[Callable[[Key], bool]], _Trial]:
    from ampify.verify import sources
    from ampify.verify.ladder import climb
    from ampify.verify.report import text
    from ampify.verify.request import Request

    request = Request(script=script.absolute(), args=words, name=str(script), settings=settings)

    def attempt(wanted: Callable[[Key], bool]) -> _Trial:
        found = _Found(wanted)

        def find(loaded: Iterable[Path], settings: Any) -> Any:
            found.sources = sources.find(loaded, settings, found.ask)
            return found.sources

        verdict = climb(request, find=find)
        text.render([verdict], sys.stderr)
        both = found.sources if isinstance(found.sources, sources.Sources) and found.sources.mode == "convert" else None
        return _Trial(verdict, both, tuple(found.offered))

    return attempt


@dataclass(slots=True)
class _Found:
    """Takes the conversions that are wanted, and all other fixes."""

    wanted: Callable[[Key], bool]
    sources: Any = None
    offered: list[Key] = field(default_factory=list)

    def ask(self, offer: Offer) -> bool:
        if not _converts(offer):
            return True
        self.offered.append(key := _key(offer.finding, offer.before))
        return self.wanted(key)


def _converts(offer: Offer) -> bool:
    """Whether a fix brings AMP into a program."""
    from ampify.rewrite.prove import Erases, Migrates

    return offer.finding.fix is not None and isinstance(offer.finding.fix.proof, Erases | Migrates)


def _key(finding: Diagnostic, text: str) -> Key:
    from ampify.source.statements import at, statements

    source, start = SourceText(text), finding.span.start
    file = source.files[source.file(start)]
    statement = at([*statements(source, file)], source.line(start))
    where = (statement.scope, statement.code) if statement else ("", "")
    return (str(Path(finding.path).resolve()), finding.code, *where)


def _write(texts: Mapping[Path, str], given: set[Path], run: Run) -> Iterator[Path]:
    """Write the candidate's files, all or none."""
    from ampify.source.files import write
    from ampify.source.python import decode

    if strange := [path for path in texts if path.resolve() not in given]:
        run.errors.append(f"{_shown(strange[0])} would change too, and is not among the files given")
        return
    done: list[tuple[Path, bytes, bytes]] = []
    for path, text in texts.items():
        try:
            old = path.read_bytes()
            new = decode(path, old).encode([text])
            write(path, old, new)
        except OSError as error:
            run.failed(path, error)
            for other, then, now in done:
                write(other, now, then)
            return
        done.append((path, old, new))
    yield from (path for path, _, _ in done)


def _why(trial: _Trial) -> str:
    verdict = trial.verdict
    if verdict.word in _HOLDS:
        return "nothing of it ran" if trial.sources else "the script uses AMP as it is"
    return verdict.reason or f"the verdict is {verdict.word}"


def _levels(verdict: Verdict) -> str:
    """Which levels held, and which were not run."""
    found = {status: ", ".join(level.name for level in verdict.levels if level.status == status)
             for status in ("holds", "not run")}  # fmt: skip
    return f"held: {found['holds']}" + (f"; not run: {found['not run']}" if found["not run"] else "")


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
