"""The house has floors: a module imports only from the floors below its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    "jobs", "source", "needs", "index", "toml_files", "pins", "selection", "config", "schema", "syntax", "model",
    "rewrite", "diagnostic", "offer", "rule", "rules", "screen", "shelf", "inspection", "listing", "together", "rows",
    "unit", "cache", "engine", "review", "report", "server", "api", "cli", "door", "__main__",
]  # fmt: skip
LOOKED_UP = {("rule", "rules")}  # `rule.load` looks the folder up when it is called
DEAR = ("libcst.matchers", "libcst.codemod", "libcst.metadata")
"""Seconds, and tens of seconds a megabyte: see docs/performance.md."""
MODULES = sorted([*(ROOT / "ampify").rglob("*.py"), *(ROOT / "rules").glob("*.py")])
WORKER = ROOT / "ampify" / "verify" / "worker"


def imports(path):
    """Every absolute name that is imported anywhere in a file: ``a.b`` for ``from a import b``."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        yield from imported(node, path)


def imported(node, path):
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(level=1) if WORKER in path.parents:  # its package has no name that one could import
            pass
        case ast.ImportFrom(module=module, names=names, level=level):
            assert level == 0, f"{path} imports relatively"
            yield from (f"{module}.{alias.name}" for alias in names)


def floor(path):
    parts = path.relative_to(ROOT).parts
    return "rules" if parts[0] == "rules" else parts[1].removesuffix(".py")


def top(name):
    return name.partition(".")[0]


def where(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in MODULES if floor(p) in FLOORS], ids=where)
def test_imports_go_down(path):
    own = floor(path)
    for name in imports(path):
        if top(name) == "ampify" and (other := name.split(".")[1]) in FLOORS and (own, other) not in LOOKED_UP:
            assert FLOORS.index(other) <= FLOORS.index(own), f"{own} may not import {name}"


def test_every_module_has_a_floor():
    assert {floor(p) for p in MODULES} <= {*FLOORS, "verify", "__init__"}


@pytest.mark.parametrize("path", MODULES, ids=where)
def test_libraries_stay_where_they_belong(path):
    used, own = {top(name) for name in imports(path)}, floor(path)
    assert "torch" not in used or WORKER in path.parents
    assert "click" not in used or own == "cli"
    assert "libcst" not in used or own in ("syntax", "model", "rewrite")
    assert not any(name.startswith(DEAR) for name in imports(path))
    if own == "source":
        outside = used - sys.stdlib_module_names - {"ampify", "pathspec"}
        assert not outside


@pytest.mark.parametrize("path", MODULES, ids=where)
def test_what_is_dear_of_libcst_is_not_named(path):
    """Not as `cst.metadata` either, which is there once `libcst` is imported."""
    chains = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text("utf-8"))) if type(node) is ast.Attribute}
    assert not [chain for chain in chains if f"lib{chain.removeprefix('lib')}".startswith(DEAR)]


@pytest.mark.parametrize("path", sorted(WORKER.glob("*.py")), ids=where)
def test_the_worker_needs_torch_alone(path):
    """It runs in the user's interpreter, Python 3.9 with torch; what the script has imported, a function may import."""
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 9))
    needed = {top(name) for node in tree.body for name in imported(node, path)}
    assert needed <= sys.stdlib_module_names | {"torch"}


@pytest.mark.parametrize("path", [p for p in MODULES if WORKER not in p.parents], ids=where)
def test_nothing_imports_the_worker(path):
    assert not any(f"{name}.".startswith("ampify.verify.worker.") for name in imports(path))


def loaded(code):
    """The modules that a fresh interpreter has loaded after ``code``."""
    show = "\nimport sys; print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", code + show], text=True, cwd=ROOT)
    return set(output.splitlines()[-1].split())


VERSION = """
from ampify.cli import main
main(["--version"], standalone_mode=False)
"""
CHECK = """
import io, sys
from ampify.cli import main
sys.stdin = io.TextIOWrapper(io.BytesIO(b'''{}'''))
main(["-"], standalone_mode=False)
"""


def without_exit(code):
    body = "\n".join("    " + line for line in code.strip().splitlines())
    return f"try:\n{body}\nexcept SystemExit:\n    pass"


def test_version_starts_fast():
    assert not {"libcst", "rich", "torch", "pathspec", "packaging"} & loaded(without_exit(VERSION))


def test_to_import_ampify_costs_nothing():
    before, after = loaded(""), loaded("import ampify")
    assert after - before == {"ampify"}


def test_a_file_without_torch_loads_no_libcst():
    assert not {"libcst", "rich", "torch"} & loaded(without_exit(CHECK.format("x = 1")))


def test_a_check_loads_no_torch():
    modules = loaded(without_exit(CHECK.format("import torch\nloss.backward()\n")))
    assert "libcst" in modules
    assert not {"rich", "torch", "libcst.matchers", "libcst.codemod"} & modules


@pytest.mark.parametrize("words", [[], ["--fix", "--unsafe-fixes"], ["--select=AMP2"]])
def test_a_training_script_loads_nothing_dear(words, tmp_path):
    script, before = tmp_path / "train.py", (ROOT / "fixtures" / "loops" / "c02_accumulation.py").read_bytes()
    script.write_bytes(before)
    run = f'main([{str(script)!r}, "--no-cache", *{words}], standalone_mode=False)'
    modules = loaded(without_exit(f"from ampify.cli import main\n{run}"))
    assert "libcst" in modules
    assert not {"rich", "torch", "libcst.matchers", "libcst.codemod"} & modules
    assert (script.read_bytes() != before) is ("--fix" in words)


def test_a_tree_without_candidates_loads_no_libcst(tmp_path):
    (tmp_path / "a.py").write_text("import torch\nx = torch.zeros(3)\n")
    run = f'main([{str(tmp_path)!r}, "--no-cache", "--select=AMP2"], standalone_mode=False)'
    assert not {"libcst", "rich", "torch"} & loaded(without_exit(f"from ampify.cli import main\n{run}"))
