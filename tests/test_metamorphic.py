"""Decisions are about programs: what an author may write otherwise does not change them.

`AMPIFY_METAMORPHIC` names folders, separated by `:`, whose files with a backward pass are looked at as well.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import metamorphic
import pytest
from execution import assert_same, run

from ampify.config import Settings
from ampify.engine import Run, fix_text

FIXTURES = Path(__file__).parents[1] / "fixtures"
FOUND = sorted([*(FIXTURES / "loops").glob("*.py"), *(FIXTURES / "apex").glob("*.py")])
OURS = [path for path in FOUND if not path.stem.endswith((".amp", ".unsafe"))]
FOLDERS = [folder for folder in os.environ.get("AMPIFY_METAMORPHIC", "").split(":") if folder]
LARGEST = 40_000
"""Bytes of a file of somebody else's."""

SEES_MORE = {
    "c07_optimizer_made_sometimes": "an optimizer that is made in one branch only cannot be passed along",
    "c16_options_returned": "of options that are made in one function and passed through another, the device is lost",
    "refused_shared_parameters": "which optimizers share parameters is not told across functions",
}
"""Where a loop is not to be split, or a decision depends on whether it is."""

DEVICES = frozenset({"device", "gpu_id"})
"""Names of parameters that are taken for devices where nothing else in a file shows one: what calls it is elsewhere."""

Form = Callable[[str], str]
NAMES: dict[str, Form] = {
    "renamed": lambda text: metamorphic.renamed(text, frozenset({"log"})).text,
    "imported otherwise": metamorphic.aliased,
}
FUNCTIONS: dict[str, Form] = {
    "a function for the step": metamorphic.split,
    "a function for the epoch": partial(metamorphic.split, whole=True),
}
FORMATS: dict[str, Form] = {
    " ".join(options): partial(metamorphic.formatted, options=options) for options in metamorphic.FORMATS
}


@cache
def decisions(text: str) -> list[tuple[str, str]]:
    """What is decided on each training step, with the code of the reason, in any order."""
    inspection = Run(settings=lambda _: settings(text)).inspection(Path("train.py"))
    return sorted((decision.word, decision.code or "") for _, decision in inspection.decisions(text))


def settings(text: str) -> Settings:
    """Those that the head of a fixture asks for."""
    marks = (mark.partition("=") for mark in re.findall(r"^# fixture: (\S+)$", text, re.MULTILINE))
    return dataclasses.replace(Settings(), **{key: value for key, _, value in marks if key in ("dtype", "device")})


def unparsed(text: str) -> str:
    """The same without comments, as a text that was put together from a tree has none."""
    return ast.unparse(ast.parse(text))


def same_program(left: str, right: str) -> bool:
    return ast.dump(ast.parse(left)) == ast.dump(ast.parse(right))


def in_turn(forms: dict[str, Form]) -> list[object]:
    """Each of our fixtures with one of the forms."""
    names = [*forms]
    turns = [(path, names[number % len(names)]) for number, path in enumerate(OURS)]
    return [pytest.param(path, name, id=f"{path.stem}, {name}") for path, name in turns]


@cache
def fixed(text: str, like: str) -> str:
    return fix_text(text, settings(like))[0]


# Our fixtures


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_names_do_not_decide(path: Path):
    text = path.read_text("utf-8")
    other = NAMES["renamed"](text)
    assert decisions(other) == decisions(text)
    assert metamorphic.alike(fixed(other, text), fixed(text, text))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_how_something_is_imported_does_not_decide(path: Path):
    text = path.read_text("utf-8")
    assert decisions(NAMES["imported otherwise"](text)) == decisions(text)


@pytest.mark.parametrize(("path", "name"), in_turn(FORMATS))
def test_the_format_does_not_decide(path: Path, name: str):
    text = path.read_text("utf-8")
    other = FORMATS[name](text)
    assert decisions(other) == decisions(text)
    assert same_program(FORMATS[name](fixed(other, text)), FORMATS[name](fixed(text, text)))


@pytest.mark.parametrize(("path", "name"), in_turn(FUNCTIONS))
def test_functions_around_the_step_do_not_decide(path: Path, name: str):
    text = path.read_text("utf-8")
    same = decisions(FUNCTIONS[name](text)) == decisions(unparsed(text))
    assert same is (path.stem not in SEES_MORE)


@pytest.mark.parametrize("path", OURS[::9], ids=lambda path: path.stem)
def test_the_other_texts_are_the_same_program(path: Path):
    text = "import torch\n" if path.parent.name == "apex" or path.stem in SEES_MORE else path.read_text("utf-8")
    for form in (NAMES | FUNCTIONS).values():
        assert_same(run(text), run(form(text)))


# Other people's code


@pytest.mark.parametrize(
    "folder", FOLDERS or [pytest.param("", marks=pytest.mark.skip("AMPIFY_METAMORPHIC is not set"))]
)
@pytest.mark.parametrize("name", [*NAMES, *FORMATS, *FUNCTIONS])
def test_decisions_on_the_code_of_others(folder: str, name: str):
    stay = {"renamed": lambda text: metamorphic.renamed(text, DEVICES).text}
    forms = NAMES | FORMATS | FUNCTIONS | stay
    differ = []
    for path in real_files(Path(folder)):
        text = path.read_text("utf-8")
        if decisions(forms[name](text)) != decisions(unparsed(text) if name in FUNCTIONS else text):
            differ.append(path)
    assert differ == []


def real_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        if path.is_file() and path.stat().st_size <= LARGEST and b".backward(" in (raw := path.read_bytes()):
            try:
                compile(raw, str(path), "exec", dont_inherit=True)
                raw.decode()
            except (SyntaxError, ValueError):
                continue
            yield path
