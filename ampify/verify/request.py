"""What is to be verified, and how: one script with its arguments. Runs nothing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ampify.config import Lookup, Precision, Settings

MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg", "ampify.toml")
"""What lies in the root of a project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A script or a module (as in ``python -m``), its arguments, and what is to be shown of it.

    ``settings`` are those of ``--fix``, by file. ``steps`` counts attempts of an optimizer, ``timeout`` seconds for
    each run. ``launch`` is a command such as ``torchrun --nproc-per-node 2``.
    """

    script: Path | None = None
    module: str | None = None
    args: tuple[str, ...] = ()
    cwd: Path = field(default_factory=Path.cwd)
    python: str = sys.executable
    steps: int = 8
    seed: int = 0
    timeout: float = 600.0
    device: str = "auto"
    dtype: Precision | None = None
    numerics: bool = False
    bench: bool = False
    fake_cuda: bool = False
    synthetic_data: bool = False
    launch: tuple[str, ...] = ()
    name: str | None = None
    settings: Callable[[Path], Settings] = field(default_factory=Lookup)

    def __post_init__(self) -> None:
        if (self.script is None) == (self.module is None):
            raise ValueError("a request names a script or a module, and not both")

    @property
    def title(self) -> str:
        """The name given, else the command that is run."""
        what = ["-m", self.module] if self.module else [str(self.script)]
        return self.name or shlex.join([*what, *self.args])

    @property
    def path(self) -> Path | None:
        """The script itself, links followed; None for a module, which only the interpreter finds."""
        return None if self.script is None else (self.cwd / self.script).resolve()

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders whose files are the project's own: the working directory and the project of the script."""
        folders = [self.cwd.resolve(), *([self.path.parent] if self.path else [])]
        return tuple(dict.fromkeys(found for folder in folders for found in _own(folder)))


def _own(folder: Path) -> Iterator[Path]:
    """``folder`` and the nearest folder above that is the root of a project."""
    yield folder
    for parent in folder.parents:
        if any((parent / mark).exists() for mark in MARKS):
            yield parent
            return
