"""The way in. What needs no look is answered here with the cheapest parts of Python, all else by `ampify.cli`.

Most files that a hook or an editor hands over can have no finding, and to load the command line, the settings and the
engine costs eleven starts of Python. Answered here is `ampify PATHS` with the plainest options, where no settings for
ampify are in reach, nothing is kept from other runs, and no finding is possible: `ampify.cli` would answer the same. A
`pyproject.toml` that says nothing of ampify is not parsed.
"""

from __future__ import annotations

import os
import sys

from ampify import __version__

TYPE_CHECKING = False  # as of `typing`
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = ("check", "clean", "erase", "explain", "rules", "server", "steps", "verify")
"""The words that are no path where they come first."""
_QUIET = {"-q", "--quiet"}
_PLAIN = {*_QUIET, "--fix", "--unsafe-fixes", "--no-cache", "--exit-zero"}
_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")
_MARKS = ("ampify.toml", ".ampify_cache")
"""The names of settings, and of what is kept between runs."""


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
    try:
        if any(map(_is_configured, paths)):
            return None
        from ampify.source.walk import find

        return _screened([*find(paths, _raised)], {path for path in paths if not os.path.isdir(path)})
    except (OSError, ValueError):  # told by the command line; `ValueError`: there is no such path
        return None


def _is_plain(words: Sequence[str]) -> bool:
    """Whether what is to be printed is plain text."""
    return not _QUIET.isdisjoint(words) or not (sys.stdout.isatty() or any(map(os.environ.get, _COLOURS)))


def _is_configured(path: str) -> bool:
    """Whether there may be settings for a path, or something kept of an earlier run."""
    from ampify.source.walk import above

    places = (place for root in (os.path.abspath(path), os.getcwd()) for place in above(root))
    return "AMPIFY_CACHE_DIR" in os.environ or any(
        any(os.path.exists(f"{place}/{mark}") for mark in _MARKS) or _speaks(f"{place}/pyproject.toml")
        for place in places
    )


def _speaks(file: str) -> bool:
    return os.path.exists(file) and b"ampify" in _read(file)


def _screened(found: Sequence[str], named: set[str]) -> int | None:
    from ampify.screen import may_matter, of_rules, of_steps
    from ampify.source.walk import matters

    uses = False
    for file in found:
        raw = _read(file)
        uses = uses or matters(raw)
        if may_matter(raw, of_rules()) or (file in named and matters(raw) and not _is_idle(file, raw)):
            return None
    if uses and len(found) > 1 and any(of_steps().may_find(_read(file)) for file in found):
        return None  # files without a finding of their own may be a training step together
    return len(found)


def _is_idle(file: str, raw: bytes) -> bool:
    """Whether a file that was named is plain Python code, does parse, and has no word that a rule looks for."""
    from ampify.screen import matters, of_rules
    from ampify.source.walk import LARGEST

    if not file.endswith((".py", ".pyi")) or len(raw) > LARGEST or b"coding" in raw or raw.startswith(b"\xef\xbb\xbf"):
        return False
    return not matters([raw.decode()], of_rules(), (0, 0))


def _read(file: str) -> bytes:
    with open(file, "rb") as opened:
        return opened.read()


def _raised(error: OSError) -> None:
    raise error
