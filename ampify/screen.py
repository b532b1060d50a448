"""Which files can have a finding at all: by their bytes, then by the words of their code. Imports no rule."""

from __future__ import annotations

from functools import cache, lru_cache

from ampify.index import NEEDS
from ampify.needs import STEP
from ampify.source import code
from ampify.source.needles import IDLE, Screen
from ampify.source.walk import matters as has_to_do

TYPE_CHECKING = False  # as of `typing`, which every run would have to load
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ampify.config import Settings

_OWN = r"(?i:ampify:|noqa[^\n]*AMP\d)"
"""A comment for ampify, which may be of no use (AMP903); it is looked for where there is one of these words."""
_OWN_WORDS = ("ampify:", "noqa", "NOQA")
_IDLE_SINCE = (1, 10)
"""The first PyTorch with `torch.autocast`; for an older one, even that it is switched off is a finding."""


def codes() -> tuple[str, ...]:
    """Every code that there is."""
    from ampify.diagnostic import TOOL_CODES

    return (*TOOL_CODES, *(code for _, found in NEEDS for code in found))


@cache
def of_rules(settings: Settings | None = None) -> Screen:
    """The screen of the rules that are enabled; without settings, of all."""
    return Screen(needs for needs, found in NEEDS if settings is None or any(map(settings.enables, found)))


@cache
def of_steps() -> Screen:
    """The screen of what lists training steps."""
    return Screen([STEP])


def may_matter(raw: bytes, screen: Screen) -> bool:
    """Whether the bytes of a file can hold a finding."""
    if not has_to_do(raw):
        return False
    own = any(word.encode() in raw for word in _OWN_WORDS) and _is_own(raw.decode("utf-8", "replace"))
    return own or screen.may_find(raw)


def matters(texts: Iterable[str], screen: Screen, target: tuple[int, int] | None) -> bool:
    """Whether the code of files that are looked at together can hold a finding; so can what does not parse."""
    found = [*texts]
    if any(map(_is_own, found)):
        return True
    said = [_said(text) for text in found]
    words = "".join(each for each in said if each is not None)
    if target is not None and target < _IDLE_SINCE:
        words = words.replace(IDLE, "torch.autocast(")
    return None in said or screen.finds(words)


def _is_own(text: str) -> bool:
    if not any(word in text for word in _OWN_WORDS):
        return False
    import re  # seldom needed

    return re.search(_OWN, text) is not None


@lru_cache(64)
def _said(text: str) -> str | None:
    try:
        tree = code.parse(text)
        return None if tree is None else code.said(tree)
    except RecursionError:
        return None
