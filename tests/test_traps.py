"""Scripts that a converter gets wrong easily: each is refused with its code, or converted and run before and after."""

from __future__ import annotations

import pytest
from execution import assert_same, run

from ampify.config import Settings
from ampify.engine import fix_text

HEAD = """\
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
log = []


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 16)
        self.b = nn.Linear(16, 4)

    def forward(self, x):
        return self.b(F.relu(self.a(x)))


data = [(torch.randn(6, 8, device=device), torch.randint(0, 4, (6,), device=device)) for _ in range(8)]
model = Net().to(device)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
"""

REFUSED = {
    "a gradient of the input read between two backwards": (
        "AMP017",
        """\
for x, y in data:
    x.requires_grad = True
    loss = F.cross_entropy(model(x), y)
    opt.zero_grad()
    loss.backward()
    worst = (x + 0.03 * x.grad.sign()).detach()
    opt.zero_grad()
    loss = F.cross_entropy(model(worst), y)
    loss.backward()
    opt.step()
""",
    ),
    "gradients of several losses projected on each other": (
        "AMP020",
        """\
for x, y in data:
    out = model(x)
    kept = []
    for loss in (F.cross_entropy(out, y), out.pow(2).mean()):
        opt.zero_grad()
        loss.backward(retain_graph=True)
        kept.append([p.grad.clone() for p in model.parameters()])
    for p, a, b in zip(model.parameters(), *kept):
        p.grad = a + b
    opt.step()
""",
    ),
    "clipping in every micro-batch": (
        "AMP017",
        """\
for x, y in data:
    opt.zero_grad()
    for half in (0, 1):
        loss = F.cross_entropy(model(x[half::2]), y[half::2])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    opt.step()
""",
    ),
    "gradients summed up in tensors of one's own": (
        "AMP020",
        """\
acc = [torch.zeros_like(p) for p in model.parameters()]
for i, (x, y) in enumerate(data):
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    for a, p in zip(acc, model.parameters()):
        a += p.grad
    if i % 2:
        for a, p in zip(acc, model.parameters()):
            p.grad = a.clone()
            a.zero_()
        opt.step()
""",
    ),
    "gradients that are never cleared": (
        "AMP017",
        """\
for x, y in data:
    F.cross_entropy(model(x), y).backward()
    opt.step()
""",
    ),
    "gradients that another loss adds to after they were cleared": (
        "AMP017",
        """\
head = nn.Linear(4, 1).to(device)
opt_h = torch.optim.SGD(head.parameters(), lr=0.1)
for x, y in data:
    loss_h = head(model(x).detach()).mean()
    loss_h.backward()
    opt_h.step()
    opt_h.zero_grad()
    loss = -head(model(x)).mean()
    loss.backward()
    opt.step()
    opt.zero_grad()
""",
    ),
    "a subclass that makes no scaler": (
        "AMP017",
        """\
class Trainer:
    def __init__(self, net):
        self.net = net
        self.opt = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(self, x, y):
        self.opt.zero_grad()
        loss = F.cross_entropy(self.net(x), y)
        loss.backward()
        self.opt.step()


class Special(Trainer):
    def __init__(self, net):
        self.net = net
        self.opt = torch.optim.Adam(net.parameters())


for x, y in data:
    Special(model).step(x, y)
""",
    ),
    "a loss that a subclass replaces": (
        "AMP021",
        """\
class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def loss(self, out, y):
        return F.cross_entropy(out, y)

    def training_step(self, x, y):
        return self.loss(self.net(x), y)


class Binary(Base):
    def loss(self, out, y):
        return F.binary_cross_entropy(torch.sigmoid(out), F.one_hot(y, 4).float())


whole = Binary().to(device)
opt = torch.optim.SGD(whole.parameters(), lr=0.1)
for x, y in data:
    opt.zero_grad()
    loss = whole.training_step(x, y)
    loss.backward()
    opt.step()
""",
    ),
    "a loss out of a table": (
        "AMP021",
        """\
LOSSES = {"bce": nn.BCELoss(), "mse": nn.MSELoss()}
for x, y in data:
    opt.zero_grad()
    loss = LOSSES["mse"](model(x), F.one_hot(y, 4).float())
    loss.backward()
    opt.step()
""",
    ),
    "a module that adds into a float32 tensor": (
        "AMP021",
        """\
class Pool(nn.Module):
    def forward(self, h, rows):
        return torch.zeros(3, 4, device=h.device).index_add_(0, rows, h)


pool = Pool()
for x, y in data:
    opt.zero_grad()
    loss = pool(model(x), y % 3).pow(2).mean()
    loss.backward()
    opt.step()
""",
    ),
    "results collected in a list and multiplied later": (
        "AMP021",
        """\
seen = []
for x, y in data:
    out = model(x)
    seen.append(out.detach())
    loss = F.cross_entropy(out, y)
    opt.zero_grad()
    loss.backward()
    opt.step()
log.append((torch.cat(seen).T @ torch.ones(48, 1, device=device)).sum().item())
""",
    ),
    "anomaly detection": (
        "AMP021",
        """\
torch.autograd.set_detect_anomaly(True)
for x, y in data:
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    opt.step()
""",
    ),
    "a loop on one line": (
        "AMP017",
        "for x, y in data: opt.zero_grad(); F.cross_entropy(model(x), y).backward(); opt.step()\n",
    ),
    "forward and backward on one line": (
        "AMP017",
        """\
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y); loss.backward()
    opt.step()
""",
    ),
}

CONVERTED = {
    "the rest of an accumulation after the loop": """\
for i, (x, y) in enumerate(data):
    (F.cross_entropy(model(x), y) / 4).backward()
    if (i + 1) % 4 == 0:
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        opt.step()
        opt.zero_grad()
if (i + 1) % 4 != 0:
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    opt.step()
    opt.zero_grad()
""",
    "clipping in a static method": """\
class Utils:
    @staticmethod
    def clip(parameters, most):
        for p in parameters:
            p.grad.data.clamp_(-most, most)


for i, (x, y) in enumerate(data):
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    if i % 2 == 0:
        log.append(sum(p.grad.abs().sum().item() for p in model.parameters()))
    Utils.clip(model.parameters(), 0.01)
    opt.step()
""",
    "clipping in a lambda": """\
for x, y in data:
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    list(map(lambda p: p.grad.clamp_(-0.01, 0.01), model.parameters()))
    opt.step()
""",
    "an optimizer that is replaced on the way": """\
for epoch in range(3):
    if epoch == 2:
        opt = torch.optim.Adam(model.parameters(), lr=0.01)
    for x, y in data:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        log.append(loss.item())
""",
    "two optimizers and a log of both gradients": """\
other = Net().to(device)
opt_o = torch.optim.SGD(other.parameters(), lr=0.1)
for x, y in data:
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    log.append(sum(p.grad.abs().sum().item() for p in model.parameters()))
    opt.step()
    opt_o.zero_grad()
    F.cross_entropy(other(x), y).backward()
    log.append(sum(p.grad.abs().sum().item() for p in other.parameters()))
    opt_o.step()
""",
    "a line that does two things": """\
for x, y in data:
    opt.zero_grad(); loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
""",
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(name: str):
    code, body = REFUSED[name]
    text, left = fix_text(HEAD + body, Settings())
    assert text == HEAD + body
    assert [d.code for d in left if d.code != "AMP903"] == [code]


@pytest.mark.parametrize("name", CONVERTED)
def test_is_converted_to_the_same_program(name: str):
    before = HEAD + CONVERTED[name]
    after, left = fix_text(before, Settings())
    assert after != before
    assert left == []
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert_same(original, run(after, "scaled"))
    assert run(after, "full").finite


CLOSURE = f"""{HEAD}
for x, y in data:
    def closure():
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    loss = opt.step(closure)
    log.append(loss.item())
"""


def test_a_closure_of_a_first_order_optimizer_is_called_once_by_an_unsafe_fix():
    assert [d.code for d in fix_text(CLOSURE, Settings())[1]] == ["AMP010"]
    after, left = fix_text(CLOSURE, Settings(unsafe_fixes=True))
    assert "    loss = closure()\n    scaler.step(opt)\n    scaler.update()\n" in after
    assert left == []
    original = run(CLOSURE, "original")
    assert_same(original, run(after, "off"))
    assert_same(original, run(after, "scaled"))
    assert run(after, "full").finite


@pytest.mark.parametrize(
    "change",
    [
        ("torch.optim.SGD", "torch.optim.LBFGS"),
        ("        return loss\n", "        nn.utils.clip_grad_norm_(model.parameters(), 0.1)\n        return loss\n"),
    ],
)
def test_other_closures_are_refused_by_unsafe_fixes_too(change: tuple[str, str]):
    text = CLOSURE.replace(*change)
    assert text != CLOSURE
    after, left = fix_text(text, Settings(unsafe_fixes=True))
    assert after == text
    assert [d.code for d in left] == ["AMP010"]


def test_a_saliency_map_beside_training_keeps_its_gradients():
    before = f"""{HEAD}
def saliency(x):
    x = x.clone().requires_grad_()
    model(x).max(1)[0].sum().backward()
    return x.grad.abs()


for x, y in data:
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    opt.step()
    log.append(saliency(x).sum().item())
"""
    after, left = fix_text(before, Settings())
    assert "scaler.scale(loss).backward()" in after
    assert "    model(x).max(1)[0].sum().backward()\n" in after
    assert left == []
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert_same(original, run(after, "scaled"))
