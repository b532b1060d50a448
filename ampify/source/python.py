"""Python files as documents: encoding, byte order mark and newlines are kept as they are."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ampify.source.document import Page, Part, Undecodable


@dataclass(frozen=True, slots=True)
class PythonDocument:
    """A ``.py`` or ``.pyi`` file; the latter is only looked at."""

    path: Path
    text: str
    encoding: str

    @property
    def lint_only(self) -> bool:
        return self.path.suffix == ".pyi"

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part(self.text),)

    def pages(self, texts: Sequence[str]) -> list[Page]:
        return [Page(str(self.path), *texts)]

    def encode(self, texts: Sequence[str]) -> bytes:
        (text,) = texts
        return text.encode(self.encoding)


def decode(path: Path, raw: bytes) -> PythonDocument:
    """The document that ``raw`` holds; raises `Undecodable`."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)  # "utf-8-sig" where there is a mark
        document = PythonDocument(path, raw.decode(encoding), encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Undecodable("AMP900", f"This is not {error.encoding} text: {error.reason}", line) from None
    except (SyntaxError, LookupError) as error:
        raise Undecodable("AMP900", f"The encoding cannot be told: {error}") from None
    if document.encode([document.text]) != raw:
        raise Undecodable("AMP905", f"The text does not give back the bytes of this file in {encoding}")
    return document
