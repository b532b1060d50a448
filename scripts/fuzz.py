"""Mutates real files and looks what ampify does with them: ``fuzz.py FOLDER OUT [--seed N] [--first K] [--minutes M]``.

Case ``K`` of a seed is always the same, as long as the files are. What goes wrong is kept in ``OUT`` as the file
that did it, its reason beside it; the sums of all slices are lines of ``OUT/slices.jsonl``. Nothing is executed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ampify.config import Settings
from ampify.engine import Mode, Run, check_bytes
from ampify.rewrite.erase import EraseFailed, erase_text
from ampify.syntax.tree import Unreadable

LARGEST = 40_000
"""Characters of a file: larger ones are seldom another case, and always a slow one."""
PATIENCE = 90
"""Seconds of CPU for one case."""
ADDED = (
    ".float()",
    "import torch",
    "output = ",
    "loss = ",
    "loss_1 = ",
    "output_1 = ",
    "norm = ",
    "result = ",
    "penalty = ",
)
"""What a conversion may add besides AMP: without its plan, erasing leaves it there."""
AMP = ("amp", "autocast", "scaler", "Scaler", "apex", "half", "float16")
"""Words of a file that may hold something to erase."""

Mutation = Callable[[random.Random, str], str]


class Slow(Exception):
    """A case has used up its time."""


# ---------------------------------------------------------------------- mutations


def drop_line(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return "".join(lines)


def double_line(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    return "".join([*lines[: at + 1], *lines[at:]])


def swap_lines(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return "".join(lines)


def swap_blocks(rng: random.Random, text: str) -> str:
    """Two neighbours of one block change places."""
    pairs = [pair for block in _blocks(text) for pair in pairwise(block)]
    if not pairs:
        return swap_lines(rng, text)
    lines, ((a, b), (c, d)) = text.splitlines(keepends=True), rng.choice(pairs)
    return "".join([*lines[:a], *lines[c:d], *lines[b:c], *lines[a:b], *lines[d:]])


def drop_block(rng: random.Random, text: str) -> str:
    if not (blocks := [span for block in _blocks(text) for span in block]):
        return drop_line(rng, text)
    lines, (start, end) = text.splitlines(keepends=True), rng.choice(blocks)
    return "".join([*lines[:start], *lines[end:]])


def wrap(rng: random.Random, text: str) -> str:
    """A run of statements goes under a new head."""
    if not (blocks := _blocks(text)):
        return text
    block, lines = rng.choice(blocks), text.splitlines(keepends=True)
    first = rng.randrange(len(block))
    start, end = block[first][0], block[rng.randrange(first, len(block))][1]
    indent = re.match(r"[ \t]*", lines[start])[0]  # type: ignore[index]
    head, tail = rng.choice(HEADS)
    inner = [line if line.isspace() else f"    {line}" for line in lines[start:end]]
    if inner and not inner[-1].endswith("\n"):
        inner[-1] += "\n"
    return "".join([*lines[:start], f"{indent}{head}\n", *inner, *(f"{indent}{line}\n" for line in tail), *lines[end:]])


HEADS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("def wrapped():", ("wrapped()",)),
    ("async def wrapped():", ()),
    ("def wrapped(self, *args, **kwargs):", ()),
    ("class Wrapped:", ()),
    ("if __name__ == '__main__':", ()),
    ("if torch.cuda.is_available():", ("else:", "    pass")),
    ("for _ in range(2):", ()),
    ("while True:", ("    break",)),
    ("try:", ("except RuntimeError:", "    raise", "finally:", "    pass")),
    ("with torch.no_grad():", ()),
    ("with open('x') as f, torch.enable_grad():", ()),
    ("match 1:\n    case 1:", ()),
)


def _blocks(text: str) -> list[list[tuple[int, int]]]:
    """The blocks of a file that parses: for each statement its first line and that behind it, from 0."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    bodies = (getattr(node, name, ()) for node in ast.walk(tree) for name in ("body", "orelse", "finalbody"))
    spans = [[_lines(s) for s in body] for body in bodies if isinstance(body, list) and body]
    return [block for block in spans if all(a[1] <= b[0] for a, b in pairwise(block))]


def _lines(statement: ast.stmt) -> tuple[int, int]:
    decorators = [node.lineno for node in getattr(statement, "decorator_list", ())]
    return min([statement.lineno, *decorators]) - 1, statement.end_lineno or statement.lineno


def rename(rng: random.Random, text: str) -> str:
    """One name becomes another, perhaps one that is there already, or one that is not ASCII."""
    names = sorted(set(re.findall(r"\b[a-zA-Z_]\w*\b", text)))
    if not names:
        return text
    new = rng.choice([*NAMES, rng.choice(names)])
    return re.sub(rf"\b{rng.choice(names)}\b", new, text)


NAMES = ("м", "ｌｏｓｓ", "模型", "_", "torch", "scaler", "loss", "output", "autocast", "__debug__x")


def indent_otherwise(rng: random.Random, text: str) -> str:
    unit = rng.choice(["\t", "  ", "   ", "        ", " \t"])
    return re.sub(r"^(?: {4})+", lambda m: unit * (len(m[0]) // 4), text, flags=re.MULTILINE)


def indent_one_line(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines[at] = rng.choice([" ", "\t", "    ", "\f"]) + lines[at]
    return "".join(lines)


def comment(rng: random.Random, text: str) -> str:
    """Comments of all kinds, at the end of a line or on one of their own, well or badly indented."""
    lines = text.split("\n")
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(lines))
        said = rng.choice(COMMENTS)
        if rng.random() < 0.5:
            lines[at] += f"  {said}"
        else:
            lines.insert(at, " " * rng.randrange(9) + said)
    return "\n".join(lines)


COMMENTS = ("# ampify: ignore", "# ampify: ignore[AMP001]", "# type: ignore", "# é ☃", "#", "# fmt: off")


def truncate(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text))]


def head_off(rng: random.Random, text: str) -> str:
    return text[rng.randrange(len(text)) :]


def endings(rng: random.Random, text: str) -> str:
    """Other line endings: all alike, or mixed."""
    kinds = rng.choice([["\r\n"], ["\r"], ["\n", "\r\n"], ["\n", "\n\x0c"], ["\n", "\n\n"], ["\n", " \n"]])
    return re.sub("\n", lambda _: rng.choice(kinds), text)


def string(rng: random.Random, text: str) -> str:
    """A string with code and quotes in it, as a statement or in the place of a number."""
    new = rng.choice(STRINGS)
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    if numbers := list(re.finditer(r"\b\d+\b", lines[at])):
        number = rng.choice(numbers)
        lines[at] = lines[at][: number.start()] + new + lines[at][number.end() :]
    else:
        lines.insert(at, indent + new)
    return "\n".join(lines)


STRINGS = (
    '"""\nloss.backward()\n  optimizer.step()\n"""',
    "'''\\\n\"\"\"x\"\"\" {loss}\n'''",
    "f\"{f'{1 + 1:>{10}}'} {{loss}}\"",
    'f"""{\nloss.item()\n}"""',
    "rb'\\x00'",
    "'a' \\\n  \"b\" f'{0!r}'",
    "('a'\n 'b')",
    "'\\N{BULLET} \\ud800'",
)


def join_lines(rng: random.Random, text: str) -> str:
    """Statements on one line, or one over two."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.5 and at + 1 < len(lines):
        lines[at : at + 2] = [f"{lines[at]}; {lines[at + 1].lstrip()}"]
    else:
        lines[at] = lines[at].replace(" = ", " = \\\n    ", 1)
    return "\n".join(lines)


def other_bytes(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    new = rng.choice(BYTES)
    return text[:at] + new + text[at:]


BYTES = "\0\ufeff\u2028\x85\x0c\x1a\xa0\u200b():\"'#\\@;,"


def line_of_amp(rng: random.Random, text: str) -> str:
    """A line of the kind ampify cares about, anywhere."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    lines.insert(at, indent + rng.choice(LINES))
    return "\n".join(lines)


LINES = (
    "loss.backward()", "optimizer.step()", "optimizer.zero_grad()", "scaler.update()", "scaler.step(optimizer)",
    "scaler.scale(loss).backward()", "scaler.unscale_(optimizer)", "scaler = torch.cuda.amp.GradScaler()",
    "with torch.autocast('cuda'): loss = model(x)", "model.half()", "from apex import amp", "import torch as th",
    "model, optimizer = amp.initialize(model, optimizer, opt_level='O1')", "from torch import *", "del optimizer",
    "optimizer, loss = loss, optimizer", "yield loss", "return loss", "await loss", "continue", "break",
    "global scaler", "loss = loss.item()", "x = lambda: loss.backward()",
    "torch.nn.utils.clip_grad_norm_(model.parameters(), 1)",
    "with amp.scale_loss(loss, optimizer) as scaled_loss: scaled_loss.backward()", "exec('loss.backward()')",
)  # fmt: skip

MUTATIONS: tuple[Mutation, ...] = (
    drop_line, double_line, swap_lines, swap_blocks, drop_block, wrap, wrap, rename, rename, indent_otherwise,
    indent_one_line, comment, truncate, head_off, endings, string, join_lines, other_bytes, line_of_amp, line_of_amp,
)  # fmt: skip


def mutated(rng: random.Random, text: str) -> tuple[str, list[str]]:
    """A text after some mutations, and their names."""
    names = []
    for mutation in rng.choices(MUTATIONS, k=rng.choice([1, 1, 1, 2, 2, 3, 5])):
        if text.strip():
            text = mutation(rng, text)
            names.append(mutation.__name__)
    return text, names


# ---------------------------------------------------------------------- what must hold


def flaws(raw: bytes, path: Path, changed: list[bool]) -> Iterator[str]:
    """What is wrong with how ampify treats a file; ``changed`` is told whether it writes anything."""
    run = Run(settings=lambda _: Settings(), mode=Mode.WRITE)
    report, new = check_bytes(path, raw, run)
    yield from report.errors
    yield from (f"AMP904: {d.message}" for file in report.files for d in file.diagnostics if d.code == "AMP904")
    yield from _erased(raw, new)
    changed.append(new != raw)
    if new == raw:
        return
    if (parses(raw) and not parses(new)) or (compiles(raw) and not compiles(new)):
        yield "what is written is no Python"
    if raw.count(b"\n") == raw.count(b"\r\n") and new.count(b"\n") != new.count(b"\r\n"):
        yield "lines end otherwise"
    if check_bytes(path, new, run)[1] != new:
        yield "a second run changes something"


def _erased(raw: bytes, new: bytes) -> Iterator[str]:
    """Taking AMP out: nothing happens where there is none, and twice is once; after a conversion it is the original."""
    try:
        before, after = raw.decode("utf-8-sig"), new.decode("utf-8-sig")
        once = erase_text(before)
        again = erase_text(after)
    except (UnicodeDecodeError, Unreadable, EraseFailed, RecursionError):
        return
    if not any(word in before for word in AMP) and once != before:
        yield "erasing changes a file without AMP"
    if erase_text(again) != again:
        yield "erasing twice is not erasing once"
    folded = any(after.count(added) > before.count(added) for added in ADDED)
    if not any(word in before for word in AMP) and not folded and _dump(again) != _dump(before):
        yield "erasing does not give the original"


def _dump(text: str) -> str:
    with warnings.catch_warnings(action="ignore"):
        return ast.dump(ast.parse(text))


def parses(raw: bytes) -> bool:
    return _accepted(lambda: ast.parse(raw))


def compiles(raw: bytes) -> bool:
    return _accepted(lambda: compile(raw, "fuzzed.py", "exec", dont_inherit=True))


def _accepted(read: Callable[[], object]) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            read()
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


# ---------------------------------------------------------------------- slices


@dataclass(frozen=True, slots=True)
class Case:
    """One file to try."""

    name: str
    raw: bytes

    def verdict(self, path: Path, changed: list[bool]) -> list[str]:
        """Its flaws, those that end ampify included."""
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)
        try:
            return list(flaws(self.raw, path, changed))
        except Slow:
            return [f"more than {PATIENCE} seconds"]
        except Exception:  # noqa: BLE001
            return [traceback.format_exc()]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def case(files: list[Path], seed: int, number: int) -> Case:
    """Case ``number`` of a seed."""
    rng = random.Random(f"{seed}/{number}")
    file = rng.choice(files)
    text, names = mutated(rng, file.read_text("utf-8"))
    raw = text.encode("utf-8", "surrogatepass")
    return Case(f"{number} {file.name} {' '.join(names)}", b"\xef\xbb\xbf" + raw if rng.random() < 0.03 else raw)


def real_files(folder: Path) -> list[Path]:
    """The files worth mutating: those with a backward pass, and as many others that use torch, in a fixed order."""
    found: dict[bool, list[Path]] = {True: [], False: []}
    for file in sorted(folder.rglob("*.py")):
        raw = file.read_bytes() if file.is_file() and file.stat().st_size <= LARGEST else b""
        if b"torch" in raw and parses(raw) and _accepted(lambda raw=raw: raw.decode()):
            found[b"backward()" in raw].append(file)
    acting, others = found[True], found[False]
    return acting + random.Random(0).sample(others, min(len(others), len(acting) // 2))


def _stop(*_: object) -> None:
    raise Slow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGPROF, _stop)
    if not (files := real_files(args.folder)):
        parser.error(f"no file of {args.folder} has a backward pass")
    number, bad, changed = args.first, 0, list[bool]()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        while time.process_time() - began < args.minutes * 60:
            tried = case(files, args.seed, number)
            if found := tried.verdict(Path(folder, "fuzzed.py"), changed):
                bad += 1
                args.out.joinpath(f"{args.seed}-{number}.py").write_bytes(tried.raw)
                args.out.joinpath(f"{args.seed}-{number}.txt").write_text("\n".join([tried.name, *found]), "utf-8")
                print(tried.name, *found, sep="\n  ", flush=True)
            number += 1
    seconds = round(time.process_time() - began)
    cases = number - args.first
    row = {
        "seed": args.seed,
        "first": args.first,
        "cases": cases,
        "changed": sum(changed),
        "bad": bad,
        "seconds": seconds,
    }
    with args.out.joinpath("slices.jsonl").open("a") as slices:
        slices.write(json.dumps(row) + os.linesep)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
