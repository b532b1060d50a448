"""Products that half precision has no kernel or no room for, and the subregions in float32 that they get."""

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
data = [(torch.randn(6, 8, device=device), torch.randint(0, 4, (6,), device=device)) for _ in range(6)]
matrix = torch.eye(6, device=device).to_sparse()
"""

LOOP = """\
model = Graph().to(device)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x, matrix), y)
    loss.backward()
    opt.step()
    log.append(loss.item())
"""

GRAPH = f"""\
{HEAD}

class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(8, 4)

    def forward(self, x, adj):
        h = self.lin(x)
        @@


{LOOP}"""


def program(*lines: str) -> str:
    return GRAPH.replace("@@", "\n        ".join(lines))


OFF = "        with torch.autocast(device_type=h.device.type, enabled=False):\n            "

CONVERTED = {
    "an operator": (program("return adj @ h"), f"{OFF}return adj @ h.float()\n"),
    "a function of torch.sparse": (
        program("return torch.sparse.mm(adj, h) + 1.0"),
        f"{OFF}return torch.sparse.mm(adj, h.float()) + 1.0\n",
    ),
    "a name on several lines": (
        program("out = torch.spmm(", "    adj,", "    h,", ")", "return out.relu()"),
        f"{OFF}out = torch.spmm(\n                adj,\n                h.float(),\n            )\n",
    ),
    "the inverse of a matrix": (
        program("g = torch.inverse(h.t()[:, :4])", "return h + g.mean()"),
        None,
    ),
    "a tensor with itself": (
        program("g = h @ h.t()", "return h + g.mean()"),
        f"{OFF}g = h.float() @ h.t().float()\n",
    ),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_a_product_runs_in_float32(name: str):
    before, expected = CONVERTED[name]
    after, left = fix_text(before, Settings())
    if expected is None:
        assert after == before
        return
    assert left == []
    assert expected in after
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert_same(original, run(after, "scaled"))
    assert run(after, "full").finite


REFUSED = {
    "beside a layer in one statement": program("return adj @ h + self.lin(x)"),
    "of what is multiplied in the same statement": program("return adj @ torch.mm(x, self.lin.weight.t())"),
    "on a line with something else": program("g = adj @ h; return g"),
    "in a function without a name": program("spread = lambda t: adj @ t", "return spread(h)"),
    "in a program that is scripted": program("return adj @ h").replace("Graph().to", "torch.jit.script(Graph()).to"),
    "in an augmented assignment": program("h += adj @ h", "return h"),
    "beside a power": program("return adj @ h + h ** 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_product_is_refused(name: str):
    text, left = fix_text(REFUSED[name], Settings())
    assert text == REFUSED[name]
    assert [d.code for d in left] == ["AMP021"]


def test_nothing_is_left_for_half_precision():
    text = program("return torch.mm(adj, h)").replace("self.lin = nn.Linear(8, 4)", "self.lin = nn.Embedding(8, 4)")
    text = text.replace("self.lin(x)", "self.lin(x.long().abs().clamp(max=7)[:, 0])")
    after, left = fix_text(text, Settings())
    assert after == text
    assert [d.code for d in left] == ["AMP017"]


SPARSE_INPUTS = f"""\
{HEAD}

class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 4))

    def forward(self, x, adj):
        h = torch.mm(x, self.weight)
        return torch.spmm(adj, h)


def load():
    return data[0][0].to_sparse(), data[0][1], matrix


model = Graph().to(device)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
x, y, adj = load()
inputs = (x, adj)
for _ in range(3):
    opt.zero_grad()
    loss = F.cross_entropy(model(*inputs), y)
    loss.backward()
    opt.step()
"""


def test_sparse_inputs_are_followed_through_tuples_and_stars():
    after, left = fix_text(SPARSE_INPUTS, Settings())
    assert after == SPARSE_INPUTS
    assert [d.code for d in left] == ["AMP017"]  # all that autocast would lower has no kernel


DEEP = program(*["h = F.relu(self.lin(x) + h)"] * 150, "g = h.t() @ h", "return h + g.mean()")


def test_a_forward_of_many_statements_is_followed_to_its_end():
    after, left = fix_text(DEEP, Settings())
    assert left == []
    assert f"{OFF}g = h.t().float() @ h.float()\n" in after
