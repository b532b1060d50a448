"""A file of findings that are known already: written once, and compared with what is found from then on.

An entry knows the rule, the file, the function or class, the statement without its layout, and the how-manieth such
finding there it is; so it survives lines that move, other findings that go, and a formatter.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ampify.config import ConfigError
from ampify.diagnostic import Diagnostic
from ampify.engine import Report
from ampify.inspection import FileReport
from ampify.source.codes import current
from ampify.source.files import put
from ampify.source.magics import unmask
from ampify.source.statements import at, statements
from ampify.source.text import SourceText

VERSION = 1
_LONGEST = 120
"""Characters of a statement; what a longer one goes on with is told by a digest."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A finding as it is known again. ``path`` is relative to the folder of the baseline."""

    path: str
    rule: str
    scope: str
    statement: str
    number: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """The entries of a file."""

    file: Path
    entries: frozenset[Entry]

    def without(self, report: Report) -> tuple[Report, frozenset[Entry]]:
        """What is new in a report, and the entries that were found again."""
        kept, known = list[FileReport](), set[Entry]()
        for file, found in _told(report.files, self.file):
            known |= {entry for entry in found.values() if entry in self.entries}
            left = tuple(d for n, d in enumerate(file.diagnostics) if found.get(n) not in self.entries)
            if left or file.before != file.after:
                kept.append(replace(file, diagnostics=left))
        return replace(report, files=tuple(kept)), frozenset(known)

    def gone(self, known: Iterable[Entry], looked_at: Callable[[Path, str], bool]) -> list[Entry]:
        """The entries that were not found again, among those whose file was looked at for that rule."""
        folder = self.file.absolute().parent
        return sorted(e for e in self.entries - {*known} if looked_at(folder / e.path, e.rule))


def read(file: Path) -> Baseline:
    """The baseline that a file holds; raises `ConfigError`."""
    try:
        data = json.loads(file.read_text("utf-8"))
        entries = frozenset(_entry(row) for row in data["findings"])
        version = data["version"]
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{file}:{error.lineno}: this is not a baseline: {error.msg}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(f"{file}: this is not a baseline; `ampify --write-baseline FILE` writes one") from None
    if version != VERSION:
        raise ConfigError(f"{file}: a baseline of version {version} is not known; write it anew")
    return Baseline(file, entries)


def write(file: Path, report: Report) -> int:
    """Write all findings of a report to a file, and tell how many; raises `OSError`."""
    entries = sorted({entry for _, found in _told(report.files, file) for entry in found.values()})
    data = {"version": VERSION, "findings": [asdict(entry) for entry in entries]}
    put(file, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
    return len(entries)


def _entry(row: dict[str, Any]) -> Entry:
    kinds = {each.name: int if each.name == "number" else str for each in fields(Entry)}
    if row.keys() != kinds.keys() or any(not isinstance(row[name], kind) for name, kind in kinds.items()):
        raise ValueError("an entry has other keys")
    return Entry(**row | {"rule": current(row["rule"])})


def _told(files: Iterable[FileReport], baseline: Path) -> Iterator[tuple[FileReport, dict[int, Entry]]]:
    """Each file with the entry of each of its findings, by the number of the finding."""
    folder, same = baseline.absolute().parent, Counter[tuple[str, ...]]()
    for file in files:
        source = SourceText(file.after)
        every = [each for one in source.files for each in statements(source, one)]
        found = {}
        for number, finding in enumerate(file.diagnostics):
            statement = at(every, line := source.line(finding.span.start))
            code = statement.code if statement else source.text_of_line(line).strip()
            scope = statement.scope if statement else ""
            key = (_relative(finding, folder), finding.code, scope, _short(unmask(code)))
            same[key] += 1
            found[number] = Entry(*key, same[key])
        yield file, found


def _short(code: str) -> str:
    digest = sha256(code.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return code if len(code) <= _LONGEST else f"{code[:_LONGEST]}… {digest}"


def _relative(finding: Diagnostic, folder: Path) -> str:
    path = os.path.relpath(Path(finding.path).absolute(), folder)  # also upwards
    return Path(path).as_posix()
