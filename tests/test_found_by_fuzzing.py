"""What `scripts/fuzz.py` has found, cut down: programs that no one would write, and that ampify must get right."""

from __future__ import annotations

from textwrap import indent

import pytest

from ampify.config import Settings
from ampify.engine import fix_text

LOOP = """\
model = nn.Linear(4, 3).cuda()
optimizer = optim.SGD(model.parameters(), lr=0.1)
for x, y in [(0, 0)]:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x.cuda()), y.cuda())
    loss.backward()
    optimizer.step()
"""
IMPORTS = "from torch import nn, optim\n"
LOCAL = "def f():\n    import torch\n    torch.manual_seed(0)\n"
SCALED = "def f(loss):\n    scaler.scale(loss).backward()\n"
LOWERED = "def f(x):\n    with torch.autocast('cuda'):\n        return model(x)\n"
FUNCTION = f"def train():\n{indent(LOOP, '    ')}    global scaler\n"
CONVERTED = {
    "torch is used, and imported nowhere": f"{IMPORTS}torch.manual_seed(0)\n{LOOP}",
    "torch is used, and imported elsewhere": f"{IMPORTS}{LOCAL}torch.rand(3)\n{LOOP}",
    "something else acts as a scaler, and is made nowhere": f"import torch\n{IMPORTS}{SCALED}{LOOP}",
    "what is AMP once torch is imported": f"{IMPORTS}{LOWERED}{LOOP}",
    "the name is declared to be global, and is not there": f"import torch\n{IMPORTS}{FUNCTION}",
}


@pytest.mark.parametrize("name", CONVERTED)
def test_it_is_converted_and_proved(name: str):
    after, left = fix_text(CONVERTED[name], Settings())
    assert after != CONVERTED[name]
    compile(after, "train.py", "exec")
    assert "AMP904" not in {finding.code for finding in left}
    assert fix_text(after, Settings())[0] == after
