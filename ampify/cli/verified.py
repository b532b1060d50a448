"""`--fix --verified-only SCRIPT`: conversions that `ampify verify` holds for are written, just as it ran them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ampify.config import Lookup
from ampify.offer import Offer

if TYPE_CHECKING:
    from ampify.engine import Run
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


def fix(paths: Sequence[Path], run: Run, script: Path, words: tuple[str, ...], lookup: Lookup) -> Run:
    """Write what is verified, and give the run that then writes all other fixes; raises `ConfigError`."""
    from ampify.source.files import find

    given = {path.resolve() for path in find(paths, lambda error: None)}
    trial = _verified(_climber(script, words, lookup))
    written = list(_write(trial.sources.candidate, given, run)) if trial.holds and trial.sources else []
    for path in written:
        click.echo(f"ampify: wrote {_shown(path)}, as it was verified", err=True)
    if not written:
        click.echo(f"ampify: no conversion is written: {_why(trial)}", err=True)
    if trial.verdict.word == "CANNOT RUN":
        run.errors.append(f"{script} could not be verified: {trial.verdict.reason}")
    return replace(run, ask=lambda offer: not _converts(offer))


def _verified(climb: Callable[[Callable[[Key], bool]], _Trial]) -> _Trial:
    """The climb with the conversions that hold: with all of them, else with those that hold alone."""
    trial = climb(lambda key: True)
    keys = list(dict.fromkeys(trial.offered))
    if len(keys) < 2 or (trial.holds and not trial.verdict.unverified) or trial.verdict.word == "CANNOT RUN":
        return trial
    alone = {key: climb(key.__eq__) for key in keys}
    held = {key for key, each in alone.items() if each.holds}
    if len(held) == 1:
        return alone[held.pop()]
    return climb(held.__contains__) if held else trial


def _climber(script: Path, words: tuple[str, ...], lookup: Lookup) -> Callable[[Callable[[Key], bool]], _Trial]:
    from ampify.verify import sources
    from ampify.verify.ladder import climb
    from ampify.verify.report import text
    from ampify.verify.request import Request

    request = Request(script=script.absolute(), args=words, name=str(script), settings=lookup)

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
        self.offered.append(key := _key(offer))
        return self.wanted(key)


def _converts(offer: Offer) -> bool:
    """Whether a fix brings AMP into a program."""
    from ampify.rewrite.prove import Erases, Migrates

    return offer.finding.fix is not None and isinstance(offer.finding.fix.proof, Erases | Migrates)


def _key(offer: Offer) -> Key:
    from ampify.source.statements import at, statements
    from ampify.source.text import SourceText

    source, start = SourceText(offer.before), offer.finding.span.start
    file = source.files[source.file(start)]
    statement = at([*statements(source, file)], source.line(start))
    where = (statement.scope, statement.code) if statement else ("", "")
    return (offer.finding.path, offer.finding.code, *where)


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


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
