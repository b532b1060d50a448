"""The scripts that a project wants verified: the `[[tool.ampify.verify]]` tables of its config file."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ampify.config import CHOICES, VERIFY, ConfigError, Lookup, check_keys, flaw, parse_torch, verify_tables
from ampify.verify.request import Request

Reader = Callable[[object], Any]


def requests(folder: Path, config: Path | None = None, **options: Any) -> list[Request]:
    """The requests of the nearest config file above ``folder``, or of ``config``; ``options`` take precedence.

    Paths are relative to the config file. Raises `ConfigError`.
    """
    file, tables = verify_tables(folder, config)
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        message = f"`{VERIFY}` must be an array of tables: `[[tool.ampify.{VERIFY}]]`"
        raise flaw(file, message, lambda data: VERIFY in data)
    if not tables:
        raise flaw(file, f"`{VERIFY}` is empty", lambda data: VERIFY in data)
    found = []
    for number, table in enumerate(tables):
        try:
            found.append(_request(table, file.absolute().parent, config, options))
        except ConfigError as error:
            raise _wrong(file, number, table, error) from None
    return found


def _wrong(file: Path, number: int, table: Mapping[str, object], error: ConfigError) -> ConfigError:
    """What is wrong with a table, at the line of its key that the error names, else at its beginning."""
    named = {key for key in table if f"`{key}`" in str(error).partition(",")[0]}

    def has(data: Mapping[str, Any]) -> bool:
        tables = data.get(VERIFY, [])
        return len(tables) > number and named <= tables[number].keys()

    return flaw(file, f"in `{VERIFY}`: {error}", has)


def _request(table: dict[str, object], folder: Path, config: Path | None, options: dict[str, Any]) -> Request:
    """The request that one table describes; ``folder`` is that of its file."""
    check_keys(table, list(READERS))
    values = {key.replace("-", "_"): _value(key, value) for key, value in table.items()}
    if ("script" in values) == ("module" in values):
        raise ConfigError("a table names either a `script` or a `module`")
    values["cwd"] = folder / values.get("cwd", "")
    return build(values | options, folder, config)


def build(values: dict[str, Any], folder: Path, config: Path | None) -> Request:
    """A request from options: those of ``--fix`` become its settings, a script is looked for in ``folder``."""
    fixing: dict[str, Any] = {name: values.pop(name) for name in ("unsafe_fixes", "target_torch") if name in values}
    if dtype := values.get("dtype"):
        fixing["dtype"] = dtype
    made = Request(**values, settings=Lookup(fixing, config))
    if made.script is None:
        return made
    return replace(made, name=made.title, script=folder / made.script)


def _value(key: str, value: object) -> Any:
    reader, wanted = READERS[key]
    if (read := reader(value)) is None:
        raise ConfigError(f"`{key}` must be {wanted}")
    return read


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _words(value: object) -> tuple[str, ...] | None:
    """A list of words, or one string that is split as a shell would."""
    if isinstance(value, str):
        return tuple(shlex.split(value))
    return tuple(value) if isinstance(value, list) and all(isinstance(word, str) for word in value) else None


def _path(value: object) -> Path | None:
    return Path(value) if isinstance(value, str) and value else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(least: int) -> Reader:
    return lambda value: value if isinstance(value, int) and value is not True and value >= least else None


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value is not True and value > 0 else None


def _one_of(choices: tuple[str, ...]) -> Reader:
    return lambda value: value if value in choices else None


def _torch(value: object) -> Any:
    return parse_torch(value) if isinstance(value, str) else None


_WORDS = (_words, "a list of words or a command line")
_PATH = (_path, "a path")
_FLAG = (_flag, "true or false")

READERS: Mapping[str, tuple[Reader, str]] = {
    "name": (_text, "a name"),
    "script": _PATH,
    "module": (_text, "a module such as `package.train`"),
    "args": _WORDS,
    "cwd": _PATH,
    "python": (_text, "an interpreter"),
    "launch": _WORDS,
    "steps": (_whole(2), "a number of steps, at least 2"),
    "seed": (_whole(0), "a number"),
    "timeout": (_seconds, "a number of seconds"),
    "device": (_one_of(CHOICES["device"]), "one of " + ", ".join(CHOICES["device"])),
    "dtype": (_one_of(CHOICES["dtype"]), "one of " + ", ".join(CHOICES["dtype"])),
    "numerics": _FLAG,
    "bench": _FLAG,
    "fake-cuda": _FLAG,
    "synthetic-data": _FLAG,
    "unsafe-fixes": _FLAG,
    "target-torch": (_torch, 'a version such as "2.3"'),
}
"""What each key of a table means, and how to say what it wants."""
