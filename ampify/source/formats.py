"""Which format a file is in, told by its suffix."""

from __future__ import annotations

from pathlib import Path

from ampify.source import markdown, notebook, python
from ampify.source.document import Document


def decode(path: Path, raw: bytes) -> Document:
    """The document that ``raw`` holds; raises `Undecodable`."""
    match path.suffix:
        case ".ipynb":
            return notebook.decode(path, raw)
        case ".md":
            return markdown.decode(path, raw)
        case _:
            return python.decode(path, raw)
