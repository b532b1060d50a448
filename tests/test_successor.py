"""Replacing old APIs by their successors: what moves together, and what stays."""

from __future__ import annotations

import textwrap

import pytest

from ampify.config import Settings
from ampify.engine import fix_text
from ampify.model.uses import find_uses
from ampify.rule import load
from ampify.source.edits import splice
from ampify.syntax.tree import Tree

DEPRECATED = Settings(select=("AMP101", "AMP102", "AMP103"))


def fixed(text: str) -> str:
    return fix_text(textwrap.dedent(text), DEPRECATED)[0]


def unchanged(text: str) -> bool:
    return fixed(text) == textwrap.dedent(text)


def test_two_rules_share_one_import() -> None:
    text = (
        "from torch.cuda.amp import (\n    GradScaler,\n    autocast,\n)\nscaler = GradScaler()\nwith autocast(): ...\n"
    )
    assert fixed(text) == (
        'import torch\nscaler = torch.amp.GradScaler("cuda")\nwith torch.autocast(device_type="cuda"): ...\n'
    )


def test_the_import_stays_for_who_still_needs_it() -> None:
    text = "import torch\nfrom torch.cuda.amp import autocast\n{}\nwith autocast(): pass\n"
    for other in ("f = [autocast]", "__all__ = ['autocast']", "def f(x: 'autocast'): pass"):
        assert "from torch.cuda.amp import autocast\n" in fixed(text.format(other))
        assert "with torch.autocast(" in fixed(text.format(other))
    assert "from torch.cuda.amp" not in fixed(text.format("x = 1"))


def test_each_function_loses_its_own_import() -> None:
    one = "def {}():\n    from torch.cuda.amp import autocast\n    with autocast(): pass\n"
    assert "import autocast" not in fixed("import torch\n" + one.format("f") + one.format("g"))


def test_a_package_keeps_what_it_imports() -> None:
    for path, package in (("amp/tools.py", False), ("amp/__init__.py", True)):
        tree = Tree("import torch\nfrom torch.cuda.amp import autocast\nautocast()\n", [path])
        use = list(find_uses(tree))[-1]
        [finding] = load()["AMP101"].check(use)
        assert finding.fix is not None
        assert ("from torch.cuda.amp import autocast" in splice(tree.source.text, finding.fix.edits)) is package


def test_an_ignored_use_is_not_touched_by_the_fix_of_another() -> None:
    text = """
    import torch
    from torch.cuda.amp import autocast
    with autocast(): pass  # ampify: ignore[AMP101]
    with autocast(): pass
    """
    assert fixed(text) == textwrap.dedent("""
    import torch
    from torch.cuda.amp import autocast
    with autocast(): pass  # ampify: ignore[AMP101]
    with torch.autocast(device_type="cuda"): pass
    """)


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ns = torch.cuda.amp.GradScaler(*a)\nisinstance(s, torch.cuda.amp.GradScaler)\n",
        "from torch.cuda.amp import GradScaler\nf = [GradScaler]\ns = GradScaler()\nisinstance(s, GradScaler)\n",
        "import torch\nclass S(torch.cuda.amp.GradScaler): pass\n",
        "import torch\ntorch.cuda.amp.autocast(True, a, b, c)\n",
        "import torch\ntorch.cuda.amp.autocast(True, enabled=False)\n",
        "import torch\n@torch.cuda.amp.autocast\ndef f(): pass\n",
        "import functools, torch\nf = functools.partial(torch.cuda.amp.autocast, enabled=x)\n",
        "from torch.cuda.amp import *\nautocast()\n",
    ],
)
def test_left_alone(text: str) -> None:
    assert unchanged(text)


def test_many_uses_end_in_few_rounds() -> None:
    uses = "".join(f"with autocast(x{i}): pass\nGradScaler()\n" for i in range(40))
    after = fixed("from torch.cuda.amp import autocast, GradScaler\n" + uses)
    assert after.startswith("import torch\nwith torch.autocast(")
    assert after.count("torch.autocast(") == after.count("torch.amp.GradScaler(") == 40
