"""What the model understands of a training step, told by what becomes of small scripts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ampify.config import Settings
from ampify.engine import check_text, fix_text
from ampify.model.find import read
from ampify.source.importers import importer_of
from ampify.syntax.tree import Tree

HEAD = """\
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

device = torch.device("cuda")
net = nn.Linear(4, 2).to(device)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
"""


def converted(body: str, **settings: object) -> str:
    """What becomes of ``body`` under the head."""
    text, _ = fix_text(HEAD + body, replace(Settings(), **settings))
    return text


def refusal(text: str, **settings: object) -> tuple[str, str]:
    """The code and the reason of the one finding on ``text``."""
    (finding,) = check_text(text, replace(Settings(), **settings))
    assert finding.fix is None
    return finding.code, finding.message


def under_autocast(text: str) -> list[str]:
    """The lines inside autocast regions, without their indentation."""
    tree, found = Tree(text), []
    for node in sorted(read(tree).code.amp.regions, key=tree.line):
        head, *lines = tree.text(node).splitlines()
        inner = [line.strip() for line in lines]
        found += inner[inner.index("):") + 1 :] if head.endswith("(") else inner
    return found


STEP = """\
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


class TestForward:
    def test_numbers_leave_the_graph(self):
        text = converted(f"""\
for obs, target in loader:
    action = net(obs).argmax(1).cpu().numpy()
    seen = env.step(action)
    loss = F.mse_loss(net(obs), target)
    history.append(seen)
{STEP}""")
        assert under_autocast(text) == ["loss = F.mse_loss(net(obs), target)"]

    def test_a_tensor_that_was_made_before_keeps_its_dtype(self):
        text = converted(f"""\
values = torch.zeros(8, 2, device=device)
for epoch in range(3):
    with torch.no_grad():
        for t in range(8):
            values[t] = net(states[t])
    returns = values.flip(0).flatten()
    loss = F.mse_loss(net(states).flatten(), returns)
{STEP}""")
        assert under_autocast(text) == [
            "for t in range(8):",
            "values[t] = net(states[t])",
            "loss = F.mse_loss(net(states).flatten(), returns)",
        ]

    def test_the_last_definition_counts(self):
        text = converted(f"""\
for x, y in loader:
    out = net(x)
    loss = F.cross_entropy(out, y)
{STEP}
    if verbose:
        out = net(fixed)
        print(out.shape)
""")
        assert under_autocast(text) == ["out = net(x)", "loss = F.cross_entropy(out, y)"]

    def test_results_that_are_only_moved_about_need_no_region(self):
        text = converted(f"""\
hidden = None
for x, y in loader:
    if hidden is not None:
        hidden = hidden.detach()
    hidden = net(x)
    loss = F.cross_entropy(hidden, y)
{STEP}""")
        assert under_autocast(text) == ["hidden = net(x)", "loss = F.cross_entropy(hidden, y)"]

    def test_what_runs_once_before_the_loop_stays_in_float32(self):
        text = converted(f"""\
wanted = net(fixed).detach()
for x in loader:
    loss = F.mse_loss(net(x), wanted)
{STEP}""")
        assert under_autocast(text) == ["loss = F.mse_loss(net(x), wanted)"]


class TestIslands:
    def test_distributions_are_made_in_float32_and_passed_on_as_they_are(self):
        text = converted(f"""\
for x, old in loader:
    new = torch.distributions.Categorical(logits=net(x))
    loss = torch.distributions.kl_divergence(old, new).mean()
{STEP}""")
        assert "Categorical(logits=output.float())" in text
        assert "kl_divergence(old, new)" in text

    @pytest.mark.parametrize(
        ("made", "used"),
        [
            ("D = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()).to(device)", "D[-1](D[:-1](x).float())"),
            ("D = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())\nD = D.to(device)", "D[-1](D[:-1](x).float())"),
        ],
    )
    def test_the_sigmoid_at_the_end_of_a_sequential_runs_in_float32(self, made: str, used: str):
        text = converted(f"{made}\nopt = torch.optim.SGD(D.parameters(), lr=0.1)\nbce = nn.BCELoss()\n"
                         f"for x, y in loader:\n    p = D(x)\n    loss = bce(p, y)\n{STEP}")  # fmt: skip
        assert used in text
        assert "bce(p, y)" in text

    def test_a_sigmoid_that_cannot_be_seen_is_refused(self):
        code, message = refusal(f"""\
{HEAD}from zoo import Classifier
net = Classifier().to(device)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
bce = nn.BCELoss()
for x, y in loader:
    loss = bce(net(x), y)
{STEP}""")
        assert code == "AMP021"
        assert "the sigmoid behind `net(x)` cannot be seen" in message

    def test_a_loss_that_takes_more_than_tensors_is_refused(self):
        code, message = refusal(f"""\
{HEAD}
def criterion(out, y):
    return out["kl"] + F.binary_cross_entropy(torch.sigmoid(y), y)

for x, y in loader:
    out = net(x)
    loss = criterion(out, y)
{STEP}""")
        assert code == "AMP021"
        assert "the sigmoid behind" in message


class TestDevice:
    def test_one_that_may_be_none_is_not_named(self):
        text, _ = fix_text(
            """\
import torch
import torch.nn.functional as F
from torch import nn

class Layer(nn.Linear):
    def __init__(self, n, device=None):
        super().__init__(n, n, device=device)
        self.opt = torch.optim.SGD(self.parameters(), lr=0.1)

    def learn(self, loader):
        for x in loader:
            self.opt.zero_grad()
            loss = self.forward(x.cuda()).pow(2).mean()
            loss.backward()
            self.opt.step()
""",
            Settings(),
        )
        assert 'torch.amp.GradScaler("cuda", enabled=self.use_amp)' in text
        assert "torch.device(device)" not in text

    def test_one_that_is_only_passed_along_is_named(self):
        text, _ = fix_text(
            """\
import torch
import torch.nn.functional as F

def train(model, device, loader):
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        train_epoch(model, device, loader, opt)

def train_epoch(model, device, loader, opt):
    for x, y in loader:
        opt.zero_grad()
        loss = F.cross_entropy(model(x.to(device)), y.to(device))
        loss.backward()
        opt.step()
""",
            Settings(),
        )
        assert "device_type = torch.device(device).type" in text
        assert 'use_amp = device_type == "cuda"' in text

    def test_one_that_a_library_chooses_may_be_a_gpu(self):
        body = "net = Net().to(device)\nopt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        head = "import torch\nfrom zoo import Net, pick\n"
        loop = f"for x in loader:\n    loss = net(x).sum()\n{STEP}"
        assert "GradScaler" in fix_text(f"{head}device = pick('auto')\n{body}{loop}", Settings())[0]
        assert refusal(f"{head}device = torch.device('cpu')\n{body}{loop}")[0] == "AMP018"

    @pytest.mark.parametrize("annotation", [" -> torch.device", ""])
    def test_a_function_that_says_it_returns_a_device_gives_its_type(self, annotation: str):
        head = f"import torch\nfrom zoo import Net, choose\n\ndef pick(name){annotation}:\n    return choose(name)\n\n"
        body = "device = pick('cuda')\nnet = Net().to(device)\nopt = torch.optim.SGD(net.parameters(), lr=0.1)\n"
        text, _ = fix_text(f"{head}{body}for x in loader:\n    loss = net(x).sum()\n{STEP}", Settings())
        assert ("GradScaler(device.type," in text) == bool(annotation)


class TestHazards:
    def test_a_method_called_linear_is_no_matrix_product(self):
        text = f"""\
{HEAD}
class Head:
    def linear(self, x):
        return x * 2

head = Head()
for x, y in loader:
    out = net(x)
    loss = F.cross_entropy(out, y)
{STEP}
    print(head.linear(out))
"""
        assert "GradScaler" in fix_text(text, Settings())[0]

    def test_a_product_of_results_with_float32_behind_the_region(self):
        code, message = refusal(f"""\
{HEAD}
for x, y in loader:
    out = net(x)
    loss = F.cross_entropy(out, y)
{STEP}
    print(torch.matmul(out, basis))
""")
        assert code == "AMP021"
        assert "`torch.matmul(out, basis)` would get float16" in message


class TestRefusals:
    def test_a_mask_constant_that_float16_cannot_hold(self):
        text = f"""\
{HEAD}
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = nn.Linear(4, 4)

    def forward(self, x, mask):
        return self.q(x).masked_fill_(mask, -1e9).softmax(-1)

net = Attention().to(device)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for x, mask in loader:
    loss = net(x, mask).sum()
{STEP}"""
        code, message = refusal(text)
        assert code == "AMP021"
        assert "a number that float16 cannot hold" in message
        assert "dtype=torch.bfloat16" in fix_text(text, replace(Settings(), dtype="bfloat16"))[0]

    def test_sharded_parameters(self):
        code, message = refusal(f"""\
{HEAD}from torch.distributed.fsdp import fully_shard
fully_shard(net)
for x, y in loader:
    loss = F.cross_entropy(net(x), y)
{STEP}""")
        assert code == "AMP017"
        assert "agrees across them" in message

    def test_a_project_that_still_allows_a_torch_without_autocast(self):
        body = f"for x, y in loader:\n    loss = F.cross_entropy(net(x), y)\n{STEP}"
        code, message = refusal(HEAD + body, target_torch=(0, 4))
        assert code == "AMP017"
        assert "torch 0.4" in message

    def test_a_framework_that_differentiates_is_no_training_step_of_ours(self):
        text = f"""\
{HEAD}from accelerate import Accelerator
accelerator = Accelerator()
for x, y in loader:
    opt.zero_grad()
    loss = F.cross_entropy(net(x), y)
    accelerator.backward(loss)
    opt.step()
"""
        assert [finding.code for finding in check_text(text, Settings())] == ["AMP701"]


class TestOtherFiles:
    LOOP = f"""\
{HEAD}import helpers
for x, y in loader:
    loss = helpers.style(net(x), y)
{STEP}"""

    def test_a_helper_of_the_project_is_not_trusted(self, tmp_path):
        train = tmp_path / "train.py"
        train.write_text(self.LOOP)
        assert "GradScaler" in fix_text(self.LOOP, Settings())[0]
        assert check_text(self.LOOP, Settings(), str(train))[0].code == "AMP001"  # a library, as far as can be seen
        (tmp_path / "helpers.py").write_text("def style(a, b): return a.T @ b\n")
        (finding,) = check_text(self.LOOP, Settings(), str(train))
        assert finding.code == "AMP021"
        assert "`helpers.style` stands in another file" in finding.message


class TestImporters:
    TRAIN = f"""\
import torch
import torch.nn.functional as F
from torch import nn

def train(net, loader, opt):
    for x, y in loader:
        loss = F.cross_entropy(net(x.cuda()), y.cuda())
{STEP.replace("    ", "        ")}

if __name__ == "__main__":
    net = nn.Linear(4, 2).cuda()
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    train(net, [], opt)
"""

    @pytest.mark.parametrize(
        ("line", "calls"),
        [
            ("from engine import train", True),
            ("import engine\nengine.train(1, 2, 3)", True),
            ("import lib.engine as e\ne.train(1, 2, 3)", True),
            ("from lib import engine as e\ne.train(1, 2, 3)", True),
            ("import lib.other as e\ne.train(1, 2, 3)", False),
            ("from lib.engine import *\ntrain(1, 2, 3)", True),
            ("from engine import evaluate", False),
            ("from other import train", False),
            ("engine = make()\nengine.train(1, 2, 3)", False),
        ],
    )
    def test_who_else_calls(self, tmp_path, line: str, calls: bool):
        (tmp_path / "pyproject.toml").touch()
        file = tmp_path / "engine.py"
        file.write_text(self.TRAIN)
        (tmp_path / "tool.py").write_text(line)
        assert (importer_of(file, {"train"}, ()) is not None) is calls

    def test_a_signature_that_another_file_relies_on_is_not_changed(self, tmp_path):
        (tmp_path / "pyproject.toml").touch()
        file = tmp_path / "engine.py"
        file.write_text(self.TRAIN)
        assert [d.code for d in check_text(self.TRAIN, Settings(), str(file))] == ["AMP001"]
        other = tmp_path / "apart"
        other.mkdir()
        (other / "pyproject.toml").touch()
        (other / "engine.py").write_text(self.TRAIN)
        (other / "main.py").write_text("from engine import train\n")
        (finding,) = check_text(self.TRAIN, Settings(), str(other / "engine.py"))
        assert finding.code == "AMP017"
        assert "`main.py` calls it too" in finding.message
