"""Which files can have a finding at all: by their bytes, then by the words of their code. Imports no rule."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache

from ampify.config import ConfigError, Settings
from ampify.diagnostic import TOOL_CODES
from ampify.index import NEEDS
from ampify.needs import STEP
from ampify.source import code, files
from ampify.source.needles import Screen

_OWN = b"ampify:"
"""A comment for ampify itself, which may be of no use (AMP903)."""
_IDLE_SINCE = (1, 10)
"""The first PyTorch with `torch.autocast`; for an older one, even that it is switched off is a finding."""


@cache
def of_rules(select: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> Screen:
    """The screen of the rules that are enabled; raises `ConfigError` for codes that there are not."""
    codes = (*TOOL_CODES, *(code for _, found in NEEDS for code in found))
    for prefix in (*select, *ignore):
        if not any(code.startswith(prefix) for code in codes):
            raise ConfigError(f"no code begins with `{prefix}`; `ampify rules` lists them")
    settings = Settings(select, ignore)
    return Screen(needs for needs, found in NEEDS if any(map(settings.enables, found)))


@cache
def of_steps() -> Screen:
    """The screen of what lists training steps."""
    return Screen([STEP])


def may_matter(raw: bytes, screen: Screen) -> bool:
    """Whether the bytes of a file can hold a finding."""
    return files.matters(raw) and (_OWN in raw or screen.may_find(raw))


def matters(texts: Iterable[str], screen: Screen, target: tuple[int, int] | None) -> bool:
    """Whether the code of files that are looked at together can hold a finding; so can what does not parse."""
    found = [*texts]
    if any(_OWN.decode() in text for text in found):
        return True
    said = [_said(text) for text in found]
    words = "".join(each for each in said if each is not None)
    if target is not None and target < _IDLE_SINCE:
        words = words.replace(code.IDLE, "torch.autocast(")
    return None in said or screen.finds(words)


@lru_cache(64)
def _said(text: str) -> str | None:
    try:
        tree = code.parse(text)
        return None if tree is None else code.said(tree)
    except RecursionError:
        return None
