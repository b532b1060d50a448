"""What a step is refused for where its scaler cannot reach it, and steps of optimizers that a project defines."""

from __future__ import annotations

import pytest

from ampify.config import Settings
from ampify.inspection import FileReport, Inspection
from ampify.rule import load

HEAD = """\
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import global_mean_pool

"""

LOOP = """\
model = Net().cuda()
optimizer = {optimizer}
for x, y in loader:
    optimizer.zero_grad()
    loss = F.mse_loss(model(x.cuda()), y.cuda())
    loss.backward()
    optimizer.step()
"""

OWN = """\
class Own(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {{}})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.change(p, p.grad)

    def change(self, p, grad):
        p.data.add_(grad, alpha=-0.1)

    def curvature(self):
        return [p.grad.abs() for group in self.param_groups for p in group["params"]]

class Net(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

"""


def mended(text: str) -> FileReport:
    return Inspection("train.py", Settings(), tuple(load().values())).mend(text)


def reasons(text: str) -> list[str]:
    return [d.message.partition(": ")[2] for d in mended(text).diagnostics if d.code.startswith("AMP0")]


def test_the_step_of_an_own_optimizer_sees_unscaled_gradients() -> None:
    after = mended(HEAD + OWN.format() + LOOP.format(optimizer="Own(model.parameters())")).after
    assert "    scaler.step(optimizer)\n    scaler.update()\n" in after
    assert "unscale_" not in after


def test_what_reads_gradients_outside_of_the_step_gets_them_unscaled() -> None:
    text = HEAD + OWN.format() + LOOP.format(optimizer="Own(model.parameters())")
    after = mended(text.replace("    optimizer.step()", "    print(optimizer.curvature())\n    optimizer.step()")).after
    assert "scaler.unscale_(optimizer)\n    print(optimizer.curvature())\n" in after


def test_an_optimizer_that_steps_another_is_looked_into() -> None:
    wrapper = OWN.format() + (
        "class Slow(torch.optim.Optimizer):\n"
        "    def __init__(self, inner):\n        self.inner = inner\n"
        "    def step(self):\n        self.inner.step()\n"
        "    def zero_grad(self):\n        self.inner.zero_grad()\n\n"
    )
    loop = LOOP.format(optimizer="Slow(torch.optim.SGD(model.parameters(), lr=0.1))")
    assert "scaler.step(optimizer)" not in mended(HEAD + wrapper + loop).after


def test_a_function_of_a_library_of_layers_makes_no_module() -> None:
    net = (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.lin = nn.Linear(2, 2)\n\n"
        "    def forward(self, x):\n        return self.lin(global_mean_pool(x, None))\n\n"
    )
    after = mended(HEAD + net + LOOP.format(optimizer="torch.optim.SGD(model.parameters(), lr=0.1)")).after
    assert "        loss = F.mse_loss(model(x.cuda()), y.cuda())\n    scaler.scale(loss)" in after


PLACE = """\
class Place{bases}:
    def device(self):
        return torch.device("cuda")
{more}
_model = Place()
def place():
    return _model.device()
"""
MOVED = """\
model = nn.Linear(2, 2).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in loader:
    x, y = x.to(place()), y.to(place())
    out = model(x)
    loss = F.mse_loss(out, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("bases", ["", "(object)", "(abc.ABC)", "(Base)"])
def test_an_object_of_a_class_that_can_be_seen_is_no_module_by_its_name(bases: str) -> None:
    base = "import abc\nclass Base:\n    pass\n"
    after = mended(HEAD + base + PLACE.format(bases=bases, more="") + MOVED).after
    assert "    x, y = x.to(place()), y.to(place())\n    with torch.autocast" in after


@pytest.mark.parametrize(
    ("bases", "more"), [("(nn.Module)", ""), ("", "    def __call__(self, x):\n        return x\n")]
)
def test_one_that_can_be_called_may_be(bases: str, more: str) -> None:
    after = mended(HEAD + PLACE.format(bases=bases, more=more) + MOVED).after
    assert "        x, y = x.to(place()), y.to(place())\n" in after


def test_what_makes_a_module_is_no_part_of_its_forward() -> None:
    text = (
        HEAD
        + "def build():\n    net = nn.Linear(2, 2).cuda()\n    return net\n\nmodel = build()\n"
        + "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        + "for x, y in loader:\n    optimizer.zero_grad()\n    loss = F.mse_loss(F.linear(model(x), model.weight), y)\n"
        + "    loss.backward()\n    optimizer.step()\n"
    )
    after = mended(text).after
    assert "\nmodel = build()\n" in after
    assert after.count("with torch.autocast") == 1


CLASSES = """\
class Base:
    optimizer: torch.optim.Adam

    def init(self): ...

class One(Base):
    def init(self):
        self.model = nn.Linear(2, 2).cuda()
{one}
    def run(self, x):
        self.optimizer.zero_grad()
        loss = self.model(x).mean()
        loss.backward()
        self.optimizer.step()

class Other(Base):
    def init(self):
        self.optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
"""


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        ("", "`Base` only declares `self.optimizer`: what sets it is not in these files"),
        ("        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)\n", None),
    ],
)
def test_what_a_sibling_class_sets_is_not_there(one: str, reason: str | None) -> None:
    found = reasons(HEAD + CLASSES.format(one=one))
    assert found == ([reason] if reason is not None else [])


def test_a_function_that_is_defined_twice() -> None:
    step = "def train(model, opt):\n    opt.zero_grad()\n    model(1).cuda().backward()\n    opt.step()\n\n"
    found = reasons(HEAD + step + step + "m = nn.Linear(2, 2)\ntrain(m, torch.optim.SGD(m.parameters(), lr=0.1))\n")
    assert {*found} == {"`train` is defined more than once, so which one a call runs cannot be told"}


def test_a_state_that_is_restored_before_the_scaler_is_there() -> None:
    text = HEAD + (
        "class Trainer:\n"
        "    def __init__(self, model, optimizer):\n        self.model, self.optim = model, optimizer\n"
        "    def train(self, x):\n        self.optim.zero_grad()\n        loss = self.model(x).mean()\n"
        "        loss.backward()\n        self.optim.step()\n\n"
        "def main():\n    model = nn.Linear(2, 2).cuda()\n    optim = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "    state = torch.load('state.pt')\n    optim.load_state_dict(state['optim'])\n"
        "    Trainer(model, optim).train(torch.ones(2, 2).cuda())\n\nmain()\n"
    )
    (found,) = reasons(text)
    assert found.startswith(
        "`main` saves or restores the optimizer's state, and the scaler, which `Trainer` would make"
    )


CARRIED = """\
def setup(args):
    args.model = nn.Linear(2, 2).cuda()
{optimizer}

def prepare(options):
    setup(options)

def train(args, x):
    args.optimizer.zero_grad()
    loss = args.model(x).mean()
    loss.backward()
    args.optimizer.step()

def main():
    args = parse()
    {call}
    train(args, torch.ones(2, 2).cuda())

main()
"""

SET = "    args.optimizer = torch.optim.SGD(args.model.parameters(), lr=0.1)"


@pytest.mark.parametrize("call", ["setup(args)", "prepare(args)", "prepare(options=args)"])
def test_an_optimizer_that_options_carry_gets_its_scaler_below_the_call_that_sets_it(call: str) -> None:
    after = mended(HEAD + CARRIED.format(optimizer=SET, call=call)).after
    assert f"    {call}\n    use_amp = torch.cuda.is_available()\n    scaler = torch.amp.GradScaler(" in after
    assert "    train(args, torch.ones(2, 2).cuda(), scaler)\n" in after
    assert "    scaler.step(args.optimizer)\n    scaler.update()\n" in after


@pytest.mark.parametrize(
    ("optimizer", "call", "reason"),
    [
        ("", "setup(args)", "the place where `args.optimizer` is made cannot be seen in this file"),
        (SET, "setup(parse())", "the statements that compute this loss were not found"),  # other options
    ],
)
def test_options_that_nothing_in_sight_gives_an_optimizer(optimizer: str, call: str, reason: str) -> None:
    assert reasons(HEAD + CARRIED.format(optimizer=optimizer, call=call)) == [reason]


CLOSED = """\
from dataclasses import dataclass
from labml.configs import BaseConfigs

{head}
    def start(self):
        self.model = nn.Linear(2, 2).cuda()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)

    def train(self, loader):
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = F.mse_loss(self.model(x.cuda()), y.cuda())
            loss.backward()
            self.optimizer.step()
"""


@pytest.mark.parametrize(
    "head",
    [
        "class Run(BaseConfigs):",
        "class Base(BaseConfigs): ...\nclass Run(Base):",
        'class Run:\n    __slots__ = ("model", "optimizer")\n',
        "class Run:\n    def __setattr__(self, name, value):\n        check(name)\n",
        "@dataclass(slots=True)\nclass Run:\n    model: object\n    optimizer: object\n",
    ],
)
def test_objects_that_take_no_new_attributes_have_no_place_for_a_scaler(head: str) -> None:
    (reason,) = reasons(HEAD + CLOSED.format(head=head))
    assert reason.endswith("take only the attributes that it declares, and no scaler")


@pytest.mark.parametrize("head", ["class Run:", "@dataclass\nclass Run:\n    rate: float = 0.1\n"])
def test_other_objects_have_one(head: str) -> None:
    assert "        self.scaler = torch.amp.GradScaler(" in mended(HEAD + CLOSED.format(head=head)).after


def test_what_is_made_before_the_loop_that_calls_the_step_is_no_part_of_it() -> None:
    text = (
        "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n"
        "def prepare():\n    coder = nn.Linear(2, 2)\n    return [(coder(x), y) for x, y in source()]\n\n"
        "def train(data):\n    for x, y in data:\n        optimizer.zero_grad()\n"
        "        loss = F.mse_loss(model(x.to(device)), y.to(device))\n        loss.backward()\n"
        "        optimizer.step()\n\n"
        'if __name__ == "__main__":\n    data = prepare()\n    device = torch.device("cuda")\n'
        "    model = nn.Linear(2, 2).to(device)\n    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "    for epoch in range(3):\n        train(data)\n"
    )
    after = mended(text).after
    assert after.count("with torch.autocast") == 1
    assert "    data = prepare()\n    device = " in after
