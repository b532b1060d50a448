"""The suites of other tools: what they say about old AMP calls, ampify says too, and its code does the same.

`AMPIFY_TORCHFIX` and `AMPIFY_PACONVERT` name checkouts of pytorch-labs/torchfix and PaddlePaddle/PaConvert. Nothing
of them is part of this repository; without them these tests are skipped.
"""

from __future__ import annotations

import ast
import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ampify.config import Settings
from ampify.engine import check_text, fix_text

AMP_OF_TORCHFIX = Path("tests/fixtures/deprecated_symbols")
DEPRECATED = {
    "cuda_amp_autocast": 7,
    "cuda_amp_autocast_mode_autocast": 7,
    "cpu_amp_autocast": 5,
    "cuda_amp_GradScaler": 17,
    "get_autocast_gpu_dtype": 3,
}
"""Files of PaConvert's tests, and how many snippets each has."""
CURRENT = {"autocast": 8, "amp_autocast": 5, "amp_autocast_mode_autocast": 5, "is_autocast_enabled": 4}


def checkout(variable: str) -> Path:
    if not (folder := os.environ.get(variable)):
        pytest.skip(f"{variable} does not name a checkout")
    return Path(folder)


# TorchFix


def torchfix(name: str) -> str:
    return (checkout("AMPIFY_TORCHFIX") / AMP_OF_TORCHFIX / name).read_text("utf-8")


def places(text: str) -> Iterator[tuple[int, int]]:
    for finding in check_text(text, Settings()):
        start = finding.span.start
        yield text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)


@pytest.mark.parametrize("number", range(6))
def test_what_torchfix_finds_is_found(number: int):
    rows = re.findall(r"^(\d+):(\d+) TOR101", torchfix("checker/amp.txt"), re.MULTILINE)
    found = list(places(torchfix("checker/amp.py")))
    assert (len(rows), len(found)) == (6, 6)
    assert found[number] == tuple(map(int, rows[number]))


@pytest.mark.parametrize("number", range(6))
def test_what_torchfix_mends_is_mended(number: int):
    ours, left = fix_text(torchfix("codemod/amp.in.py"), Settings())
    made, wanted = autocasts(ours), autocasts(torchfix("codemod/amp.out.py"))
    assert left == []
    assert (len(made), len(wanted)) == (6, 6)
    assert made[number] == wanted[number]


def autocasts(text: str) -> list[tuple[object, ...]]:
    """The settings of every region that a text makes, in the order of its lines; an old call raises."""
    made = []
    namespace = {"torch": torch, "dtype": torch.float32}
    for line in (line for line in text.splitlines() if line.startswith("maybe_autocast = ")):
        with warnings.catch_warnings(action="ignore"):
            warnings.simplefilter("error", FutureWarning)
            region = eval(line.partition(" = ")[2], namespace)
        made.append((region.device, region.fast_dtype, region._enabled, region._cache_enabled))
    return made


# PaConvert


def snippet(name: str, number: int) -> str:
    """Snippet ``number`` of a file of PaConvert's tests."""
    tree = ast.parse((checkout("AMPIFY_PACONVERT") / f"tests/test_{name}.py").read_text("utf-8"))
    texts = [
        node.value.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytorch_code"
    ]
    assert len(texts) == (DEPRECATED | CURRENT)[name]
    return textwrap.dedent(texts[number])


def cases(counts: dict[str, int]) -> list[tuple[str, int]]:
    return [(name, number) for name, count in counts.items() for number in range(count)]


def executed(text: str, refused: type[Warning]) -> dict[str, object]:
    """The values a snippet leaves; a warning of the kind ``refused`` raises."""
    namespace: dict[str, object] = {}
    with warnings.catch_warnings(action="ignore"):
        warnings.simplefilter("error", refused)
        exec(compile(text, "snippet.py", "exec"), namespace)
    return {key: value for key, value in namespace.items() if key.startswith(("result", "scaled"))}


class Nothing(Warning):
    """What no snippet warns of."""


def same(left: dict[str, object], right: dict[str, object]) -> bool:
    def equal(a: object, b: object) -> bool:
        return torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b

    return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize(("name", "number"), cases(DEPRECATED))
def test_deprecated_snippets_are_rewritten_and_run_without_warnings(name: str, number: int):
    text = snippet(name, number)
    after, left = fix_text(text, Settings())
    assert after != text
    assert left == []
    if ".cuda()" in text and not torch.cuda.is_available():
        text, after = (each.replace(".cuda()", "").replace("device='cuda'", "device='cpu'") for each in (text, after))
    made = executed(after, FutureWarning)
    assert made
    assert same(executed(text, Nothing), made)


@pytest.mark.parametrize(("name", "number"), cases(CURRENT))
def test_current_snippets_are_left_alone(name: str, number: int):
    text = snippet(name, number)
    after, left = fix_text(text, Settings())
    assert after == text
    assert left == []


def test_the_counts_are_those_of_the_suites():
    assert (sum(DEPRECATED.values()), sum(CURRENT.values())) == (39, 22)
