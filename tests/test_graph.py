"""`ampify steps --output-format dot`: what is understood of a step, in a language that Graphviz reads."""

import json
import re

import pytest
from click.testing import CliRunner

from ampify.cli import main
from ampify.model.find import read
from ampify.syntax.tree import Tree

TRAINER = """import torch
from torch import nn


class Trainer:
    def __init__(self, net):
        self.net = net.cuda()
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = nn.functional.mse_loss(self.net(x), y)
        loss.backward()
        self.optimizer.step()

    def fit(self, loader):
        for x, y in loader:
            self.step(x.cuda(), y.cuda())


def main():
    trainer = Trainer(nn.Linear(1, 1))
    trainer.fit(loader)
"""
SCALED = """import torch
model = torch.nn.Linear(1, 1).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cuda")
for x in [r"C:\\n", "\\""]:
    with torch.autocast("cuda"):
        loss = model(torch.ones(1).cuda()).sum()
    scaler.scale(loss).backward(); print("\\"\\\\")
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
"""

TOKEN = re.compile(r'\s*(?:(?P<id>[A-Za-z_]\w*|"(?:[^"\\]|\\.)*")|(?P<sign>->|[{}\[\];=,]))')


class Dot:
    """A parser of the part of the DOT grammar that a directed graph of clusters needs; raises where it does not fit."""

    def __init__(self, text):
        self.tokens, at = [], 0
        while text[at:].strip():
            match = TOKEN.match(text, at)
            assert match, f"no token at {text[at : at + 20]!r}"
            self.tokens.append(match["id"] or match["sign"])
            at = match.end()
        self.nodes, self.edges, self.clusters = {}, [], {}
        self.take("digraph"), self.take()
        self.statements(self.clusters)
        assert not self.tokens

    def take(self, wanted=None):
        token = self.tokens.pop(0)
        assert wanted in (None, token)
        return token

    def attributes(self):
        found = {}
        if self.tokens[0] == "[":
            self.take("[")
            while self.tokens[0] != "]":
                name = self.take()
                self.take("=")
                found[name] = self.take().strip('"')
                if self.tokens[0] == ",":
                    self.take(",")
            self.take("]")
        return found

    def statements(self, graph):
        self.take("{")
        while self.tokens[0] != "}":
            if self.tokens[0] == "subgraph":
                self.take()
                self.statements(graph.setdefault(self.take(), {}))
            else:
                self.statement(graph)
        self.take("}")

    def statement(self, graph):
        name = self.take()
        if self.tokens[0] == "=":
            self.take("=")
            graph[name] = self.take().strip('"')
        elif self.tokens[0] == "->":
            self.take("->")
            self.edges.append((name, self.take(), self.attributes()["label"]))
        else:
            self.nodes[name] = self.attributes()
        if self.tokens[0] == ";":
            self.take(";")


def run(folder, text, form):
    (folder / "train.py").write_text(text)
    result = CliRunner().invoke(main, ["steps", str(folder), "--output-format", form], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def named(dot):
    """The edges with the labels of their nodes, without the places."""
    labels = {key: node["label"].rpartition("\\n")[0] for key, node in dot.nodes.items()}
    return {(labels[tail], label, labels[head]) for tail, head, label in dot.edges}


def test_the_graph_of_a_trainer(tmp_path):
    dot = Dot(run(tmp_path, TRAINER, "dot"))
    assert [c["label"].rpartition("/")[2] for c in dot.clusters.values() if isinstance(c, dict)] == [
        "train.py:13 Trainer.step(): convert (AMP001)"
    ]
    assert named(dot) == {
        ("function\\nmain()", "does", "call\\ntrainer.fit(loader)"),
        ("call\\ntrainer.fit(loader)", "calls", "function\\nTrainer.fit()"),
        ("function\\nTrainer.fit()", "does", "call\\nself.step(x.cuda(), y.cuda())"),
        ("call\\nself.step(x.cuda(), y.cuda())", "calls", "function\\nTrainer.step()"),
        ("function\\nTrainer.step()", "does", "forward"),
        ("function\\nTrainer.step()", "does", "backward\\nloss.backward()"),
        ("function\\nTrainer.step()", "does", "step\\nself.optimizer.step()"),
        ("model\\nself.net", "runs in", "forward"),
        ("loss", "is differentiated by", "backward\\nloss.backward()"),
        ("optimizer\\nself.optimizer", "steps in", "step\\nself.optimizer.step()"),
    }


def test_a_scaler_takes_part(tmp_path):
    edges = named(Dot(run(tmp_path, SCALED, "dot")))
    assert ("scaler", "unscales", "step\\nscaler.step(optimizer)") in edges
    assert ("optimizer", "is unscaled by", "unscale\\nscaler.unscale_(optimizer)") in edges
    assert [head.partition("\\n")[0] for _, label, head in edges if label == "scales"] == ["backward"]


def test_what_code_says_is_quoted(tmp_path):
    dot = Dot(run(tmp_path, SCALED, "dot"))
    (said,) = (node["label"] for node in dot.nodes.values() if node["label"].startswith("backward"))
    assert said.replace("\\\\", "\\").replace('\\"', '"').split("; ")[1].startswith('print("')
    assert said.endswith("\\n8")


def test_json_has_the_same_graph(tmp_path):
    (step,) = json.loads(run(tmp_path, TRAINER, "json"))
    dot = Dot(run(tmp_path, TRAINER, "dot"))
    assert {f"s0{node['key']}" for node in step["nodes"]} == {*dot.nodes}
    assert len(step["edges"]) == len(dot.edges)
    assert {node["place"] for node in step["nodes"] if node["role"] == "backward"} == {"13"}


@pytest.mark.parametrize("text", ["x = 1", "import torch"])
def test_no_steps_give_an_empty_graph(tmp_path, text):
    dot = Dot(run(tmp_path, text, "dot"))
    assert not dot.nodes


WHOLE = """\
from timm.utils import NativeScaler
from torch import nn, optim

model = nn.Linear(2, 1)
optimizer = optim.SGD(model.parameters(), 0.1)
loss_scaler = NativeScaler()
for x, y in batches:
    loss = nn.functional.mse_loss(model(x), y)
    loss_scaler(loss, optimizer, clip_grad=1.0)
"""


def test_what_one_call_does_is_told_in_one_order():
    steps = (read(Tree(WHOLE)).steps for _ in range(30))
    assert {tuple(type(act).__name__ for step in found for act in step.acts) for found in steps} == {
        ("Backward", "OptimizerStep", "Update")
    }
