"""Which device decides about mixed precision, and what is written where there may be none."""

from __future__ import annotations

import pytest
from execution import assert_same, run
from test_traps import HEAD

from ampify.config import Settings
from ampify.engine import fix_text

PICKED = 'device = torch.device("cuda" if torch.cuda.is_available() else "cpu")'
LOOP = """\
for x, y in data:
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    log.append(loss.item())
"""
FUNCTION = """\
def train(model, device, opt):
    for x, y in data:
        x, y = x.to(device), y.to(device)
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        log.append(loss.item())


train(model, device, opt)
"""
ACCELERATOR = {
    "alone": "device = torch.accelerator.current_accelerator()",
    "behind a flag that says nothing of the machine": """\
import sys
asked = "--cpu" not in sys.argv
if asked:
    device = torch.accelerator.current_accelerator()
else:
    device = torch.device("cpu")""",
}
ASKED = {
    "a test": """\
if torch.accelerator.is_available():
    device = torch.accelerator.current_accelerator()
else:
    device = torch.device("cpu")""",
    "a name for two tests": """\
import sys
wanted = len(sys.argv) < 99 and torch.accelerator.is_available()
device = torch.accelerator.current_accelerator() if wanted else torch.device("cpu")""",
    "the other branch": """\
import sys
if len(sys.argv) > 99 or not torch.accelerator.is_available():
    device = torch.device("cpu")
else:
    device = torch.accelerator.current_accelerator()""",
}


@pytest.mark.parametrize("rest", [LOOP, FUNCTION])
@pytest.mark.parametrize("how", ACCELERATOR)
def test_a_machine_without_an_accelerator(how: str, rest: str):
    before = HEAD.replace(PICKED, ACCELERATOR[how]) + rest
    after, left = fix_text(before, Settings())
    assert left == []
    assert 'use_amp = device is not None and device.type == "cuda"' in after
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert_same(original, run(after, "scaled"))


@pytest.mark.parametrize("how", ASKED)
def test_a_program_that_asks_for_an_accelerator_first(how: str):
    before = HEAD.replace(PICKED, ASKED[how]) + LOOP
    after, left = fix_text(before, Settings())
    assert left == []
    assert 'use_amp = device.type == "cuda"' in after
    assert_same(run(before, "original"), run(after, "off"))


def test_a_program_that_ends_without_an_accelerator():
    device = "import sys\nif not torch.accelerator.is_available():\n    sys.exit(0)\n" + ACCELERATOR["alone"]
    after, _ = fix_text(HEAD.replace(PICKED, device) + LOOP, Settings())
    assert 'use_amp = device.type == "cuda"' in after
