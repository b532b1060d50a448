"""AMP002: which loops evaluate a model that is trained under autocast, and what their forward is."""

import textwrap

import pytest

from ampify.config import Settings
from ampify.engine import check_text, fix_text
from ampify.rewrite.erase import erase_text

TRAIN = """\
import torch
from torch import nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = nn.Linear(4, 2).to(device)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
use_amp = device.type == "cuda"
scaler = torch.amp.GradScaler(device.type, enabled=use_amp)
for x, y in loader:
    optimizer.zero_grad()
    with torch.autocast(device.type, dtype=torch.float16, enabled=use_amp):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()

"""
REGION = "with torch.autocast(device.type, dtype=torch.float16, enabled=use_amp):\n"
HITS = "correct = (output.argmax(1) == y).sum()\n"


def evaluated(body: str, head: str = "for x, y in validation:\n", train: str = TRAIN) -> str:
    return train + "with torch.no_grad():\n" + textwrap.indent(head + textwrap.indent(body, "    "), "    ")


def found(text: str) -> int:
    return len(check_text(text, Settings(select=("AMP002",))))


def fixed(text: str) -> str:
    after = fix_text(text, Settings(select=("AMP002",), unsafe_fixes=True, line_length=120))[0]
    assert erase_text(after) == erase_text(text)
    assert fix_text(after, Settings(select=("AMP002",), unsafe_fixes=True, line_length=120))[0] == after
    return after


@pytest.mark.parametrize(
    ("forward", "rest"),
    [
        ("output = model(x)\n", HITS),
        ("output = model(x)\nloss = criterion(output, y)\n", HITS),
        ("output = model(x)\n# the loss\nprint(x)\ntotal += criterion(output, y).item()\n", HITS),
        ("total += nn.functional.cross_entropy(model(x), y)\n", ""),
        ("hits += model(x).argmax(1).eq(y).sum().item()\n", "print(hits)\n"),
        ("output = model(\n    x\n)\n", HITS),
    ],
)
def test_wraps_what_runs_from_the_model_to_the_loss(forward, rest):
    text = evaluated(forward + rest)
    assert found(text) == 1
    assert fixed(text) == evaluated(REGION + textwrap.indent(forward, "    ") + rest)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(evaluated(HITS + "output = other(x)\n"), id="another-model"),
        pytest.param(evaluated("state = model(state)\nhits = state == y\n"), id="fed-again"),
        pytest.param(evaluated("output = model(x)\nprint(output)\n"), id="not-compared"),
        pytest.param(evaluated("output = model(x)\nouts.append(output)\n" + HITS), id="kept-in-a-list"),
        pytest.param(evaluated("output = model(x)\nouts[0] = output\n" + HITS), id="kept-in-an-array"),
        pytest.param(evaluated("output = model(x).cpu().numpy()\nerror = abs(output - y)\n" + HITS), id="numpy"),
        pytest.param(evaluated("output = model(x)\ntorch.save(output, y)\n" + HITS), id="saved"),
        pytest.param(evaluated("output = model(x); " + HITS), id="shared-line"),
        pytest.param(evaluated(REGION + "    output = model(x)\n" + HITS), id="under-autocast"),
        pytest.param(
            evaluated("output = model(x)\n" + HITS).replace("with torch.no_grad()", "with torch.enable_grad()"),
            id="with-gradients",
        ),
        pytest.param(
            evaluated("loss = nn.functional.binary_cross_entropy(model(x), y)\n"), id="loss-that-autocast-forbids"
        ),
        pytest.param(
            evaluated("output = model(x)\n" + HITS, train=TRAIN.replace(REGION.strip(), "if True:")),
            id="trained-without",
        ),
    ],
)
def test_is_silent(text):
    assert found(text) == 0


def in_function(parameters: str, body: str = "output = model(x)\n" + HITS) -> str:
    loop = "for x, y in validation:\n" + textwrap.indent(body, "    ")
    return TRAIN + f"\n@torch.inference_mode()\ndef test({parameters}):\n" + textwrap.indent(loop, "    ") + "\n\n"


@pytest.mark.parametrize(
    ("parameters", "call", "arguments"),
    [
        ("model", "test(model)", "device.type, dtype=torch.float16, enabled=use_amp"),
        ("model, device", "test(model, device)", "device.type, dtype=torch.float16, enabled=use_amp"),
        (
            "model, device, use_amp",
            "test(model, device, False)",
            'device.type, dtype=torch.float16, enabled=device.type == "cuda"',
        ),
    ],
)
def test_function_of_its_own(parameters, call, arguments):
    body = "output = model(x.to(device))\n" + HITS
    after = fixed(in_function(parameters, body) + call + "\n")
    assert f"with torch.autocast({arguments}):\n            output = model(x.to(device))\n" in after


def test_no_fix_where_the_switch_of_the_training_is_out_of_sight():
    train = TRAIN.replace('use_amp = device.type == "cuda"', "use_amp = flags.amp")
    text = in_function("model, use_amp").replace(TRAIN, train) + "test(model, True)\n"
    assert found(text) == 1
    assert fixed(text) == text


def test_called_under_autocast():
    text = in_function("model") + REGION + "    test(model)\n"
    assert found(text) == 0


def test_float32_training_says_nothing_of_its_evaluation():
    assert found(erase_text(evaluated("output = model(x)\n" + HITS))) == 0


def test_is_advice():
    text = evaluated("output = model(x)\n" + HITS)
    (finding,) = check_text(text, Settings(select=("AMP002",)))
    assert finding.severity.name == "INFO"
