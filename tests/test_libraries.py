"""Modules of libraries that float16 breaks: by their import paths, and where the library itself is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampify.engine import Run, check

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
