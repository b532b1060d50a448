"""The screens let every file through in which a rule finds something."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest
from test_rule_pages import PAGES, RULES, Block, blocks, code_of

from ampify import engine
from ampify.config import Settings
from ampify.engine import Screened
from ampify.needs import AUTOCAST, CAST, STEP
from ampify.screen import may_matter, of_rules
from ampify.shelf import Shelf
from ampify.source import code
from ampify.source.needles import Screen
from ampify.together import together

FIXTURES = Path(__file__).parents[1] / "fixtures"
FOLDERS = [FIXTURES / "verify", FIXTURES / "apex", FIXTURES / "notebooks", FIXTURES / "markdown"]
"""Trees; that a file does not parse (AMP900) is told of those alone that hold a needle."""
FLAGGED = [
    pytest.param(code_of(path.read_text("utf-8")), block, id=f"{path.stem}:{block.line}")
    for path in PAGES
    for block in blocks(path)
    if block.role == "example"
]
EXPECTED = sorted(
    path
    for path in FIXTURES.rglob("*.py")
    if not path.name.endswith(".amp.py") and path.with_suffix(".amp.py").exists()
)


def said(text: str) -> str:
    tree = code.parse(text)
    assert tree is not None
    return code.said(tree)


def spaced(text: str) -> str:
    """The same code with blanks between its tokens: `torch .amp .autocast ("cuda")`, and `loss .backward ()`."""
    tokens = [(token.type, token.string) for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    found = tokenize.untokenize(tokens)
    assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(text))
    return found


@pytest.mark.parametrize(("rule", "block"), FLAGGED)
def test_what_a_page_flags_passes_the_screens_of_its_rule(rule: str, block: Block) -> None:
    screen = Screen([RULES[rule].needs])
    assert any(screen.may_find(file.text.encode()) for file in block.files)
    assert screen.finds("".join(said(file.text) for file in block.files))


@pytest.mark.parametrize(("rule", "block"), FLAGGED)
def test_how_code_is_spaced_does_not_matter(rule: str, block: Block) -> None:
    screen = Screen([RULES[rule].needs])
    assert any(screen.may_find(spaced(file.text).encode()) for file in block.files)


@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: path.stem)
def test_what_is_converted_passes_the_screens(path: Path) -> None:
    assert of_rules().may_find(path.read_bytes())
    assert of_rules().finds(said(path.read_text("utf-8")))


@pytest.mark.parametrize("number", range(0, len(FLAGGED), 12))
def test_a_screened_run_finds_what_is_found_without_screens(number: int, tmp_path: Path) -> None:
    rule, block = FLAGGED[number].values
    assert isinstance(block, Block)
    if len(block.files) == 1:
        text, path = block.files[0].text, tmp_path / block.files[0].path
        path.write_text(text, "utf-8")
        found = engine.check([tmp_path], engine.Run(settings=lambda _: block.settings)).files
        wanted = engine.check_text(text, block.settings, str(path))
        assert [d.code for file in found for d in file.diagnostics] == [d.code for d in wanted], rule


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_trees_have_the_same_findings_without_screens(folder: Path) -> None:
    reports = [engine.check([folder], engine.Run(screen=s)) for s in (Screened.BY_RULES, Screened.NOT)]
    found, wanted = ([d for file in report.files for d in file.diagnostics if d.code != "AMP900"] for report in reports)
    assert found == wanted != []


@pytest.mark.parametrize(
    ("needs", "text", "found"),
    [
        (STEP, "loss. backward ()", True),
        (STEP, "loss.backward \\\n (x)", True),
        (STEP, "# backward compatible(", False),
        (STEP, "from torch.autograd import grad", True),
        (STEP, "import torch.autograd as ag", True),
        (((CAST,),), "x.to(device, torch.float16)", True),
        (((CAST,),), "half = torch.half\nx.to(half)", True),
        (((CAST,),), "x.to(  # (\n  dtype=torch.bfloat16)", True),
        (((CAST,),), "load('x', dtype=torch.float16)", False),
        (((CAST,),), "rotate_half(x)", False),
        (AUTOCAST, "x = 1  # autocast", True),
    ],
)
def test_bytes(needs: tuple[tuple[str, ...], ...], text: str, found: bool) -> None:
    assert Screen([needs]).may_find(text.encode()) is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("with torch.autocast(device_type=x.device.type, enabled=False): pass", False),
        ("kind = x.device.type if y else 'cpu'\nwith torch.autocast(kind, enabled=False): pass", False),
        ("def f(kind):\n    with torch.autocast(kind, enabled=False): pass", True),
        ("with torch.autocast('cuda', enabled=flag): pass", True),
        ("with torch.autocast('gpu', enabled=False): pass", True),
        ('"""Uses autocast."""', False),
    ],
)
def test_autocast_that_only_switches_off_is_none(text: str, found: bool) -> None:
    assert Screen([AUTOCAST]).finds(said(text)) is found


def test_a_comment_for_ampify_is_looked_at() -> None:
    assert may_matter(b"import torch  # ampify: ignore", of_rules())
    assert not may_matter(b"import torch  # nothing", of_rules())


def test_a_run_without_candidates_loads_no_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("import torch\nx = torch.zeros(3)\n", "utf-8")
    monkeypatch.setattr("ampify.rule.load", lambda: pytest.fail("the rules are loaded"))
    assert engine.check([tmp_path], engine.Run(settings=lambda _: Settings())).files == ()


@pytest.mark.parametrize(
    ("library", "groups"),
    [({"a.py": "import os\n"}, 0), ({"a.py": "import torch\n"}, 1), ({"z.py": "import torch\n"}, 1)],
    ids=["none", "read first", "read last"],
)
def test_who_calls_whom_is_asked_where_a_library_is_used(library: dict[str, str], groups: int, tmp_path: Path) -> None:
    """Each pair of files would be one program, had it to do with training."""
    step = "def step(model, optimizer, x):\n    model(x).backward()\n    optimizer.step()\n"
    texts = {"m.py": step, "n.py": "from m import step\nstep(model, optimizer, 1)\n", **library}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
    shelf = Shelf(sorted(tmp_path.iterdir()), lambda path, raw: False, lambda path, raw: True)
    assert shelf.acts is (groups > 0)
    assert len(together(shelf.code)) == groups
