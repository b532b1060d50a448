"""What the user and the project have set: options, `[tool.ampify]`, line length, the oldest torch. Knows no rule."""

from __future__ import annotations

import configparser
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from packaging.version import Version

FailLevel = Literal["info", "warning", "error"]
Precision = Literal["float16", "bfloat16"]
Device = Literal["auto", "cuda", "cpu"]
Torch = tuple[int, int]

OLDEST_TORCH: Torch = (1, 10)
"""The first release with `torch.autocast`."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides what is reported and written. A pin may set ``target_torch`` below `OLDEST_TORCH`."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_level: FailLevel = "warning"
    dtype: Precision = "float16"
    device: Device = "auto"
    target_torch: Torch | None = None
    unsafe_fixes: bool = False
    line_length: int = 88

    def enables(self, code: str) -> bool:
        """Whether findings of ``code`` are wanted; an empty ``select`` selects all."""
        return code.startswith(self.select or "AMP") and not code.startswith(self.ignore)


VERIFY = "verify"
"""The key of the scripts that `ampify verify` runs; `verify/project.py` reads their tables."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "fail_level": ("info", "warning", "error"),
    "dtype": ("float16", "bfloat16"),
    "device": ("auto", "cuda", "cpu"),
}


@dataclass(frozen=True)
class Lookup:
    """Settings by file: the options, else the config file, else what the project itself says."""

    options: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None

    def __call__(self, path: Path) -> Settings:
        return replace(load(path, self.config), **self.options)


def load(path: Path, config: Path | None = None) -> Settings:
    """The settings for a file or folder: of ``config`` if given, else of the nearest config file."""
    path = path.absolute()
    return _of_folder(path if path.is_dir() else path.parent, config)


@cache
def _of_folder(folder: Path, config: Path | None) -> Settings:
    table = _table(config) if config else _nearest_table(folder)
    if table is None:
        raise ConfigError(f"{config}: there are no settings for ampify")
    known: dict[str, Any] = {"line_length": _line_length(folder), "target_torch": _pinned_torch(folder)}
    return Settings(**{name: value for name, value in known.items() if value is not None} | table)


def verify_tables(folder: Path, config: Path | None = None) -> tuple[Path, object]:
    """What ``config``, else the nearest config file, says about `ampify verify`, unchecked, and which file that is."""
    for file in (config,) if config else _config_files(folder.absolute()):
        if isinstance(data := _settings_in(file), dict) and VERIFY in data:
            return file, data[VERIFY]
    raise ConfigError("no script is given, and there is no `[[tool.ampify.verify]]` in a config file")


def parse_torch(version: str) -> Torch:
    """``"2.3"`` or ``"2.3.1"`` as a pair; versions without `torch.autocast` are refused."""
    if not (match := re.fullmatch(r"(\d+)\.(\d+)(\..*)?", version)):
        raise ConfigError(f"`{version}` is not a torch version such as `2.3`")
    torch = int(match[1]), int(match[2])
    if torch < OLDEST_TORCH:
        raise ConfigError(f"torch {version} has no `torch.autocast`; the oldest target is 1.10")
    return torch


def parse_codes(codes: str) -> tuple[str, ...]:
    """A comma-separated list of codes or prefixes of codes."""
    found = tuple(code.strip().upper() for code in codes.split(",") if code.strip())
    for code in found:
        if not re.fullmatch(r"AMP\d{0,3}", code):
            raise ConfigError(f"`{code}` is not a code such as `AMP206`, nor the beginning of one")
    return found


def _nearest_table(folder: Path) -> dict[str, Any]:
    return next((table for file in _config_files(folder) if (table := _table(file)) is not None), {})


def _config_files(folder: Path) -> Iterator[Path]:
    """Where settings may stand, the nearest place first."""
    for parent in (folder, *folder.parents):
        yield from (parent / name for name in ("ampify.toml", "pyproject.toml"))


def _table(file: Path) -> dict[str, Any] | None:
    """The settings in ``file``, None if it has none."""
    data = _settings_in(file)
    return None if data is None else _checked(data, file)


def _settings_in(file: Path) -> Any:
    """What ``file`` holds for ampify, unchecked; None if it has nothing."""
    data = _toml(file)
    return _part(data, "tool").get("ampify") if data is not None and file.name == "pyproject.toml" else data


def _checked(data: Any, file: Path) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: `tool.ampify` is not a table")
    try:
        check_keys(data, [*(f.name.replace("_", "-") for f in fields(Settings)), VERIFY])
        own = {key.replace("-", "_"): value for key, value in data.items() if key != VERIFY}
        return {name: _value(name, value) for name, value in own.items()}
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def check_keys(data: Iterable[str], known: Sequence[str]) -> None:
    """Raises `ConfigError` for a key that is not ``known``, with the nearest one."""
    for key in data:
        if key not in known:
            near = get_close_matches(key, known, 1, cutoff=0.0)[0]
            raise ConfigError(f"unknown key `{key}`, did you mean `{near}`?")


def _value(name: str, value: object) -> object:
    key = name.replace("_", "-")
    match name, value:
        case "select" | "ignore", list() if all(isinstance(code, str) for code in value):
            return parse_codes(",".join(value))
        case "target_torch", str():
            return parse_torch(value)
        case "fail_level" | "dtype" | "device", str() if value in CHOICES[name]:
            return value
        case "unsafe_fixes", bool():
            return value
        case "line_length", int() if value > 0 and value is not True:
            return value
    wanted = {
        "select": "a list of codes",
        "ignore": "a list of codes",
        "target_torch": 'a version such as "2.3"',
        "unsafe_fixes": "true or false",
        "line_length": "a positive number",
    }
    raise ConfigError(f"`{key}` must be {wanted.get(name) or 'one of ' + ', '.join(CHOICES[name])}")


@cache
def _toml(file: Path) -> dict[str, Any] | None:
    """The parsed file, None where there is none."""
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from None


def _project_toml(file: Path) -> dict[str, Any]:
    """A file of other tools: what is wrong with it is theirs to say."""
    try:
        return _toml(file) or {}
    except ConfigError:
        return {}


def _part(data: object, *keys: str) -> dict[str, Any]:
    """The table at ``keys``; an empty one where something else is."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _line_length(folder: Path) -> int | None:
    """The line length that the project's formatter keeps to."""
    for parent in (folder, *folder.parents):
        data = _project_toml(parent / "pyproject.toml")
        of_ruff = [_project_toml(parent / name) for name in (".ruff.toml", "ruff.toml")]
        for table in (*of_ruff, _part(data, "tool", "ruff"), _part(data, "tool", "black")):
            if isinstance(length := table.get("line-length"), int):
                return length
    return None


def _pinned_torch(folder: Path) -> Torch | None:
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
    setup = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        setup.read(file, "utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return
    for section in {"options", "options.extras_require"} & set(setup.sections()):
        for value in setup[section].values():
            yield from value.splitlines()


def _of_pyproject(data: dict[str, Any]) -> Iterator[str]:
    project = _part(data, "project")
    groups = [*_part(project, "optional-dependencies").values(), *_part(data, "dependency-groups").values()]
    for group in (project.get("dependencies"), *groups):
        yield from (line for line in group if isinstance(line, str)) if isinstance(group, list) else ()
    pin = _part(data, "tool", "poetry", "dependencies").get("torch")
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
