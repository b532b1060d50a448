"""What a project itself says of its line length and of the oldest torch it is for. Knows no setting of ampify."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampify import toml_files

if TYPE_CHECKING:
    from packaging.version import Version

Torch = tuple[int, int]


def _project_toml(file: Path) -> dict[str, Any]:
    """A file of other tools: what is wrong with it is theirs to say."""
    try:
        return toml_files.read(file) or {}
    except toml_files.Flawed:
        return {}


def line_length(folder: Path) -> int | None:
    """The line length that the project's formatter keeps to."""
    for parent in (folder, *folder.parents):
        data = _project_toml(parent / "pyproject.toml")
        of_ruff = [_project_toml(parent / name) for name in (".ruff.toml", "ruff.toml")]
        for table in (*of_ruff, toml_files.part(data, "tool", "ruff"), toml_files.part(data, "tool", "black")):
            if isinstance(length := table.get("line-length"), int):
                return length
    return None


def pinned_torch(folder: Path) -> Torch | None:
    """The oldest torch that the nearest pins allow, up to the root of the repository."""
    for parent in (folder, *folder.parents):
        lowest = [torch for line in _requirements(parent) if (torch := _lower_bound(line))]
        if lowest:
            return min(lowest)
        if (parent / ".git").exists():
            break
    return None


def _requirements(folder: Path) -> Iterator[str]:
    """The requirement lines of the files that list dependencies in ``folder``."""
    for file in sorted(folder.glob("requirements*.txt")):
        try:
            yield from file.read_text("utf-8-sig", "replace").splitlines()
        except OSError:
            continue
    yield from _of_pyproject(_project_toml(folder / "pyproject.toml"))
    yield from _of_setup(folder / "setup.cfg")
    for file in sorted([*folder.glob("environment*.yml"), *folder.glob("environment*.yaml")]):
        yield from _of_conda(file)


_CONDA = re.compile(
    r"(?:[\w.-]+::)?(?:py)?torch(?:(?:\s+|\s*==?\s*)(?P<exact>\d[\w.]*?)(?:\.?\*)?(?:=.*)?|\s*(?P<bounds>[<>!~].*))"
)
"""A package of conda: `pytorch=2.1`, `pytorch::pytorch==2.1.0=py3.10_cuda11.8`, `pytorch >=2.1,<2.3`."""


def _of_conda(file: Path) -> Iterator[str]:
    """The requirements of torch in an environment of conda, also those that pip is to install there."""
    try:
        lines = file.read_text("utf-8-sig", "replace").splitlines()
    except OSError:
        return
    for line in (line.strip().partition(" #")[0] for line in lines if line.lstrip().startswith("- ")):
        if match := _CONDA.fullmatch(line[1:].strip().strip("'\"")):
            exact, bounds = match["exact"], match["bounds"]
            yield f"torch=={exact}" if exact else f"torch{bounds}"


def _of_setup(file: Path) -> Iterator[str]:
    if not file.is_file():
        return
    import configparser  # few projects have one

    setup = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        setup.read(file, "utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return
    for section in {"options", "options.extras_require"} & set(setup.sections()):
        for value in setup[section].values():
            yield from value.splitlines()


def _of_pyproject(data: dict[str, Any]) -> Iterator[str]:
    project = toml_files.part(data, "project")
    groups = [
        *toml_files.part(project, "optional-dependencies").values(),
        *toml_files.part(data, "dependency-groups").values(),
    ]
    for group in (project.get("dependencies"), *groups):
        yield from (line for line in group if isinstance(line, str)) if isinstance(group, list) else ()
    pin = toml_files.part(data, "tool", "poetry", "dependencies").get("torch")
    if isinstance(version := pin.get("version") if isinstance(pin, dict) else pin, str):
        caret = re.match(r"[\^~]?(?=\d)", version)  # `^2.1` and `2.1` are lower bounds in Poetry
        yield f"torch>={version[caret.end() :]}" if caret else f"torch{version.replace('*', '')}"


def _lower_bound(line: str) -> Torch | None:
    """The oldest torch that a requirement allows; an upper bound alone stands for the newest release beneath it."""
    if not line.lstrip().lower().startswith("torch"):
        return None
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion, Version

    try:
        requirement = Requirement(re.split(r"\s(?:#|--|\\)", line)[0].strip())
        pins = [(s.operator, Version(s.version.removesuffix(".*"))) for s in requirement.specifier]
    except (InvalidRequirement, InvalidVersion):
        return None
    if requirement.name.lower() != "torch":
        return None
    lower = [(version.major, version.minor) for operator, version in pins if operator[0] in "=~>"]
    upper = [_newest(operator, version) for operator, version in pins if operator[0] == "<"]
    return max(lower, default=None) or min(upper, default=None)


def _newest(operator: str, bound: Version) -> Torch:
    """The newest release that ``< bound`` or ``<= bound`` allows."""
    if operator == "<=" or bound.micro:
        return bound.major, bound.minor
    return (bound.major, bound.minor - 1) if bound.minor else (bound.major - 1, 13)  # 1.13 was the last of 1.x
