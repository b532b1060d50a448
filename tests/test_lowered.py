"""What runs under autocast that is there already, and which values it surely leaves in half precision."""

from __future__ import annotations

import pytest

from ampify.config import Settings
from ampify.engine import check_text

HEAD = """\
import contextlib
import functools
import math

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.scale = size ** -0.5
        self.query = nn.Linear(size, size)

    def forward(self, x, mask):
        q = self.query(x)
        scores = q @ q.transpose(-2, -1)
        return (scores * self.scale).masked_fill(mask, -1e9)


layer = nn.Linear(4, 4)
attention = Attention(4)
"""


def found(code: str, *codes: str) -> list[str]:
    return [d.code for d in check_text(HEAD + code, Settings(select=codes or ("AMP403",)))]


@pytest.mark.parametrize(
    "code",
    [
        'with torch.autocast("cuda"):\n    attention(x, mask)\n',
        "with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=amp):\n    attention(x, mask)\n",
        "with torch.cuda.amp.autocast():\n    attention(x, mask)\n",
        'context = torch.autocast("cuda")\nwith context:\n    attention(x, mask)\n',
        'c = torch.autocast("cuda") if amp else contextlib.nullcontext()\nwith c:\n    attention(x, mask)\n',
        'net = nn.Sequential(attention)\nwith torch.autocast("cuda"):\n    net(x)\n',
        'nets = nn.ModuleList([attention])\nwith torch.autocast("cuda"):\n    for net in nets:\n        net(x, mask)\n',
        'net = nn.DataParallel(attention)\nwith torch.autocast("cuda"):\n    net(x, mask)\n',
        "def run(x):\n    return attention(x, mask)\n\n\nwith torch.autocast('cuda'):\n    run(x)\n",
        "@torch.autocast('cuda')\ndef run(x):\n    return attention(x, mask)\n",
        "half = torch.float16\nwith torch.autocast('cuda', dtype=half):\n    attention(x, mask)\n",
        'with torch.autocast("cuda"):\n    h = layer(x)\nh.masked_fill(mask, -1e9)\n',
    ],
)
def test_a_hazard_is_found_wherever_autocast_leads(code: str) -> None:
    assert found(code) == ["AMP403"]


@pytest.mark.parametrize(
    "code",
    [
        "attention(x, mask)\n",
        'with torch.autocast("cuda", enabled=False):\n    attention(x, mask)\n',
        "with torch.cuda.amp.autocast(False):\n    attention(x, mask)\n",
        'with torch.autocast("cuda"):\n    with torch.autocast("cuda", enabled=False):\n        attention(x, mask)\n',
        'with torch.autocast("cuda", dtype=torch.bfloat16):\n    attention(x, mask)\n',
        'with torch.autocast("cpu"):\n    attention(x, mask)\n',
        'd = torch.bfloat16 if s else torch.half\nwith torch.autocast("cuda", dtype=d):\n    attention(x, mask)\n',
        'cast = functools.partial(torch.autocast, "cuda", dtype=dtype)\nwith cast():\n    attention(x, mask)\n',
        'attention.half()\nwith torch.autocast("cuda"):\n    attention(x, mask)\n',
        'with torch.autocast("cuda"):\n    later = lambda: attention(x, mask)\n',
    ],
)
def test_what_does_not_surely_run_in_float16_is_silent(code: str) -> None:
    assert found(code) == []


@pytest.mark.parametrize(
    ("value", "half"),
    [
        ("layer(x)", True),
        ("layer(x) * 2 / math.sqrt(4) + x.size(0)", True),
        ("layer(x) - layer(x).mean()", True),
        ("layer(x).transpose(0, 1).relu()", True),
        ("F.dropout(layer(x), 0.5)", True),
        ("layer(x) * scale", False),
        ("layer(x) * torch.ones(4)", False),
        ("layer(x).softmax(-1)", False),
        ("layer(x).float()", False),
        ("layer(x).to(dtype)", False),
        ("layer(x) if mask else x", False),
        ("x", False),
        ("torch.zeros(4, 4)", False),
    ],
)
def test_only_what_is_surely_half_counts(value: str, half: bool) -> None:
    code = f'with torch.autocast("cuda"):\n    value = {value}\n    value.masked_fill(mask, -1e9)\n'
    assert found(code) == ["AMP403"] * half


def test_a_number_that_may_be_a_tensor_is_no_number() -> None:
    code = (
        'def run(weight):\n    return (layer(x) * weight).masked_fill(mask, -1e9)\n\n\nwith torch.autocast("cuda"):\n'
    )
    assert found(code + "    run(0.5)\n") == ["AMP403"]
    assert found(code + "    run(torch.ones(4))\n") == []
    assert found(code + "    run(0.5)\n    run(other)\n") == []


def test_a_container_that_is_made_of_itself_comes_to_an_end() -> None:
    code = 'net = nn.Sequential(layer)\nnet = nn.Sequential(net, nn.ReLU())\nwith torch.autocast("cuda"):\n'
    assert found(code + "    net(x).masked_fill(mask, -1e9)\n") == []


def test_a_copy_of_a_model_in_half_precision_says_nothing_of_the_model() -> None:
    code = (
        'import copy\nsmall = copy.deepcopy(attention).half()\nwith torch.autocast("cuda"):\n    attention(x, mask)\n'
    )
    assert found(code) == ["AMP403"]


def test_half_weights_meet_half_results() -> None:
    code = 'head = nn.Linear(4, 4)\nwith torch.autocast("cuda"):\n    h = layer(x)\nhead(h)\n'
    assert found(code, "AMP311") == ["AMP311"]
    assert found("layer.half()\n" + code, "AMP311") == []


def test_losses_of_a_framework_that_scales_by_hand_are_silent() -> None:
    """Master weights and a scale of one's own, as guided-diffusion has them."""
    code = (
        "model = nn.Linear(4, 4).half()\nmasters = [p.detach().clone().float() for p in model.parameters()]\n"
        "opt = torch.optim.AdamW(masters, lr=1e-4)\nfor x in loader:\n    loss = model(x).float().sum()\n"
        "    (loss * 2 ** scale).backward()\n    for m, p in zip(masters, model.parameters()):\n"
        "        m.grad = p.grad.float() / 2 ** scale\n    opt.step()\n"
    )
    assert found(code, "AMP301", "AMP303", "AMP312", "AMP405") == []


def test_an_island_is_outside_of_autocast() -> None:
    code = 'with torch.autocast("cuda"):\n    h = layer(x)\n    with torch.autocast("cuda", enabled=False):\n'
    assert found(code + "        layer(h)\n", "AMP311") == ["AMP311"]
    assert found(code + "        layer(h.float())\n", "AMP311") == []


def test_a_region_of_another_dtype_is_not_outside_of_autocast() -> None:
    code = 'with torch.autocast("cuda"):\n    h = layer(x)\nwith torch.autocast("cuda", dtype=torch.bfloat16):\n'
    assert found(code + "    torch.log(F.softmax(h, 1))\n", "AMP402") == []


def test_what_is_no_tensor_has_no_dtype() -> None:
    function = (
        "class Product(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, a, f):\n        return a @ a\n\n"
        "    @staticmethod\n    def backward(ctx, grad):\n        return grad @ grad, None\n\n\n"
    )
    region = 'with torch.autocast("cuda"):\n    h = layer(x)\n    Product.apply(h, '
    assert found(function + region + "layer.weight)\n", "AMP510") == ["AMP510"]
    assert found(function + region + "layer)\n", "AMP510") == []
    assert found(function + region + "math.sqrt)\n", "AMP510") == []
    assert found(function + region + "found)\n", "AMP510") == []
