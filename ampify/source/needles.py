"""What a file must say for a rule to find anything in it: asked of its bytes first, then of the words of its code.

A rule needs one of several alternatives; an alternative is a tuple of groups, all of which are needed; a group is a
list of needles, ``a|b``, of which one is needed. A needle is looked for in the lines of `code.said` as it stands, and
in bytes word by word, where blanks may be:

* ``autocast``: that text, anywhere
* ``backward(``: followed by an opening parenthesis (``step()``: by both); ``.half(``: after a dot, too
* ``amp.``: followed by a dot
* ``torch.amp as``: an import under another name
* ``dtype=half``: ``half`` after an equals sign
* ``apex`` after a line break: that begins a word, in bytes, or the line of an import or a name, in code
* ``to(~half``: ``half`` as an argument of ``to``, or in what a name is assigned that may be one
"""

from __future__ import annotations

TYPE_CHECKING = False  # as of `typing`, which every run would have to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Test = Callable[[bytes], bool]

IDLE = "nocast("
"""Stands for a `torch.autocast` that only switches autocast off, and whose device type cannot be wrong."""

Needs = tuple[tuple[str, ...], ...]
"""Alternatives of groups of needles."""

_BLANKS = b" \t\r\n\f\\"
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_NO_NAME = (b".", b"'", b'"')
"""In front of an attribute, or of text."""
_SHORTEST = 3
"""Words with fewer letters, such as `as`, are in every file."""
_FAR = 2_000
"""Bytes; the parenthesis around an argument is looked for no further up."""

_KNOWN: dict[str, tuple[Test, ...]] = {}
"""The tests of needles that have been asked for."""


class Screen:
    """The needs of some rules, each distinct one asked once."""

    def __init__(self, needs: Iterable[Needs]) -> None:
        split = {tuple(tuple(group.split("|")) for group in each) for one in needs for each in one}
        self._alternatives = sorted(split)

    def may_find(self, raw: bytes) -> bool:
        """Whether the bytes of a file hold what any of the rules needs."""
        known: dict[str, bool] = {}

        def holds(needle: str) -> bool:
            if needle not in known:
                known[needle] = all(test(raw) for test in _tests(needle))
            return known[needle]

        return any(all(any(map(holds, group)) for group in each) for each in self._alternatives)

    def finds(self, said: str) -> bool:
        """Whether code, as `code.said` has it, holds what any of the rules needs."""
        return any(all(any(needle in said for needle in group) for group in each) for each in self._alternatives)


def _tests(needle: str) -> tuple[Test, ...]:
    """What the bytes of a file must pass to hold a needle, by its words."""
    if needle not in _KNOWN:
        _KNOWN[needle] = _made(needle)
    return _KNOWN[needle]


def _made(needle: str) -> tuple[Test, ...]:
    words = [*_words(needle.replace(IDLE, "autocast"))]
    long = [each for each in words if len(each[1]) >= _SHORTEST]
    return tuple(_test(before, word, after, words[0][1]) for before, word, after in long)


def _words(needle: str) -> Iterator[tuple[str, bytes, str]]:
    """The words of a needle, each with what stands next to it."""
    start = None
    for at, char in enumerate(f"{needle} "):
        if char.isalnum() or char == "_":
            start = at if start is None else start
        elif start is not None:
            head = needle[:start]
            before = head[-2:] if head.endswith("~.") else head[-1:]
            yield ("" if before == "." and start > 1 else before), needle[start:at].encode(), needle[at:]
            start = None


def _test(before: str, word: bytes, after: str, first: bytes) -> Test:
    if before == "~.":
        return lambda raw: any(_before(raw, at) == b"." and _given(raw, at, first) for at in _places(raw, word))
    if before == "~" or (before == "(" and word is not first):
        return lambda raw: any(
            _before(raw, at)[-1:] not in _NO_NAME and _given(raw, at, first) for at in _starts(raw, word)
        )
    empty = after.startswith("()")
    follow = b"(" if after.startswith("(") else b"." if after == "." else b"as" if after == " as" else b""
    precede = before.encode() if before in (".", "=") else b""
    if before == "\n":
        return lambda raw: any(True for _ in _starts(raw, word))
    if not follow and not precede:
        return lambda raw: word in raw
    size = len(word)

    def stands(raw: bytes, at: int) -> bool:
        behind = _behind(raw, at + size)
        fits = behind.startswith(follow) and _before(raw, at).endswith(precede)
        return fits and (not empty or behind[1:].lstrip(_BLANKS).startswith(b")"))

    return lambda raw: any(stands(raw, at) for at in _places(raw, word))


def _places(raw: bytes, word: bytes) -> Iterator[int]:
    at = raw.find(word)
    while at >= 0:
        yield at
        at = raw.find(word, at + 1)


def _starts(raw: bytes, word: bytes) -> Iterator[int]:
    """The places where a name begins with a word."""
    return (at for at in _places(raw, word) if not at or raw[at - 1] not in _WORD)


def _behind(raw: bytes, at: int) -> bytes:
    """What follows, blanks left out."""
    return raw[at : at + 200].lstrip(_BLANKS)


def _before(raw: bytes, at: int) -> bytes:
    """The character in front of a place, blanks left out."""
    return raw[at - 1 : at] if raw[at - 1 : at] not in _BLANKS else raw[max(at - 200, 0) : at].rstrip(_BLANKS)[-1:]


def _given(raw: bytes, at: int, name: bytes) -> bool:
    """Whether ``at`` may be an argument of a call of ``name``, a value that a name is bound to, or an annotation.

    What stands in the way of telling, such as half a string, counts as a yes.
    """
    import re  # seldom needed

    depth, lowest, below = 0, max(at - _FAR, 0), 0
    for mark in re.finditer(_MARKS, raw[lowest:at][::-1]):
        char = mark[0]
        if char == b"\n":
            below = depth
        elif char == b"#":  # what has been counted on this line is a comment
            depth = below
        elif char in b")]}":
            depth += 1
        elif char in b"([{":
            depth -= 1
            if depth < 0:
                end = at - mark.end()
                return _named(raw[max(end - 200, 0) : end], name)
        elif len(char) == 1:
            return True
    return True


_MARKS = rb"\"[^\"\n\\]*\"|'[^'\n\\]*'|[][(){}#\n\"']"
"""Strings, brackets, comments, ends of lines, and quotes of strings that go over lines."""


def _named(head: bytes, name: bytes) -> bool:
    """Whether a call whose parenthesis comes next is one of ``name``, or the head of a function."""
    head = head.rstrip(_BLANKS)
    end = len(head)
    while end and head[end - 1] in _WORD:
        end -= 1
    called, rest = head[end:], head[:end].rstrip(_BLANKS)
    return not called or called.endswith(name) or rest.endswith((b"def", b"lambda"))
