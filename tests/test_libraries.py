"""Modules of libraries that float16 breaks: by their import paths, and where the library itself is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampify.config import Settings
from ampify.engine import Run, check, fix_text

LIBRARY = """\
import torch


class TGNMemory(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = torch.nn.Linear(1, 4)

    def forward(self, t):
        return self.lin(t).cos()
"""
PROGRAM = """\
import torch
from torch_geometric.nn.models.tgn import TGNMemory

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
memory = TGNMemory().to(device)
optimizer = torch.optim.Adam(memory.parameters())
for t in loader:
    optimizer.zero_grad()
    loss = memory(t.to(device)).square().mean()
    loss.backward()
    optimizer.step()
"""


def refused(folder: Path) -> list[tuple[str, str]]:
    found = (d for file in check([folder], Run()).files for d in file.diagnostics)
    return [(d.code, d.message) for d in found if d.code.startswith("AMP0")]


@pytest.mark.parametrize("home", [None, "torch_geometric/nn/models/tgn.py"])
def test_a_module_that_is_known_not_to_work(tmp_path: Path, home: str | None) -> None:
    (tmp_path / "train.py").write_text(PROGRAM, "utf-8")
    if home is not None:
        (tmp_path / home).parent.mkdir(parents=True)
        (tmp_path / home).write_text(LIBRARY, "utf-8")
    [(code, message)] = refused(tmp_path)
    assert code == "AMP021"
    assert "`TGNMemory` puts time stamps through a linear layer" in message


def test_a_known_module_whose_base_class_is_out_of_sight(tmp_path: Path) -> None:
    home = tmp_path / "torch_geometric" / "nn" / "conv.py"
    home.parent.mkdir(parents=True)
    home.write_text(
        "from .base import Passing\n\nclass GraphConv(Passing):\n    def forward(self, x):\n        return x\n", "utf-8"
    )
    (tmp_path / "train.py").write_text(
        """\
import torch
from torch_geometric.nn.conv import GraphConv

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lin = GraphConv(), torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.lin(self.conv(x))

net = Net().cuda()
optimizer = torch.optim.Adam(net.parameters())
for x in loader:
    optimizer.zero_grad()
    loss = net(x.cuda()).square().mean()
    loss.backward()
    optimizer.step()
""",
        "utf-8",
    )
    [(code, message)] = refused(tmp_path)
    assert code == "AMP021"
    assert "`GraphConv` sums over all neighbours" in message


def test_a_class_of_the_same_name_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM.replace("torch_geometric.nn.models.tgn", "tgn"), "utf-8")
    (tmp_path / "tgn.py").write_text(LIBRARY, "utf-8")
    assert [code for code, _ in refused(tmp_path)] == ["AMP001"]


POOLING = """\
import torch
from itertools import product
from torch_geometric.nn import {conv}, global_add_pool

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class First(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv = {conv}(3, size{more})
        self.lin = torch.nn.Linear(size, 2)

    def forward(self, x, edge_index, batch):
        x = self.conv(x, edge_index).relu()
        x = global_add_pool(x, batch)
        return self.lin(x)


nets = [First]
for Net, size in product(nets, [8, 16]):
    model = Net(size).to(device)
    optimizer = torch.optim.Adam(model.parameters())
    for x, edges, batch, y in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x, edges, batch), y)
        loss.backward()
        optimizer.step()
"""


def test_sums_over_graphs_are_made_in_float32() -> None:
    after, left = fix_text(POOLING.format(conv="SAGEConv", more=""), Settings())
    assert left == []
    assert "x = global_add_pool(x.float(), batch)" in after


@pytest.mark.parametrize(("more", "refused"), [("", True), (', aggr="mean"', False), (', aggr="add"', True)])
def test_a_layer_that_adds_up_its_neighbours_or_divides(more: str, refused: bool) -> None:
    text = POOLING.format(conv="GraphConv", more=more)
    after, left = fix_text(text, Settings())
    assert (after == text) == refused
    assert [d.code for d in left] == ["AMP021"] * refused


GRAPHS = """\
import torch
import torch_geometric.transforms as T
from torch_geometric.nn.conv import GCN2Conv
{kernels}

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin, self.conv = torch.nn.Linear(4, 4), GCN2Conv()

    def forward(self, x, matrix):
        return self.conv(self.lin(x), matrix)

data = T.ToSparseTensor()(load())
net = Net().cuda()
optimizer = torch.optim.Adam(net.parameters())
for x in loader:
    optimizer.zero_grad()
    loss = net(x.cuda(), data.adj_t).square().mean()
    loss.backward()
    optimizer.step()
"""
IN_SIGHT = {
    "transforms/__init__.py": "from .to_sparse_tensor import ToSparseTensor\n",
    "transforms/to_sparse_tensor.py": "class ToSparseTensor:\n    def __call__(self, data):\n        return data\n",
    "nn/conv.py": """\
import torch
from torch_geometric.typing import WITH_TORCH_SPARSE

class GCN2Conv(torch.nn.Module):
    def forward(self, x, matrix):
        return torch.sparse.mm(matrix, x) if WITH_TORCH_SPARSE else matrix @ x
""",
    "typing.py": """\
try:
    import torch_sparse

    WITH_TORCH_SPARSE = True
except ImportError:
    WITH_TORCH_SPARSE = False
""",
}


@pytest.mark.parametrize("library", [{}, IN_SIGHT], ids=["out of sight", "in sight"])
@pytest.mark.parametrize(
    ("kernels", "codes"),
    [("", ["AMP021"]), ("from torch_geometric.typing import WITH_TORCH_SPARSE\nassert WITH_TORCH_SPARSE", ["AMP001"])],
)
def test_graphs_in_a_sparse_layout(tmp_path: Path, library: dict[str, str], kernels: str, codes: list[str]) -> None:
    (tmp_path / "train.py").write_text(GRAPHS.format(kernels=kernels), "utf-8")
    for name, text in library.items():
        (tmp_path / "torch_geometric" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "torch_geometric" / name).write_text(text, "utf-8")
    assert [code for code, _ in refused(tmp_path)] == codes
