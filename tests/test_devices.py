"""Which device decides about mixed precision, and what is written where there may be none."""

from __future__ import annotations

from pathlib import Path

import pytest
from execution import assert_same, run
from test_traps import HEAD

from ampify.config import Settings
from ampify.engine import check_text, fix_text, fix_texts

PICKED = 'device = torch.device("cuda" if torch.cuda.is_available() else "cpu")'
LOOP = """\
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    log.append(loss.item())
"""
FUNCTION = """\
def train(model, device, opt):
    for x, y in data:
        x, y = x.to(device), y.to(device)
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        log.append(loss.item())


train(model, device, opt)
"""
ACCELERATOR = {
    "alone": "device = torch.accelerator.current_accelerator()",
    "behind a flag that says nothing of the machine": """\
import sys
asked = "--cpu" not in sys.argv
if asked:
    device = torch.accelerator.current_accelerator()
else:
    device = torch.device("cpu")""",
}
ASKED = {
    "a test": """\
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()
else:
    device = torch.device("cpu")""",
    "a name for two tests": """\
import sys
wanted = len(sys.argv) < 99 and torch.accelerator.is_available()
device = torch.accelerator.current_accelerator() if wanted else torch.device("cpu")""",
    "the other branch": """\
import sys
if len(sys.argv) > 99 or not torch.accelerator.is_available():
    device = torch.device("cpu")
else:
    device = torch.accelerator.current_accelerator()""",
}


@pytest.mark.parametrize("rest", [LOOP, FUNCTION])
@pytest.mark.parametrize("how", ACCELERATOR)
def test_a_machine_without_an_accelerator(how: str, rest: str):
    before = HEAD.replace(PICKED, ACCELERATOR[how]) + rest
    after, left = fix_text(before, Settings())
    assert left == []
    assert 'use_amp = device is not None and device.type == "cuda"' in after
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert_same(original, run(after, "scaled"))


@pytest.mark.parametrize("how", ASKED)
def test_a_program_that_asks_for_an_accelerator_first(how: str):
    before = HEAD.replace(PICKED, ASKED[how]) + LOOP
    after, left = fix_text(before, Settings())
    assert left == []
    assert 'use_amp = device.type == "cuda"' in after
    assert_same(run(before, "original"), run(after, "off"))


def test_a_program_that_ends_without_an_accelerator():
    device = "import sys\nif not torch.accelerator.is_available():\n    sys.exit(0)\n" + ACCELERATOR["alone"]
    after, _ = fix_text(HEAD.replace(PICKED, device) + LOOP, Settings())
    assert 'use_amp = device.type == "cuda"' in after


CPU = f"""{HEAD}
def regress(optimizer, pairs):
    net = nn.Sequential(nn.Linear(8, 1))
    net.apply(lambda module: None)
    opt = optimizer(net.parameters(), lr=0.1)
    for x, y in pairs:
        opt.zero_grad()
        loss = F.mse_loss(net(x).squeeze(1), y.float())
        loss.backward()
        opt.step()


regress(torch.optim.SGD, data)
"""


def test_a_model_that_is_made_in_a_function_and_stays_on_the_cpu():
    (found,) = [d for d in check_text(CPU, Settings()) if d.code.startswith("AMP0")]
    assert found.code == "AMP018"
    assert "never leaves the CPU" in found.message


@pytest.mark.parametrize(
    "change",
    [
        ("net = nn.Sequential(nn.Linear(8, 1))", "net = nn.Sequential(nn.Linear(8, 1)).to(device)"),
        ("net.apply(lambda module: None)", "net.cuda()"),
        ("net = nn.Sequential(nn.Linear(8, 1))", "net = pairs.net"),
        ("log = []", "log = []\ntorch.set_default_device(device)"),
    ],
)
def test_a_model_that_may_be_elsewhere(change: tuple[str, str]):
    text = CPU.replace(*change)
    assert text != CPU
    assert "AMP018" not in [d.code for d in check_text(text, Settings())]


ELSEWHERE = """\
import torch
import torch.nn.functional as F
from torch import nn

rank = 0
device = {device}
model = nn.Linear(4, 2).to(device)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x.to(device)), y.to(device))
    loss.backward()
    opt.step()
"""


@pytest.mark.parametrize(
    ("device", "code"),
    [
        ('f"xpu:{rank}"', "AMP018"),
        ('torch.device("mps" if torch.backends.mps.is_available() else "cpu")', "AMP018"),
        ('"cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"', "AMP001"),
        ('f"{kind}:{rank}"', "AMP001"),
    ],
)
def test_an_accelerator_that_is_never_cuda(device: str, code: str):
    text = ELSEWHERE.format(device=device) + "torch.cuda.synchronize()\n"
    found = [d for d in check_text(text, Settings()) if d.code.startswith("AMP0")]
    assert [d.code for d in found] == [code]
    assert code == "AMP001" or "what a conversion adds is for CUDA" in found[0].message


@pytest.mark.parametrize(("default", "spelled"), [("", "device.type"), ('="cpu"', "torch.device(device).type")])
def test_the_default_of_a_parameter_may_be_the_name_of_a_device(default: str, spelled: str):
    text, _ = fix_text(
        f"""\
import torch
from torch import nn

def step(net, opt, x, device{default}):
    loss = nn.functional.softplus(net(x.to(device))).sum()
    loss.backward()
    opt.step()

def fit(loader, name):
    own = torch.device("cuda")
    net = nn.Linear(4, 4).to(own)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for x in loader:
        opt.zero_grad()
        step(net, opt, x, own)
""",
        Settings(),
    )
    assert f"device_type={spelled}," in text.partition("def fit")[0]


METAL = {
    "an object": 'device = torch.device("mps" if torch.backends.mps.is_available() else "cpu")',
    "a name": 'device = "mps" if torch.backends.mps.is_available() else "cpu"',
    "a name of three": """\
others = "mps" if torch.backends.mps.is_available() else "cpu"
device = "cuda" if torch.cuda.is_available() else others""",
    "one of three": """\
if torch.cuda.is_available():
    device = torch.device("cuda")
elif hasattr(torch.backends, "mps") and torch.backends.mps.is_available():
    device = torch.device("mps")
else:
    device = torch.device("cpu")""",
}


@pytest.mark.parametrize("rest", [LOOP, FUNCTION])
@pytest.mark.parametrize("how", METAL)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_autocast_is_not_told_of_mps_before_torch_2_5(how: str, rest: str, dtype: str):
    before = HEAD.replace(PICKED, f"{METAL[how]}\n# or cuda") + rest
    after, left = fix_text(before, Settings(dtype=dtype))
    newer, _ = fix_text(before, Settings(dtype=dtype, target_torch=(2, 5)))
    if "cuda" not in METAL[how]:
        assert after == before
        assert [d.code for d in left] == ["AMP018"]
        return
    assert left == []
    assert 'device_type="cuda",' in after
    assert 'device.type == "cuda"' in after or 'torch.device(device).type == "cuda"' in after
    assert 'device_type="cuda",' not in newer
    assert_same(run(before), run(after, "off"))


MEMORY = """\
import torch


def used():
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def moved(model):
    return {moved}
"""
MEASURED = """\
import torch
from memory import moved, used
from models import build

model = moved(build())
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in data:
    opt.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    print(used())
"""


@pytest.mark.parametrize(
    ("moves", "code"), [("model.to(torch.device(model.cfg.DEVICE))", "AMP018"), ("model.cuda()", None)]
)
def test_a_file_that_only_asks_for_memory_is_no_sign_of_a_device(moves: str, code: str | None):
    texts = {Path("train.py"): MEASURED, Path("memory.py"): MEMORY.format(moved=moves)}
    after, left = fix_texts(texts, lambda _: Settings())
    assert (after == texts) == (code is not None)
    assert [d.code for d in left] == [code] * (code is not None)


BUFFER = """\
import numpy as np


class Buffer:
    def __init__(self):
        self.rows, self.largest = [], 1.0

    def add(self, row):
        self.rows.append((np.asarray(row), self.largest**0.6))
        self._sort()

    def _sort(self):
        self.rows.sort(key=lambda row: row[1] * 2)
"""
KEPT = """\
import torch
from buffer import Buffer

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = torch.nn.Linear(8, 4).to(device)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
buffer = Buffer()
for x, y in data:
    opt.zero_grad()
    out = model(x)
    loss = torch.nn.functional.cross_entropy(out, y)
    buffer.add(out.detach().cpu().numpy())
    loss.backward()
    opt.step()
"""


def test_what_only_numpy_computes_stays_outside_of_the_region():
    texts = {Path("train.py"): KEPT, Path("buffer.py"): BUFFER}
    after, left = fix_texts(texts, lambda _: Settings())
    assert left == []
    assert "\n    buffer.add(out.detach().cpu()" in after[Path("train.py")]
