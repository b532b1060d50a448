"""What the engine needs of a file: its code as one text, and the way back to bytes. Knows no file format."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Document(Protocol):
    """Python code that came from a file."""

    @property
    def path(self) -> Path: ...

    @property
    def text(self) -> str:
        """The code, newlines as they are in the file."""

    @property
    def lint_only(self) -> bool:
        """Whether fixes are shown only, never written."""

    def encode(self, new_text: str) -> bytes:
        """The bytes of the file once ``new_text`` stands in the place of `text`."""


class Undecodable(ValueError):
    """Bytes that are no usable text: ``code`` is AMP900 (cannot be decoded) or AMP905 (could not be written back)."""

    def __init__(self, code: str, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.code, self.line = code, line
