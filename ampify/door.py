"""The way in. What needs no look is answered here with the cheapest parts of Python, all else by `ampify.cli`.

Most files that a hook or an editor hands over can have no finding, and to load the command line, the settings and the
engine costs eleven starts of Python. Answered here is `ampify PATHS` with the plainest options where no finding is
possible: `ampify.cli` would answer the same. A `pyproject.toml` that says nothing of ampify is not parsed.
"""

from __future__ import annotations

import os
import sys

from ampify import __version__

TYPE_CHECKING = False  # as of `typing`
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMANDS = ("check", "clean", "erase", "explain", "rules", "server", "steps", "verify")
"""The words that are no path where they come first."""
_QUIET = {"-q", "--quiet"}
_PLAIN = {*_QUIET, "--fix", "--unsafe-fixes", "--no-cache", "--exit-zero"}
_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")


def main() -> None:
    """The program `ampify`."""
    words = sys.argv[1:]
    if words == ["--version"]:
        print(f"ampify {__version__}")  # noqa: T201
    elif (count := _nothing_in(words)) is None:
        from ampify.cli import main as whole

        whole(prog_name="ampify")
    elif _QUIET.isdisjoint(words):
        print(f"Nothing to report in {count} {'file' if count == 1 else 'files'}")  # noqa: T201


def _nothing_in(words: Sequence[str]) -> int | None:
    """In how many files there is nothing to look at; None where that cannot be said here."""
    if words[:1] == ["check"]:
        words = words[1:]
    elif words[:1] and words[0] in COMMANDS:
        return None
    paths = [word for word in words if word not in _PLAIN]
    if not paths or any(path.startswith("-") for path in paths) or not _is_plain(words):
        return None
    folders = [path for path in paths if os.path.isdir(path)]
    if folders and _is_kept(folders):
        return None
    try:
        from ampify.source.walk import LARGEST, find

        largest = min(_largest(path) if _is_configured(path) else LARGEST for path in paths)
        return _screened([*find(paths, _raised)], {*paths}.difference(folders), largest)
    except (OSError, ValueError):  # told by the command line, such as what is wrong with settings
        return None


def _is_plain(words: Sequence[str]) -> bool:
    """Whether what is to be printed is plain text."""
    return not _QUIET.isdisjoint(words) or not (sys.stdout.isatty() or any(map(os.environ.get, _COLOURS)))


def _above(path: str) -> Iterator[str]:
    from ampify.source.walk import above

    return above(os.path.abspath(path))


def _is_kept(folders: Sequence[str]) -> bool:
    """Whether what an earlier run has found may be kept: then a tree need not be read."""
    places = (place for path in (*folders, ".") for place in _above(path))
    return "AMPIFY_CACHE_DIR" in os.environ or any(os.path.exists(f"{place}/.ampify_cache") for place in places)


def _is_configured(path: str) -> bool:
    """Whether a config file that counts for a path may speak of ampify."""
    return any(os.path.exists(f"{place}/ampify.toml") or _speaks(f"{place}/pyproject.toml") for place in _above(path))


def _largest(path: str) -> float:
    """The size that settings allow; raises `ValueError` for settings that have to be told of or asked further."""
    from pathlib import Path

    from ampify.config import Lookup
    from ampify.index import NEEDS

    settings = Lookup().written(Path(path))
    known = [code for _, codes in NEEDS for code in codes]
    if settings.baseline or not all(any(code.startswith(each) for code in known) for each in settings.codes):
        raise ValueError("not to be answered here")
    return settings.largest


def _speaks(file: str) -> bool:
    return os.path.exists(file) and b"ampify" in _read(file)


def _screened(found: Sequence[str], named: set[str], largest: float) -> int | None:
    from ampify.screen import may_matter, of_rules, of_steps
    from ampify.source.walk import journals, matters

    if journals(found):  # another run is writing these files, or was killed as it did
        return None
    uses = False
    for file in found:
        raw = _read(file)
        if not matters(raw):
            continue
        uses = True
        if may_matter(raw, of_rules()) or (file in named and not _is_idle(file, raw, largest)):
            return None
    if uses and len(found) > 1 and any(of_steps().may_find(_read(file)) for file in found):
        return None  # files without a finding of their own may be a training step together
    return len(found)


def _is_idle(file: str, raw: bytes, largest: float) -> bool:
    """Whether a file that was named is plain Python code, does parse, and has no word that a rule looks for."""
    from ampify.screen import matters, of_rules

    if not file.endswith((".py", ".pyi")) or len(raw) > largest or b"coding" in raw or raw.startswith(b"\xef\xbb\xbf"):
        return False
    return not matters([raw.decode()], of_rules(), (0, 0))


def _read(file: str) -> bytes:
    with open(file, "rb", 0) as opened:  # without a buffer, which would be as much work again
        return opened.read()


def _raised(error: OSError) -> None:
    raise error
