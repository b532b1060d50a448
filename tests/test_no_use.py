"""Steps that are left alone because autocast would have nothing to do in them, or because they do not run any more."""

from __future__ import annotations

import pytest
from test_traps import HEAD

from ampify.config import Settings
from ampify.engine import check_text, fix_text

EMBEDDINGS = """\
import torch
from torch import nn
from torch.nn import functional as F

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Pairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(9, 4), nn.Embedding(9, 4)
        {layer}

    def forward(self, user, item):
        {compute}


model = Pairs().to(device)
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(3):
    user, item = torch.randint(9, (2, 6), device=device)
    opt.zero_grad()
    loss = F.softplus(-model(user, item)).mean()
    loss.backward()
    opt.step()
"""
PRODUCT = "return (self.users(user) * self.items(item)).sum(-1)"
LIBRARY = """\
import torch
from torch_geometric.nn import {name}

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = {name}(data.edge_index, embedding_dim=64).to(device)
loader = model.loader(batch_size=128)
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for positive, negative in loader:
    opt.zero_grad()
    loss = model.loss(positive.to(device), negative.to(device))
    loss.backward()
    opt.step()
"""


def refusals(text: str) -> list[tuple[str, str]]:
    return [(d.code, d.message) for d in check_text(text, Settings()) if d.code.startswith("AMP0")]


@pytest.mark.parametrize("layer", ["pass", "self.drop = nn.Dropout(0.1)", "self.norm = nn.BatchNorm1d(4)"])
def test_embeddings_and_products_by_element(layer: str):
    ((code, message),) = refusals(EMBEDDINGS.format(layer=layer, compute=PRODUCT))
    assert code == "AMP017"
    assert "nothing of it in half precision" in message


@pytest.mark.parametrize(
    ("layer", "compute"),
    [
        ("self.tail = nn.Linear(4, 1)", "return self.tail(self.users(user) * self.items(item))"),
        ("pass", "return (self.users(user) @ self.items(item).T).diagonal()"),
        ("pass", "return torch.einsum('bi,bi->b', self.users(user), self.items(item))"),
        ("pass", "return self.users(user)[:, None].matmul(self.items(item)[:, :, None]).squeeze()"),
        ("pass", "return F.bilinear(self.users(user), self.items(item), torch.ones(1, 4, 4, device=device))"),
    ],
)
def test_a_product_of_matrices_is_worth_it(layer: str, compute: str):
    text = EMBEDDINGS.format(layer=layer, compute=compute)
    assert [code for code, _ in refusals(text)] == ["AMP001"]


def test_a_model_of_a_library_that_looks_up_and_adds():
    assert [code for code, _ in refusals(LIBRARY.format(name="Node2Vec"))] == ["AMP017"]
    assert [code for code, _ in refusals(LIBRARY.format(name="GraphSAGE"))] == ["AMP001"]


@pytest.mark.parametrize(("body", "code"), [("mixed(x)", "AMP001"), ("x.relu()", "AMP017")])
def test_a_function_of_a_library_in_a_forward_may_multiply(body: str, code: str):
    text = f"""\
import torch
from blocks import Base
from blocks.ops import mixed

class Block(Base):
    def forward(self, x):
        return {body}

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        return self.block(x)

model = Net().cuda()
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for x in batches:
    opt.zero_grad()
    loss = model(x.cuda()).mean()
    loss.backward()
    opt.step()
"""
    assert [found for found, _ in refusals(text)] == [code]


def test_a_product_of_matrices_that_only_ranks_the_results():
    ranks = "\n\n@torch.no_grad()\ndef ranks(users, items):\n    return (users @ items.T).topk(3)\n"
    text = EMBEDDINGS.format(layer="pass", compute=PRODUCT) + ranks
    assert [code for code, _ in refusals(text)] == ["AMP017"]


@pytest.mark.parametrize(("name", "code"), [("ComplEx", "AMP017"), ("GraphSAGE", "AMP001")])
def test_a_model_out_of_a_table(name: str, code: str):
    table = f"import TransE, {name}\nmodels = {{'one': TransE, 'two': {name}}}\n"
    text = LIBRARY.format(name="TransE").replace("import TransE\n", table).replace("= TransE(", "= models[kind](")
    assert [found for found, _ in refusals(text)] == [code]


OLD = """\
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    log.append({})
"""


@pytest.mark.parametrize("number", ["loss.data[0]", "(loss + loss * 2).data[0]"])
def test_a_number_that_is_taken_out_as_no_torch_allows(number: str):
    before = HEAD + OLD.format(number)
    assert fix_text(before, Settings())[0] == before
    ((code, message),) = refusals(before)
    assert code == "AMP017"
    assert "without dimensions" in message
    with pytest.raises(IndexError, match="0-dim"):
        exec(before, {"__name__": "old"})


def test_a_number_of_what_a_function_returns():
    text = f"""{HEAD}
def learn(x, y):
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    return loss


for x, y in data:
    loss = learn(x, y)
    log.append(loss.data[0])
"""
    assert [code for code, _ in refusals(text)] == ["AMP017"]


@pytest.mark.parametrize("number", ["model(x).max(1)[1].data[0].item()", "y.data[0].item()", "loss.data.item()"])
def test_an_element_of_a_vector_is_one(number: str):
    assert [code for code, _ in refusals(HEAD + OLD.format(number))] == ["AMP001"]


def test_a_library_that_goes_with_no_torch_of_today():
    text = f"from torchtext.legacy import data as texts\n{HEAD}field = texts.Field()\n{OLD.format('loss.item()')}"
    ((code, message),) = refusals(text)
    assert code == "AMP017"
    assert "`torchtext.legacy" in message


def test_a_part_of_what_a_loss_of_the_project_returns():
    text = f"""{HEAD}
class Both(nn.Module):
    def forward(self, out, y):
        near, far = F.cross_entropy(out, y), out.pow(2).mean()
        near /= 2
        return near, far


criterion = Both()
for x, y in data:
    opt.zero_grad()
    near, far = criterion(model(x), y)
    loss = near + far
    loss.backward()
    opt.step()
    log.append({{}})
"""
    assert [code for code, _ in refusals(text.format("near.data[0]"))] == ["AMP017"]
    assert [code for code, _ in refusals(text.format("near.item()"))] == ["AMP001"]
