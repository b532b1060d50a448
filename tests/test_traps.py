"""Scripts that a converter gets wrong easily: each is refused with its code, or converted and run before and after."""

from __future__ import annotations

import pytest
from execution import assert_same, run

from ampify.config import Settings
from ampify.engine import check_text, fix_text

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

AGENT = """\
class Agent:
    def __init__(self):
        self.net = Net().to(device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
"""

NORM = """\
class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = {weight}
        self.register_buffer("running_mean", torch.zeros(4))
        self.register_buffer("running_var", torch.ones(4))

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, None, True)


class Styled(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = model
        self.tail = nn.Sequential(nn.Sequential((Norm if log is not None else nn.Identity)()))

    def forward(self, x):
        out = self.net(x)
        {fill}
        return self.tail(out)


net = Styled().to(device)
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
    log.append(loss.item())
"""

GRAPH = """\
import torch_geometric.transforms as T
from torch_geometric.datasets import Planetoid
from torch_geometric.nn import GCN2Conv
{kernels}

graph = Planetoid("data", "Cora", transform=T.Compose([T.NormalizeFeatures(), T.ToSparseTensor()]))[0].to(device)


class Deep(Net):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([GCN2Conv(4, 0.1) for _ in range(2)])

    def forward(self, x, matrix):
        x = first = super().forward(x)
        for conv in self.convs:
            x = conv(x, first, matrix).relu()
        return x


deep = Deep().to(device)
opt = torch.optim.SGD(deep.parameters(), lr=0.1)
for _ in range(4):
    opt.zero_grad()
    loss = F.cross_entropy(deep(graph.x, graph.adj_t), graph.y)
    loss.backward()
    opt.step()
"""

REFUSED = {
    "a normalization whose weight is filled in from outside": (
        "AMP021",
        NORM.format(weight="None", fill="for m in self.modules():\n            m.weight = out[0]"),
    ),
    "a module of a library that does not work in half precision": (
        "AMP021",
        """\
from torch_geometric.nn import ARGVA, GAE


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = ARGVA(Net(), Net())


pair = Pair().to(device)
for x, y in data:
    opt.zero_grad()
    z = pair.model.encode(x)
    loss = F.cross_entropy(z, y) + pair.model.reg_loss(z)
    loss.backward()
    opt.step()
""",
    ),
    "a module of a library that wants equal dtypes": (
        "AMP021",
        """\
from torch_geometric.nn import HGTConv, Linear

conv = HGTConv(8, 4, metadata, heads=2).to(device)
opt = torch.optim.SGD(conv.parameters(), lr=0.1)
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(conv({"paper": x}, edges)["paper"], y)
    loss.backward()
    opt.step()
""",
    ),
    "a graph of a library in a sparse layout": ("AMP021", GRAPH.format(kernels="")),
    "a sparse matrix that is multiplied in the loop itself": (
        "AMP021",
        """\
matrix = torch.eye(6, device=device).to_sparse()
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(matrix @ model(x), y)
    loss.backward()
    opt.step()
""",
    ),
    "gradients that are clipped before they are averaged": (
        "AMP020",
        """\
import torch.distributed as dist


def average():
    for p in model.parameters():
        dist.all_reduce(p.grad.data, op=dist.ReduceOp.SUM)
        p.grad.data /= dist.get_world_size()


for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    average()
    opt.step()
""",
    ),
    "the largest gradient of all processes": (
        "AMP020",
        """\
import torch.distributed as dist


def average():
    for p in model.parameters():
        dist.all_reduce(p.grad.data, op=dist.ReduceOp.MAX)
        p.grad.data /= dist.get_world_size()


for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    average()
    opt.step()
""",
    ),
    "gradients that are averaged, and clamped": (
        "AMP020",
        """\
import torch.distributed as dist


def average():
    for p in model.parameters():
        dist.all_reduce(p.grad.data, op=dist.ReduceOp.SUM)
        p.grad.data = p.grad.clamp(-1.0, 1.0)


for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    average()
    opt.step()
""",
    ),
    "an optimizer of the file's own that has no groups of parameters": (
        "AMP017",
        """\
class Descent:
    def __init__(self, params, lr):
        self.params, self.lr = list(params), lr

    @torch.no_grad()
    def step(self):
        for p in self.params:
            p -= self.lr * p.grad

    def zero_grad(self):
        for p in self.params:
            p.grad = None


class Wrapped(Net):
    def configure_optimizers(self):
        return Descent(self.parameters(), 0.1)


def fit(module):
    optim = module.configure_optimizers()
    for x, y in data:
        optim.zero_grad()
        F.cross_entropy(module(x), y).backward()
        optim.step()


fit(Wrapped().to(device))
""",
    ),
    "a backward where nothing is recorded: the product with the scale would have no gradient": (
        "AMP017",
        """\
for x, y in data:
    loss = F.cross_entropy(model(x), y)
    opt.zero_grad()
    with torch.no_grad():
        loss.backward()
        opt.step()
""",
    ),
    "a backward in a function that switches gradients off": (
        "AMP017",
        """\
@torch.no_grad()
def update(loss):
    opt.zero_grad()
    loss.backward()
    opt.step()


for x, y in data:
    update(F.cross_entropy(model(x), y))
""",
    ),
    "an optimizer restored before the object that would have the scaler": (
        "AMP017",
        """\
class Trainer:
    def __init__(self, net, optimizer):
        self.net = net
        self.optimizer = optimizer

    def train(self):
        for x, y in data:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.net(x), y)
            loss.backward()
            self.optimizer.step()


def main():
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpoint = torch.load("last.pt")
    optimizer.load_state_dict(checkpoint["optimizer"])
    trainer = Trainer(model, optimizer)
    trainer.train()


main()
""",
    ),
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
    "two objects, each with its optimizer": (
        "AMP017",
        f"""\
{AGENT}

left = Agent()
right = Agent()
for x, y in data:
    loss = F.cross_entropy(left.net(x) + right.net(x), y)
    left.optimizer.zero_grad()
    right.optimizer.zero_grad()
    loss.backward()
    left.optimizer.step()
    right.optimizer.step()
""",
    ),
    "an object that may be None": (
        "AMP017",
        f"""\
{AGENT}

def compute(x, y, net, agent=None):
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    if agent is not None:
        agent.optimizer.step()
        agent.optimizer.zero_grad()


agent = Agent()
for x, y in data:
    compute(x, y, agent.net, agent)
compute(x, y, agent.net)
""",
    ),
    "an object made in a branch": (
        "AMP017",
        f"""\
{AGENT}

agent = None
if len(data) > 2:
    agent = Agent()
for x, y in data:
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    if agent:
        agent.optimizer.step()
""",
    ),
    "a subclass that makes its own optimizer": (
        "AMP017",
        """\
class Base:
    def __init__(self):
        self.net = Net().to(device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)


class Other(Base):
    def __init__(self):
        self.net = Net().to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters())


agent = Other()
for x, y in data:
    loss = F.cross_entropy(agent.net(x), y)
    agent.optimizer.zero_grad()
    loss.backward()
    agent.optimizer.step()
""",
    ),
    "a field of a record that is replaced": (
        "AMP017",
        """\
from typing import NamedTuple


class Pair(NamedTuple):
    net: nn.Module
    opt: torch.optim.Optimizer


pair = Pair(model, opt)
for x, y in data:
    loss = F.cross_entropy(pair.net(x), y)
    pair.opt.zero_grad()
    loss.backward()
    pair.opt.step()
    pair = pair._replace(opt=torch.optim.SGD(model.parameters(), lr=0.01))
    log.append(loss.item())
""",
    ),
    "results of autograd.grad that are logged on their way into .grad": (
        "AMP012",
        """\
for x, y in data:
    loss = F.cross_entropy(model(x), y)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    log.append(sum(g.norm() for g in grads).item())
    for p, g in zip(model.parameters(), grads):
        p.grad = g
    opt.step()
""",
    ),
    "results of autograd.grad added to .grad": (
        "AMP012",
        """\
params = list(model.parameters())
for x, y in data:
    opt.zero_grad()
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), params)
    for p, g in zip(params, grads):
        p.grad = p.grad + g if p.grad is not None else g
    opt.step()
    log.append(params[0].sum().item())
""",
    ),
    "clipping before a function that steps now and then": (
        "AMP017",
        """\
def advance(i, o):
    if i % 2:
        o.step()
        o.zero_grad()


for i, (x, y) in enumerate(data):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    advance(i, opt)
    log.append(loss.item())
""",
    ),
}

CONVERTED = {
    "a normalization with a weight of its own in a container": NORM.format(
        weight="nn.Parameter(torch.ones(4))", fill="out = out * 2"
    ),
    "a checkpoint that is a list": """\
import io

file = io.BytesIO()
for epoch in range(2):
    for x, y in data:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
    file.seek(0)
    torch.save([model.state_dict(), opt.state_dict()], file)
    file.seek(0)
    states = torch.load(file)
    model.load_state_dict(states[0])
    opt.load_state_dict(states[1])
""",
    "transitions that a model has acted for are data": """\
import random
import numpy as np

memory = []


def act(state):
    with torch.no_grad():
        return int(model(torch.FloatTensor(state).unsqueeze(0).to(device)).argmax())


for step in range(12):
    state = np.float32([step] * 8)
    memory.append((state, act(state), 0.1 * step))
    if step < 4:
        continue
    states, actions, rewards = zip(*random.sample(memory, 4))
    states = torch.FloatTensor(np.array(states)).to(device)
    actions = torch.LongTensor(actions).to(device)
    values = model(states).gather(1, actions.unsqueeze(1)).squeeze(1)
    loss = F.mse_loss(values, torch.FloatTensor(rewards).to(device))
    opt.zero_grad()
    loss.backward()
    opt.step()
""",
    "a loss that has a module's name in its own": """\
class Judge(Net):
    def discriminator_loss(self, x, y):
        return F.cross_entropy(self(x), y)


judge = Judge().to(device)
other = torch.optim.SGD(judge.parameters(), lr=0.1)
for x, y in data:
    for _ in range(2):
        other.zero_grad()
        discriminator_loss = judge.discriminator_loss(x, y)
        discriminator_loss.backward()
        other.step()
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
""",
    "a device that a subclass has only after the optimizer": """\
class Base:
    def __init__(self, net, optimizer):
        self.net = net
        self.optimizer = optimizer


class Trainer(Base):
    def __init__(self, net, optimizer, device):
        super().__init__(net, optimizer)
        self.device = device

    def train(self):
        for x, y in data:
            x, y = x.to(self.device), y.to(self.device)
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.net(x), y)
            loss.backward()
            self.optimizer.step()


Trainer(model, opt, device).train()
""",
    "a model that is one of two classes, with a product of its own": """\
class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.weight = nn.Parameter(torch.randn(4, 16))

    def forward(self, x):
        return F.linear(F.relu(self.first(x)), self.weight)


model = Weighted().to(device)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in data:
    loss = F.cross_entropy(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
""",
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
    "an object made anew in a loop": f"""\
{AGENT}

for run in range(2):
    agent = Agent()
    for x, y in data:
        loss = F.cross_entropy(agent.net(x), y)
        agent.optimizer.zero_grad()
        loss.backward()
        agent.optimizer.step()
        log.append(loss.item())
""",
    "an object that has a scaler already": f"""\
{AGENT}

agent = Agent()
agent.scaler = 3.0
for x, y in data:
    loss = F.cross_entropy(agent.net(x / agent.scaler), y)
    agent.optimizer.zero_grad()
    loss.backward()
    agent.optimizer.step()
    log.append(loss.item())
""",
    "a record kept by a trainer": """\
from typing import NamedTuple


class Pair(NamedTuple):
    net: nn.Module
    opt: torch.optim.Optimizer


class Trainer:
    def __init__(self):
        net = Net().to(device)
        self.pair = Pair(net, torch.optim.SGD(net.parameters(), lr=0.1))

    def step(self, x, y):
        loss = F.cross_entropy(self.pair.net(x), y)
        self.pair.opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.pair.net.parameters(), 0.1)
        self.pair.opt.step()
        return loss.item()


trainer = Trainer()
for x, y in data:
    log.append(trainer.step(x, y))
""",
    "results of autograd.grad put into .grad at once": """\
for x, y in data:
    loss = F.cross_entropy(model(x), y)
    params = [p for p in model.parameters()]
    for p, g in zip(params, torch.autograd.grad(loss, params, allow_unused=True)):
        p.grad = g
    opt.step()
    log.append(loss.item())
""",
    "results of autograd.grad of an inline loss": """\
params = list(model.parameters())
for x, y in data:
    grads = torch.autograd.grad(F.cross_entropy(model(x), y), params)
    for p, g in zip(params, grads):
        p.grad = g
    opt.step()
    log.append(params[0].sum().item())
""",
    "clipping for two optimizers that a function steps": """\
opt2 = torch.optim.SGD(model.b.parameters(), lr=0.1)
opt1 = torch.optim.SGD(model.a.parameters(), lr=0.1)


def advance():
    opt1.step()
    opt2.step()


for x, y in data:
    opt1.zero_grad()
    opt2.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    advance()
    log.append(loss.item())
""",
    "a loss of which a part is computed without gradients": """\
class Distance(nn.Module):
    def __init__(self):
        super().__init__()
        self.huber = nn.SmoothL1Loss(reduction="none")

    def forward(self, q, target):
        with torch.no_grad():
            best = target.max(-1, keepdim=True)[0]
            target = target + 0.1 * best
        return self.huber(q, target).mean()


distance = Distance()
for x, y in data:
    q = model(x)
    with torch.no_grad():
        target = model(x).detach()
    loss = distance(q, target)
    opt.zero_grad()
    loss.backward()
    opt.step()
    log.append(loss.item())
""",
    "memories in half precision kept by index": """\
class Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.layers = nn.ModuleList([nn.Linear(16, 16) for _ in range(2)])
        self.head = nn.Linear(16, 4)

    def forward(self, x, memories):
        x = self.encoder(x)
        out = []
        for layer in self.layers:
            out.append(x.detach())
            x = F.relu(layer(x)) + x + memories.mean((1, 2))
        return self.head(x), torch.stack(out, dim=1)


agent = Memory().to(device)
opt = torch.optim.SGD(agent.parameters(), lr=0.1)
memory = torch.zeros((6, 8, 2, 16), device=device)
rows = range(6)
steps = torch.zeros(6, dtype=torch.long, device=device)
for x, y in data:
    with torch.no_grad():
        _, new = agent(x, memory)
        memory[rows, steps] = new
    steps += 1
    opt.zero_grad()
    loss = F.cross_entropy(agent(x, memory)[0], y)
    loss.backward()
    opt.step()
    log.append(loss.item())
""",
    "an optional optimizer that is None for evaluation": """\
def run_epoch(net, batches, optimizer=None):
    for x, y in batches:
        loss = F.cross_entropy(net(x), y)
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        log.append(loss.item())


def evaluate(net):
    with torch.no_grad():
        run_epoch(net, data, None)


run_epoch(model, data, opt)
evaluate(model)
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


def test_data_that_a_model_has_acted_for_is_made_outside_of_autocast():
    after = fix_text(HEAD + CONVERTED["transitions that a model has acted for are data"], Settings())[0]
    region = after.partition("with torch.autocast")[2].splitlines()
    assert [line.strip().partition(" = ")[0] for line in region[1:3]] == ["values", "loss"]


def test_a_loss_of_which_a_part_is_computed_without_gradients_runs_under_autocast():
    after = fix_text(HEAD + CONVERTED["a loss of which a part is computed without gradients"], Settings())[0]
    assert "        loss = distance(q, target)\n" in after


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


COMPRESSED = f"""{HEAD}
one, other = torch.eye(6, device=device).to_sparse_csr(), torch.ones(6, 6, device=device).to_sparse_csr()
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y) + (one @ other).to_dense().mean()
    loss.backward()
    opt.step()
    log.append(loss.item())
"""


def test_a_sparse_matrix_in_a_layout_that_cuda_alone_multiplies_in_half_precision():
    after, left = fix_text(COMPRESSED, Settings())
    assert left == []
    assert 'use_amp = device.type == "cuda"' in after
    assert_same(run(COMPRESSED, "original"), run(after, "off"))
    with pytest.raises(NotImplementedError, match="not implemented for 'Half'"):
        run(after, "full")


ROLLOUT = f"""{HEAD}
values, advantages = torch.zeros(9, device=device), torch.zeros(8, device=device)
for epoch in range(3):
    with torch.no_grad():
        for step, (x, y) in enumerate(data):
            value = model(x).mean()
            values[step] = value
            log.append(step)
        last = model(data[-1][0]).softmax(-1).mean()
        gain = 0
        for step in reversed(range(8)):
            following = last if step == 7 else values[step + 1]
            advantages[step] = gain = y.float().mean() + following - values[step] + 0.9 * gain
    for (x, y), advantage in zip(data, advantages):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y) * advantage
        loss.backward()
        opt.step()
        log.append(loss.item())
"""


def test_a_region_without_gradients_ends_with_the_last_operator_that_autocast_knows():
    after, _ = fix_text(ROLLOUT, Settings(line_length=120))
    lines = [line.strip() for line in after.splitlines()]
    regions = [lines[i + 1] for i, line in enumerate(lines) if line.startswith("with torch.autocast(")]
    assert regions[:2] == ["value = model(x).mean()", "last = model(data[-1][0]).softmax(-1).mean()"]
    assert lines[lines.index(regions[0]) + 1] == "values[step] = value"
    assert "        gain = 0" in after.splitlines()
    assert_same(run(ROLLOUT, "original"), run(after, "off"))
    assert run(after, "full").finite


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


@pytest.mark.parametrize(
    ("imported", "made"),
    [
        ("from transformer.optim import Warmup", "Warmup(opt, 512, 4000)"),
        ("import horovod.torch as hvd", "hvd.DistributedOptimizer(opt, model.named_parameters())"),
    ],
)
def test_a_wrapper_from_another_file_is_named_with_its_line(imported: str, made: str):
    text = f"""{imported}
{HEAD}
opt = {made}
for x, y in data:
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    opt.step()
"""
    after, (refusal,) = fix_text(text, Settings())
    assert after == text
    assert refusal.code == "AMP017"
    line = text.splitlines().index(f"opt = {made}") + 1
    assert f"`{made.partition('(')[0]}` (line {line}) wraps an optimizer" in refusal.message


def test_gradients_that_another_process_is_sent_are_named():
    text = f"""import torch.distributed as dist
{HEAD}
def average(net):
    grads = [p.grad for p in net.parameters()]
    for g in grads:
        dist.all_reduce(g, op=dist.ReduceOp.MAX)


for x, y in data:
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    average(model)
    opt.step()
"""
    after, (refusal,) = fix_text(text, Settings())
    assert after == text
    assert refusal.code == "AMP020"
    assert "`dist.all_reduce` hands gradients to other processes" in refusal.message


def test_a_number_that_another_process_is_sent_is_no_gradient():
    text = f"""import torch.distributed as dist
{HEAD}
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if dist.is_initialized():
        dist.all_reduce(norm)
    log.append(loss.item())
"""
    after, left = fix_text(text, Settings())
    assert "scaler.unscale_(opt)" in after
    assert left == []


def test_code_elsewhere_may_hand_in_objects_without_a_scaler(tmp_path):
    text = f"""{HEAD}
{AGENT}

def improve(agent, x, y):
    agent.optimizer.zero_grad()
    F.cross_entropy(agent.net(x), y).backward()
    agent.optimizer.step()


agent = Agent()
for x, y in data:
    improve(agent, x, y)
"""
    for folder, importing in (("alone", "from play import Net\n"), ("shared", "from play import improve\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pyproject.toml").touch()
        (tmp_path / folder / "play.py").write_text(text)
        (tmp_path / folder / "other.py").write_text(importing)
    assert [d.code for d in check_text(text, Settings(), str(tmp_path / "alone" / "play.py"))] == ["AMP001"]
    (refusal,) = check_text(text, Settings(), str(tmp_path / "shared" / "play.py"))
    assert refusal.code == "AMP017"
    assert "`improve` would rely on a scaler that an object brings along" in refusal.message


def test_a_backend_that_needs_gpus_is_an_accelerator():
    text = """import torch.distributed as dist
import torch.nn.functional as F

dist.init_process_group({backend})

def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
"""
    found = {b: fix_text(text.replace("{backend}", b), Settings())[1][0].code for b in ('"nccl"', '"gloo"')}
    assert found == {'"nccl"': "AMP017", '"gloo"': "AMP018"}


def test_an_optimizer_that_is_only_declared_is_out_of_sight():
    text = f"""{HEAD}
class Settings:
    optimizer: torch.optim.Optimizer

    def step(self, x, y):
        self.optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        self.optimizer.step()

    def run(self):
        for x, y in data:
            self.step(x, y)
"""
    after, (refusal,) = fix_text(text, Settings())
    assert after == text
    assert refusal.code == "AMP017"
    assert "`Settings` only declares `self.optimizer`" in refusal.message


def test_an_optimizer_out_of_an_unknown_pairing_is_out_of_sight():
    text = f"""from pairing import pairs
{HEAD}
for x, y in data:
    for net, solver in pairs(model, [opt]):
        solver.zero_grad()
        F.cross_entropy(net(x), y).backward()
        solver.step()
"""
    after, (refusal,) = fix_text(text, Settings())
    assert after == text
    assert "the place where `solver` is made cannot be seen" in refusal.message


def test_a_function_that_returns_what_it_returns():
    text = """\
import torch
def pick(n):
    return pick(n - 1)
agent = pick(3)
loss = agent.model(torch.ones(1).cuda())
loss.backward()
agent.optimizer.step()
"""
    assert [finding.code for finding in check_text(text, Settings())] == ["AMP017"]


def test_an_optimizer_that_a_function_replaces():
    text = """\
import torch
from torch import nn
model = nn.Linear(2, 1).cuda()
def resume(path):
    global optimizer
    optimizer = torch.load(path)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
resume("last.pt")
for x in torch.ones(4, 3, 2).cuda():
    optimizer.zero_grad()
    model(x).pow(2).mean().backward()
    optimizer.step()
"""
    (finding,) = [d for d in check_text(text, Settings()) if d.code.startswith("AMP0")]
    assert finding.code == "AMP017"
    assert "`resume` sets the optimizer" in finding.message


def test_a_list_of_tensors_that_is_filled_by_index():
    text = """\
import random
import torch
from torch import nn
class Buffer:
    def __init__(self):
        self.data = []
    def swap(self, images):
        for image in images:
            image = torch.unsqueeze(image, 0)
            if len(self.data) < 9:
                self.data.append(image)
            i = random.randint(0, len(self.data) - 1)
            self.data[i] = image
        return torch.cat(self.data)
buffer = Buffer()
model = nn.Linear(2, 1).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x in torch.ones(4, 3, 2).cuda():
    optimizer.zero_grad()
    loss = buffer.swap(model(x)).pow(2).mean()
    loss.backward()
    optimizer.step()
"""
    assert not check_text(fix_text(text, Settings())[0], Settings(select=("AMP021",)))
    assert "AMP021" not in [finding.code for finding in check_text(text, Settings())]


@pytest.mark.parametrize("kernels", ["import torch_sparse", "from torch_geometric.typing import WITH_TORCH_SPARSE"])
def test_a_graph_of_a_library_with_kernels_of_its_own(kernels: str):
    """`torch_sparse` casts the values of a matrix to the dtype of what they are multiplied with."""
    used = f"{kernels}\nassert {kernels.rpartition(' ')[2]}"
    _, left = fix_text(HEAD + GRAPH.format(kernels=used), Settings())
    assert left == []
