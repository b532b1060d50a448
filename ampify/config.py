"""What the user and the project have set: options, `--config`, `[tool.ampify]` and what it extends. Knows no rule."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ampify import selection, toml_files
from ampify.selection import Codes, FileIgnore, Selection
from ampify.source.codes import current
from ampify.source.walk import LARGEST

if TYPE_CHECKING:
    from ampify.source.edits import Fix

Torch = tuple[int, int]
FailLevel = Literal["info", "warning", "error"]
Precision = Literal["float16", "bfloat16"]
Device = Literal["auto", "cuda", "cpu"]
Layer = Mapping[str, Any]
"""Settings by the name of their field, as one file or the command line gives them."""

OLDEST_TORCH: Torch = (1, 10)
"""The first release with `torch.autocast`."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides what is reported and written. A pin may set ``target_torch`` below `OLDEST_TORCH`.

    ``select`` to ``unfixable`` are what the last layer says of the rules; those of the other ones lie ``below``.
    """

    select: Codes | None = None
    ignore: Codes = ()
    fail_level: FailLevel = "warning"
    dtype: Precision = "float16"
    device: Device = "auto"
    target_torch: Torch | None = None
    unsafe_fixes: bool = False
    line_length: int = 88
    extend_select: Codes = ()
    fixable: Codes | None = None
    extend_fixable: Codes = ()
    unfixable: Codes = ()
    extend_safe_fixes: Codes = ()
    extend_unsafe_fixes: Codes = ()
    per_file_ignores: tuple[FileIgnore, ...] = ()
    baseline: Path | None = None
    max_file_size: float = LARGEST / 1e6
    below: tuple[Selection, ...] = ()

    def enables(self, code: str, path: str | None = None) -> bool:
        """Whether findings of ``code`` are wanted, in the file ``path``."""
        here = path is not None and any(each.covers(path, code) for each in self.per_file_ignores)
        return not here and selection.selected(self.layers, code)

    def names(self, code: str) -> bool:
        """Whether ``code`` itself is selected, not only the beginning of it."""
        return any(code in (*(each.select or ()), *each.extend_select) for each in self.layers)

    def reports(self, code: str, path: str) -> bool:
        """Whether a finding about ampify's own work is told: unless it is ignored, whatever else is selected."""
        off = any(
            selection.wins(code, each.ignore, (*(each.select or ()), *each.extend_select)) for each in self.layers
        )
        return not off and not any(each.covers(path, code) for each in self.per_file_ignores)

    @property
    def largest(self) -> float:
        """The bytes of code that are looked at; infinite where there is no limit."""
        return self.max_file_size * 1e6 or inf

    @property
    def chooses(self) -> bool:
        """Whether some rules are off."""
        return bool(self.per_file_ignores) or any(each.select or each.ignore for each in self.layers)

    def fix(self, code: str, fix: Fix | None) -> Fix | None:
        """The fix of a finding as these settings have it: as safe as they say, or none."""
        from ampify.source.edits import Applicability  # only where there is a fix

        if fix is None or not selection.fixable(self.layers, code):
            return None
        if fix.applicability is Applicability.MANUAL:
            return fix
        if selection.wins(code, self.extend_unsafe_fixes, self.extend_safe_fixes):
            wanted = Applicability.UNSAFE
        else:
            safe = selection.wins(code, self.extend_safe_fixes, self.extend_unsafe_fixes)
            wanted = Applicability.SAFE if safe else fix.applicability
        return fix if wanted is fix.applicability else replace(fix, applicability=wanted)

    @property
    def codes(self) -> set[str]:
        """Every code, or beginning of one, that is named anywhere."""
        named = [(*(e.select or ()), *e.extend_select, *e.ignore, *(e.fixable or ()), *e.extend_fixable, *e.unfixable)
                 for e in self.layers]  # fmt: skip
        files = (each.codes for each in self.per_file_ignores)
        return {code for codes in (*named, *files, self.extend_safe_fixes, self.extend_unsafe_fixes) for code in codes}

    @property
    def layers(self) -> tuple[Selection, ...]:
        """What is said of the rules, the last layer last."""
        return (*self.below, Selection(**{name: getattr(self, name) for name in _SELECTION}))


_SELECTION = tuple(each.name for each in fields(Selection))
_ADDED = {"extend_safe_fixes": "extend_safe_fixes", "extend_unsafe_fixes": "extend_unsafe_fixes",
          "extend_per_file_ignores": "per_file_ignores"}  # fmt: skip
"""What a layer adds to those below it, and to which setting."""

VERIFY = "verify"
"""The key of the scripts that `ampify verify` runs; `verify/project.py` reads their tables."""
EXTEND = "extend"
"""The key of the file that another one is built upon."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "fail_level": ("info", "warning", "error"),
    "dtype": ("float16", "bfloat16"),
    "device": ("auto", "cuda", "cpu"),
}


@dataclass(frozen=True)
class Lookup:
    """Settings by file: the options, else ``inline`` ones, else a config file, else what the project itself says."""

    options: Layer = field(default_factory=dict)
    config: Path | None = None
    inline: tuple[Layer, ...] = ()
    isolated: bool = False
    """No config file counts."""

    def __call__(self, path: Path) -> Settings:
        return _merged((_of_project(_folder(path)), *self._said(path)))

    def said(self, path: Path) -> Settings:
        """What is said to ampify, without what the project says of itself."""
        return _merged(self._said(path))

    def _said(self, path: Path) -> Iterator[Layer]:
        yield from (layer for _, layer in self._files(_folder(path)))
        yield from (*self.inline, self.options)

    def written(self, path: Path) -> Settings:
        """What the config files say, without the project and the options."""
        return _merged(layer for _, layer in self._files(_folder(path)))

    def files(self, path: Path) -> list[Path]:
        """The config files that count for a file or folder: the one that was found last."""
        return [file for file, _ in self._files(_folder(path))]

    def _files(self, folder: Path) -> tuple[tuple[Path, Layer], ...]:
        return () if self.isolated else _of_folder(folder, self.config)


def load(path: Path, config: Path | None = None) -> Settings:
    """The settings for a file or folder: of ``config`` if given, else of the nearest config file."""
    return Lookup({}, config)(path)


def _folder(path: Path) -> Path:
    path = path.absolute()
    return path if path.is_dir() else path.parent


def _merged(layers: Iterable[Layer]) -> Settings:
    values, selections = dict[str, Any](), list[Selection]()
    for layer in layers:
        if chosen := {name: layer[name] for name in _SELECTION if name in layer}:
            selections.append(Selection(**chosen))
        values |= {name: value for name, value in layer.items() if name not in chosen and name not in _ADDED}
        for name in _ADDED.keys() & layer.keys():
            values[_ADDED[name]] = (*values.get(_ADDED[name], ()), *layer[name])
    *below, last = selections or [Selection()]
    return Settings(**{name: getattr(last, name) for name in _SELECTION}, **values, below=tuple(below))


@cache
def _of_project(folder: Path) -> Layer:
    """What the project says without knowing of ampify."""
    from ampify import pins  # after the first look at a file

    known = {"line_length": pins.line_length(folder), "target_torch": pins.pinned_torch(folder)}
    return {name: value for name, value in known.items() if value is not None}


@cache
def _of_folder(folder: Path, config: Path | None) -> tuple[tuple[Path, Layer], ...]:
    """The layers for the files of a folder, each with its file: what is extended comes first."""
    file = config or next((file for file in _config_files(folder) if _settings_in(file) is not None), None)
    return () if file is None else tuple(_chain(file, ()))


def _chain(file: Path, below: tuple[Path, ...]) -> Iterator[tuple[Path, Layer]]:
    """The layer of a config file, and before it those that it extends."""
    data = _settings_in(file)
    if data is None:
        asked = f", which `{EXTEND}` of {_shown(below[-1])} names" if below else ""
        raise ConfigError(f"{_shown(file)}: there are no settings for ampify{asked}")
    layer = _checked(data, file)
    if base := layer.pop(EXTEND, None):
        if base.resolve() in (each.resolve() for each in (*below, file)):
            circle = " → ".join(_shown(each) for each in (*below, file, base))
            raise flaw(file, f"`{EXTEND}` goes in a circle: {circle}", _holds(EXTEND))
        yield from _chain(base, (*below, file))
    yield file, layer


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


def parse_codes(codes: str) -> Codes:
    """A comma-separated list of codes or prefixes of codes; `ALL` is the prefix of all."""
    found = tuple(code.strip().upper() for code in codes.split(",") if code.strip())
    for code in found:
        if not re.fullmatch(r"ALL|AMP\d{0,3}", code):
            raise ConfigError(f"`{code}` is not a code such as `AMP206`, nor the beginning of one")
    return tuple(selection.ALL if code == "ALL" else current(code) for code in found)


def parse_file_ignores(pairs: str) -> tuple[FileIgnore, ...]:
    """``"tests/*:AMP2,old.py:AMP101"``; the patterns start from the working directory."""
    found = []
    for pair in pairs.split(","):
        pattern, colon, codes = pair.strip().rpartition(":")
        if not (colon and pattern and codes.strip()):
            raise ConfigError(f"`{pair.strip()}` is not of the form PATTERN:CODE")
        found.append(FileIgnore(str(Path.cwd()), pattern.strip(), parse_codes(codes)))
    return tuple(found)


def parse_inline(text: str) -> Layer | None:
    """The settings of ``KEY=VALUE``, where VALUE is TOML or a bare word; None for what is no such pair."""
    key, equals, value = (each.strip() for each in text.partition("="))
    if not equals or not re.fullmatch(r"[\w.-]+", key):
        return None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        if not re.fullmatch(r"[\w./~-]+", value):
            raise ConfigError(f"`{text}` is not TOML: {error}") from None
        data = {key: value}
    layer = _values(data, Path.cwd())
    if EXTEND in layer or VERIFY in data:
        raise ConfigError(f"`{key}` counts in config files only")
    return layer


def _config_files(folder: Path) -> Iterator[Path]:
    """Where settings may stand, the nearest place first."""
    for parent in (folder, *folder.parents):
        yield from (parent / name for name in ("ampify.toml", "pyproject.toml"))


def _settings_in(file: Path) -> Any:
    """What ``file`` holds for ampify, unchecked; None if it has nothing."""
    try:
        data = toml_files.read(file)
    except toml_files.Flawed as error:
        raise ConfigError(str(error)) from None
    return toml_files.part(data, "tool").get("ampify") if data is not None and file.name == "pyproject.toml" else data


def _checked(data: Any, file: Path) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: `tool.ampify` is not a table")
    found: dict[str, Any] = {}
    for key, value in data.items():
        try:
            found |= _values({key: value}, file.absolute().parent)
        except ConfigError as error:
            raise flaw(file, str(error), _holds(key)) from None
    return found


def _values(data: Mapping[str, object], folder: Path) -> dict[str, Any]:
    """The settings of some keys; paths are relative to ``folder``."""
    check_keys(data, [*OPTIONS, VERIFY])
    found = {}
    for key, value in data.items():
        if key == VERIFY:
            continue
        if (read := OPTIONS[key].read(value, folder)) is None:
            raise ConfigError(f"`{key}` must be {OPTIONS[key].wanted}")
        found[key.replace("-", "_")] = read
    return found


def flaw(file: Path, message: str, has: Callable[[dict[str, Any]], object], word: str = "") -> ConfigError:
    """What is wrong in a config file, and where: at what its table for ampify ``has``, or at ``word`` in it."""
    keys = ("tool", "ampify") if file.name == "pyproject.toml" else ()
    line = toml_files.line_of(file, lambda data: has(toml_files.part(data, *keys)), word)
    return ConfigError(f"{_shown(file)}:{line}: {message}" if line else f"{_shown(file)}: {message}")


def _holds(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda table: key in table


def unknown_code(code: str, known: Sequence[str], files: Iterable[Path]) -> ConfigError:
    """That no code begins with ``code``, with the file that says so, if one of ``files`` does."""
    near = _nearest(code, known)
    message = f"no code begins with `{code}`, did you mean `{near}`? `ampify rules` lists them"
    for file in files:
        for key, value in (_settings_in(file) or {}).items():
            if re.search(rf"\b{code}\b", str(value), re.I) and key in OPTIONS:
                return flaw(file, message, _holds(key), code)
    return ConfigError(message)


def _nearest(word: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches  # only where something is wrong

    return get_close_matches(word, known, 1, cutoff=0.0)[0]


def _shown(file: Path) -> str:
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def check_keys(data: Iterable[str], known: Sequence[str]) -> None:
    """Raises `ConfigError` for a key that is not ``known``, with the nearest one."""
    for key in data:
        if key not in known:
            near = _nearest(key, known)
            raise ConfigError(f"unknown key `{key}`, did you mean `{near}`?")


# ---------------------------------------------------------------------- the keys


@dataclass(frozen=True, slots=True)
class Option:
    """A key of a config file: how its value is read, what is wanted of it, what it is for."""

    read: Callable[[object, Path], Any]
    """From the value and the folder of the file; None if it cannot be used."""
    wanted: str
    schema: Mapping[str, Any]
    """The value as JSON Schema describes it."""
    help: str
    default: str
    example: str


def _codes(value: object, folder: Path) -> Codes | None:
    listed = isinstance(value, list) and all(isinstance(code, str) for code in value)
    return parse_codes(",".join(value)) if listed and isinstance(value, list) else None


def _file_ignores(value: object, folder: Path) -> tuple[FileIgnore, ...] | None:
    if not isinstance(value, dict):
        return None
    found = {pattern: _codes(codes, folder) for pattern, codes in value.items()}
    if None in found.values():
        return None
    return tuple(FileIgnore(str(folder), pattern, codes or ()) for pattern, codes in found.items())


def _path(value: object, folder: Path) -> Path | None:
    return folder / Path(os.path.expandvars(value)).expanduser() if isinstance(value, str) and value else None


def _one_of(name: str) -> Callable[[object, Path], Any]:
    return lambda value, folder: value if value in CHOICES[name] else None


def _size(value: object, folder: Path) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and isinstance(value, int | float) and value >= 0 and isfinite(value) else None


def _choice(name: str, text: str, default: str) -> Option:
    wanted, schema = "one of " + ", ".join(CHOICES[name]), {"enum": list(CHOICES[name])}
    return Option(_one_of(name), wanted, schema, text, default, f'"{CHOICES[name][-1]}"')


_CODE = {"type": "string", "pattern": "^([Aa][Ll][Ll]|[Aa][Mm][Pp][0-9]{0,3})$"}
_CODES = {"type": "array", "items": _CODE}
_BY_FILE = {"type": "object", "additionalProperties": _CODES}
_TEXT = {"type": "string", "minLength": 1}


def _rules(text: str, default: str, example: str) -> Option:
    return Option(_codes, "a list of codes", _CODES, text, default, example)


def _files(text: str) -> Option:
    wanted = "a table of patterns, each with a list of codes"
    return Option(_file_ignores, wanted, _BY_FILE, text, "{}", '{ "tests/*" = ["AMP2"] }')


OPTIONS: Mapping[str, Option] = {
    EXTEND: Option(_path, "a path", _TEXT, "A config file that this one is built upon; its settings come first.",
                   "none", '"../ampify.toml"'),
    "select": _rules("The rules that are on, by code or by the beginning of codes.", '["ALL"]', '["AMP1", "AMP206"]'),
    "extend-select": _rules("Rules that are on beside those of `select`.", "[]", '["AMP002"]'),
    "ignore": _rules("The rules that are off; the closest beginning of a code decides.", "[]", '["AMP7"]'),
    "per-file-ignores": _files("Rules that are off in the files of a pattern; `!` before it means all other files."),
    "extend-per-file-ignores": _files("The same, beside those of a file that is extended."),
    "fixable": _rules("The rules whose findings `--fix` may mend.", '["ALL"]', '["AMP1"]'),
    "extend-fixable": _rules("Such rules beside those of `fixable`.", "[]", '["AMP206"]'),
    "unfixable": _rules("The rules whose findings `--fix` leaves.", "[]", '["AMP001"]'),
    "extend-safe-fixes": _rules("The rules whose unsafe fixes count as safe.", "[]", '["AMP002"]'),
    "extend-unsafe-fixes": _rules("The rules whose safe fixes count as unsafe.", "[]", '["AMP001"]'),
    "unsafe-fixes": Option(lambda value, folder: value if isinstance(value, bool) else None, "true or false",
                           {"type": "boolean"}, "Whether `--fix` also writes unsafe fixes.", "false", "true"),
    "fail-level": _choice("fail_level", "The least severity that exits with 1.", '"warning"'),
    "dtype": _choice("dtype", "What to compute in; bfloat16 needs no scaler.", '"float16"'),
    "device": _choice("device", "Which steps to convert; `auto`: those that can reach an accelerator.", '"auto"'),
    "target-torch": Option(lambda value, folder: parse_torch(value) if isinstance(value, str) else None,
                           'a version such as "2.3"', {"type": "string", "pattern": r"^\d+\.\d+(\..*)?$"},
                           "The oldest torch the code is for.", "what the project pins, else the newest", '"2.3"'),
    "line-length": Option(lambda value, folder: value if isinstance(value, int) and value > 0 and value is not True
                          else None, "a positive number", {"type": "integer", "minimum": 1},
                          "What inserted code is to fit.", "that of ruff or black, else 88", "120"),
    "max-file-size": Option(_size, "a number of megabytes, or 0", {"type": "number", "minimum": 0},
                            "The largest file that is looked at, in megabytes of 1,000,000 bytes; 0: any. Larger ones "
                            "are left alone (AMP905); what a notebook stores beside its code does not count.",
                            f"{LARGEST / 1e6:g}", "10"),
    "baseline": Option(_path, "a path", _TEXT, "A file of findings that are known and not reported.",
                       "none", '"ampify-baseline.json"'),
}  # fmt: skip
