"""Which dtypes values have under autocast: what the model says is what PyTorch does."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import libcst as cst
import pytest
import torch
from execution import run

from ampify.config import Settings
from ampify.engine import check_text, fix_text
from ampify.model.acts import Acts
from ampify.model.dtypes import Dtype, Dtypes
from ampify.model.find import read
from ampify.model.forward import Forward
from ampify.model.operators import POLICIES
from ampify.model.step import Backward
from ampify.syntax.tree import Tree

ROOT = Path(__file__).parents[1]

HEAD = """\
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
log = []


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.norm = nn.LayerNorm(4)
        self.tail = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Softmax(-1))
        self.starred = nn.Sequential(*[nn.Linear(4, 4)], nn.ReLU(), nn.Linear(4, 4))
        self.starred_last = nn.Sequential(nn.Linear(4, 4), *[nn.LayerNorm(4)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.layers[0](x).relu()

    def both(self, x):
        x = self.forward(x)
        return x, self.norm(x)


def twice(x):
    return x, x.exp()


net = Net()
wide = torch.randn(6, 4)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
"""

VALUES = {
    "h": Dtype.HALF,
    "h[..., 0].view(-1)": Dtype.HALF,
    "h * 2 + 1": Dtype.HALF,
    "-h.detach().clamp(0, 1).t()": Dtype.HALF,
    "h @ wide.t()": Dtype.HALF,
    "h.mean()": Dtype.HALF,
    "torch.zeros_like(h)": Dtype.HALF,
    "h.new_zeros(3)": Dtype.HALF,
    "wide.type_as(h)": Dtype.HALF,
    "wide.to(h.dtype)": Dtype.HALF,
    "torch.stack([h, h])": Dtype.HALF,
    "[y for y in (h, h)][0]": Dtype.HALF,
    "net.both(wide)[0]": Dtype.HALF,
    "twice(h)[0]": Dtype.HALF,
    "net.tail[0](wide)": None,
    "net.starred(wide)": Dtype.HALF,
    "net.starred_last(wide)": None,
    "[layer(wide) for layer in net.layers][0]": Dtype.HALF,
    "(h if h.dim() else wide.to(h))": None,
    "h + wide": None,
    "h.half()": None,
    "wide": Dtype.FLOAT,
    "torch.softmax(h, -1)[torch.arange(6), 0]": Dtype.FLOAT,
    "h.log_softmax(-1)": Dtype.FLOAT,
    "F.cross_entropy(h, torch.arange(6) % 4)": Dtype.FLOAT,
    "h ** 2": Dtype.FLOAT,
    "h.sum(0)": Dtype.FLOAT,
    "h.float()": Dtype.FLOAT,
    "h.to(torch.float32)": Dtype.FLOAT,
    "h.sum(dtype=torch.float32)": Dtype.FLOAT,
    "torch.zeros(h.size())": Dtype.FLOAT,
    "torch.tensor([h.sum().item()])": Dtype.FLOAT,
    "torch.from_numpy(wide.numpy())": Dtype.FLOAT,
    "net.both(wide)[1]": Dtype.FLOAT,
    "twice(h)[1]": Dtype.FLOAT,
    "net.tail(wide)": Dtype.FLOAT,
    "net.norm.weight": Dtype.FLOAT,
    "h > 0": Dtype.WHOLE,
    "h.max(1)[1]": Dtype.WHOLE,
    "h.argmax(-1)": Dtype.WHOLE,
    "h.long()": Dtype.WHOLE,
}


def script(region: str) -> str:
    loop = f"for _ in range(2):\n{region}\n    opt.zero_grad()\n    loss.backward()\n    opt.step()\n"
    return HEAD + loop


def inferred(value: str, device: str = "cuda") -> set[object]:
    """The dtypes of what is added to the log in a region."""
    code = script(f"    h = net(wide)\n    loss = h.float().mean()\n    log.append({value})")
    model = read(Tree(code))
    acts = Acts(model.code)
    backwards = [a for found in acts.direct.values() for a in found if isinstance(a, Backward)]
    forward = Forward(acts, backwards)
    append = next(c for c in model.code.flow.calls if model.code.tree.text(c.func) == "log.append")
    inside = [n for n in model.code.tree.nodes() if model.code.tree.span(n).start > code.index("for _ in")]
    reached = [f for f in model.code.flow.functions if isinstance(f, cst.FunctionDef)]
    return {*Dtypes(forward, device, inside, reached).of(append.args[0].value)}


def computed(value: str, mode: str) -> torch.dtype:
    region = f"""\
    with torch.autocast("cpu", dtype=torch.float16, enabled={mode == "full"}):
        h = net(wide)
        loss = h.float().mean()
        log.append(str(torch.as_tensor({value}).dtype))"""
    dtype = run(script(region), mode).log[0]
    assert isinstance(dtype, str)
    return getattr(torch, dtype.removeprefix("torch."))


@pytest.mark.parametrize(("value", "expected"), VALUES.items(), ids=VALUES)
def test_what_the_model_says_is_what_pytorch_does(value: str, expected: Dtype | None):
    found = inferred(value)
    if expected is None:
        assert len(found) > 1 or not found <= {*Dtype}
        return
    assert found == {expected}
    dtype = computed(value, "full")
    assert (dtype is torch.float16) == (expected is Dtype.HALF)
    assert (dtype is computed(value, "original")) == (expected is not Dtype.HALF)


def test_the_cpu_leaves_a_softmax_in_half_precision():
    assert inferred("torch.softmax(h, -1)", "cpu") == {Dtype.HALF}
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.softmax(torch.ones(2, dtype=torch.float16), -1).dtype is torch.float16


def test_what_rests_on_the_policies_of_cuda_is_refused_on_the_cpu():
    text = (ROOT / "fixtures" / "loops" / "dqn_projection.py").read_text("utf-8")
    assert [d.code for d in check_text(text, Settings())] == ["AMP001"]
    (finding,) = check_text(text, replace(Settings(), device="cpu"))
    assert finding.code == "AMP021"
    assert "index_add_" in finding.message


@pytest.mark.parametrize(
    ("attention", "code"),
    [
        ("self.q(x).masked_fill_(mask, -1e9)", "AMP021"),
        ("unseen(self.q(x)).masked_fill(mask, float('-1e9'))", "AMP021"),
        ("self.q(x).masked_fill(mask, -1e9)", "AMP001"),
        ("torch.where(mask, self.q(x), -1e9)", "AMP001"),
        ("self.q(x).masked_fill(mask, float('-inf'))", "AMP001"),
        ("self.q(x).float().masked_fill(mask, -1e9)", "AMP001"),
        ("self.q(x).log_softmax(-1).masked_fill(mask, -1e9)", "AMP001"),
        ("torch.where(mask, x, -1e9) + self.q(x)", "AMP021"),
    ],
)
def test_a_mask_constant_that_meets_half_precision(attention: str, code: str):
    text = f"""\
import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(4, 4)

    def forward(self, x, mask):
        return {attention}.softmax(-1)

net = Attention().cuda()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for x, mask in loader:
    opt.zero_grad()
    loss = net(x.cuda(), mask.cuda()).sum()
    loss.backward()
    opt.step()
"""
    assert [d.code for d in check_text(text, Settings())] == [code]


def test_what_is_filled_beyond_half_precision_is_made_float32_first():
    text = """\
import torch
from torch import nn

class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(4, 4)

    def forward(self, x, mask):
        scores = self.q(x)
        return scores.masked_fill(mask, -1e9).softmax(-1)

net = Attention().cuda()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for x, mask in loader:
    opt.zero_grad()
    loss = net(x.cuda(), mask.cuda()).sum()
    loss.backward()
    opt.step()
"""
    fixed, _ = fix_text(text, Settings())
    assert "return scores.float().masked_fill(mask, -1e9).softmax(-1)" in fixed
    assert "scores.masked_fill" in fix_text(text, replace(Settings(), dtype="bfloat16"))[0]
    scope = {}
    exec(fixed.partition("net =")[0], scope)
    net, mask = scope["Attention"](), torch.tensor([True, False, False, False])
    with torch.autocast("cpu", dtype=torch.float16):
        assert net(torch.ones(4), mask)[0] == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("return src.new_zeros(3, 4).scatter_add_(0, index, src)", "AMP001"),
        ("out = torch.zeros_like(src)\n    return out.scatter_add_(0, index, src.view(-1, 4))", "AMP001"),
        ("fill = torch.full((3, 4), 0.0, dtype=src.dtype)\n    return fill.scatter_add(0, index, src)", "AMP001"),
        ("return torch.zeros(3, 4).scatter_add_(0, index, src)", "AMP021"),
        ("out = src.new_zeros(3, 4)\n    src = src.softmax(-1)\n    return out.scatter_add_(0, index, src)", "AMP021"),
    ],
)
def test_a_tensor_of_the_dtype_of_another_goes_with_it_in_either(body: str, code: str):
    text = f"""\
import torch
from torch import nn

def gathered(src, index):
    {body}

net = nn.Linear(4, 4).cuda()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for x, index in loader:
    opt.zero_grad()
    loss = (gathered(net(x.cuda()), index) + gathered(x.cuda(), index)).sum()
    loss.backward()
    opt.step()
"""
    assert [d.code for d in check_text(text, Settings())] == [code]


def test_the_table_names_operators_that_autocast_knows():
    for device, policies in POLICIES.items():
        names = policies.half | policies.float32 | policies.widest
        assert len(names) > 30
        known = {name for name in names if any(f"aten::{name}" in line for line in _registered(device))}
        assert known == names


def _registered(device: str) -> list[str]:
    names = torch._C._dispatch_get_registrations_for_dispatch_key(f"Autocast{device.upper()}")
    return [f"{name}." for name in names]


def test_the_table_is_what_the_installed_torch_says():
    spec = importlib.util.spec_from_file_location("autocast_ops", ROOT / "scripts" / "autocast_ops.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written, made = script.TABLE.read_text("utf-8"), script.table()
    if f'torch = "{torch.__version__.partition("+")[0]}"' in written:
        assert written == made
    assert made.count("[") == written.count("[")


def many_ways(kinds: int) -> str:
    """A chain of methods, each overridden in every class: the ways through it multiply."""
    methods = [f"    def m{i}(self, x):\n        return self.m{i + 1}(x)\n" for i in range(4)]
    last = "    def m4(self, x):\n        return x.exp()\n"
    classes = [f"class Net{k}({'Net0' if k else 'nn.Module'}):\n" + "".join(methods) + last for k in range(kinds)]
    return HEAD + "\n".join(classes) + "\n\nmany = Net0()\nfound = many.m0(wide)\n"


@pytest.mark.parametrize(("kinds", "known"), [(2, True), (12, False)])
def test_more_ways_than_can_be_followed_are_unknown(kinds: int, known: bool) -> None:
    code = read(Tree(many_ways(kinds))).code
    value = next(n.value for n in code.tree.all(cst.Assign) if code.tree.text(n).startswith("found ="))
    dtypes = Dtypes(Forward(Acts(code), []), "cuda", [value], frozenset())
    assert (dtypes.of(value) == {Dtype.FLOAT}) is known
