"""Scalers and autocast contexts are found by binding and by flow, not by spelling."""

from __future__ import annotations

from textwrap import dedent

import libcst as cst
import pytest

from ampify.config import Settings
from ampify.engine import fix_text
from ampify.model.amp import AmpFacts
from ampify.syntax.tree import Tree

LOOP = """
model = torch.nn.Linear(3, 3).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x.cuda()), y.cuda())
    loss.backward()
    optimizer.step()
"""
SCALERS = {
    "import torch\nX = torch.amp.GradScaler('cuda')": True,
    "import torch as th\nX = th.GradScaler()": True,
    "from torch.cuda.amp import GradScaler as S\nX = S(enabled=f)": True,
    "from torch.cpu.amp import *\nX = GradScaler()": True,
    "import torch\nX = torch.cuda.amp.GradScaler() if fp16 else None": True,
    "import torch\nX = None\nif fp16:\n    X = torch.GradScaler()": True,
    "import torch\nmade = torch.GradScaler()\nX = made": True,
    "import torch\nm, X = Net(), torch.GradScaler()": True,
    "import torch\ndef make():\n    return torch.GradScaler()\nX = make()": True,
    "m, X = build()\nX.scale(loss).backward()": True,
    "m, X = build()\nX.step(optimizer)\nX.update()": True,
    "m, X = build()\ndef f(s):\n    s.scale(l).backward()\nf(X)": True,
    "m, X = build()\ndef f(*, s=None):\n    s.scale(l).backward()\nf(s=X)": True,
    "from sklearn.preprocessing import StandardScaler\nX = StandardScaler()": False,
    "from sklearn.preprocessing import StandardScaler\nX = StandardScaler()\nX.step(opt)\nX.update()": False,
    "from mine import GradScaler\nX = GradScaler()": False,
    "X = Progress()\nX.step(10)\nX.update()": False,
    "import torch\nX = torch.autocast('cuda')": False,
    "import torch\nother = torch.GradScaler()\nX = other.get_scale()": False,
}


def facts_of(text: str) -> AmpFacts:
    return AmpFacts(Tree(dedent(text)))


def expression(facts: AmpFacts, text: str) -> cst.CSTNode:
    """The last node that is written so."""
    return [n for n in facts.nodes if isinstance(n, cst.BaseExpression) and facts.tree.text(n) == text][-1]


@pytest.mark.parametrize("text", SCALERS)
def test_scalers(text: str) -> None:
    facts = facts_of(f"{text}\nuse(X)\n")
    assert facts.is_scaler(expression(facts, "X")) is SCALERS[text]


def test_attributes_belong_to_classes() -> None:
    facts = facts_of("""
        import torch
        class Base:
            def __init__(self, scaler):
                self.scaler = scaler
        class Trainer(Base):
            def step(self):
                use(self.scaler)
        class Data:
            def load(self):
                self.scaler = StandardScaler()
                other(self.scaler)
        trainer = Base(torch.GradScaler())
        """)
    first, second = (
        call.args[0].value
        for name in ("use", "other")
        for call in facts.nodes
        if isinstance(call, cst.Call) and facts.tree.text(call.func) == name
    )
    assert facts.is_scaler(first)
    assert not facts.is_scaler(second)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("X = torch.autocast('cuda')", True),
        ("X = nullcontext() if cpu else torch.amp.autocast('cuda')", True),
        ("X = torch.autocast('cuda')\nif cpu:\n    X = nullcontext()", True),
        ("X = nullcontext()", False),
        ("X = torch.autocast('cuda')\nif ddp:\n    X = model.no_sync()", False),
        ("def f(X):\n    use(X)\n\nf(torch.autocast('cuda'))\nX = torch.autocast('cuda')", True),
    ],
)
def test_contexts(head: str, expected: bool) -> None:
    facts = facts_of(f"import torch\nfrom contextlib import nullcontext\n{head}\nwith X:\n    pass\n")
    assert facts.is_autocast(expression(facts, "X")) is expected
    assert bool(facts.regions) is expected


def test_contexts_made_by_a_name() -> None:
    facts = facts_of("""
        import torch
        from contextlib import suppress
        from functools import partial
        amp_autocast = suppress
        if amp:
            amp_autocast = partial(torch.autocast, device_type="cuda")
        with amp_autocast():
            pass
        """)
    assert len(facts.regions) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from apex import amp\n", True),
        ("import apex.amp\n", True),
        ("from torch.cuda.amp import autocast\n", True),
        ("import torch\n@torch.autocast('cuda')\ndef f(): ...\n", True),
        ("import torch\nprint(torch.amp)\n", True),
        ("import torch\nx = torch.ones(3)\n", False),
        ("from apex.parallel import convert\n", False),
        ("amp = 3\n", False),
    ],
)
def test_touched(text: str, expected: bool) -> None:
    assert facts_of(text).touched is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from torch.amp import autocast, custom_fwd\n@custom_fwd\ndef f(): ...\n", False),
        ("import torch\n@torch.amp.custom_bwd(device_type='cuda')\ndef f(): ...\n", False),
        ("import torch.cuda.amp\n", False),
        ("from apex import amp\n", False),
        ("from apex import amp\n@amp.half_function\ndef f(): ...\n", True),
        ("from torch.amp import GradScaler\ndef f(s: GradScaler): ...\n", True),
        ("from torch.cuda.amp import *\nuse(autocast)\n", True),
        ("import torch\n@torch.autocast('cuda')\ndef f(): ...\n", True),
    ],
)
def test_used(text: str, expected: bool) -> None:
    assert bool(facts_of(text).used) is expected


@pytest.mark.parametrize(
    "head", ["from torch.amp import GradScaler, autocast, custom_fwd", "from torch import autocast", "import torch.amp"]
)
def test_what_is_only_imported_mixes_nothing_and_stays(head: str) -> None:
    text, left = fix_text(f"import torch\n{head}\n{LOOP}", Settings())
    assert left == []
    assert text.startswith(f"import torch\n{head}\n")
    assert "scaler.scale(loss).backward()" in text


def test_constructor_assignments() -> None:
    facts = facts_of("import torch\na = torch.GradScaler()\nb = a\nc: object = torch.GradScaler()\n")
    assert [facts.tree.text(n) for n in facts.scalers] == ["a = torch.GradScaler()", "c: object = torch.GradScaler()"]
