"""The protocol of a scaler: what is wrong on some path is found there, and idioms that are right stay silent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest

from ampify.config import Settings
from ampify.diagnostic import Severity
from ampify.inspection import Inspection
from ampify.rule import load

CODES = ("AMP202", "AMP204", "AMP206", "AMP210", "AMP303", "AMP401", "AMP501", "AMP601", "AMP602")
RULES = tuple(rule for code, rule in load().items() if code in CODES)
LOOPS = Path(__file__).parents[1] / "fixtures" / "loops"

HEAD = """\
import torch
import torch.nn as nn
from contextlib import nullcontext
from torch.nn.utils import clip_grad_norm_

model = nn.Linear(4, 2).cuda()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
SCALER = 'scaler = torch.amp.GradScaler("cuda")\n'
FORWARD = """\
optimizer.zero_grad()
with torch.autocast("cuda"):
    loss = criterion(model(x), y)
"""


def found(text: str) -> list[tuple[str, str]]:
    """The codes with the lines that they are at."""
    lines = text.splitlines()
    report = Inspection("train.py", Settings(), RULES).look(text)
    return [(d.code, lines[text.count("\n", 0, d.span.start)].strip()) for d in report.diagnostics]


def mended(text: str) -> str:
    report = Inspection("train.py", Settings(), RULES).mend(text)
    assert not [d for d in report.diagnostics if d.code == "AMP904"], report.diagnostics
    return report.after


def loop(body: str, made: str = SCALER) -> str:
    """A script whose loop does ``body`` after a forward under autocast."""
    return HEAD + made + "for i, (x, y) in enumerate(loader):\n" + indent(FORWARD + body, "    ")


SILENT = {
    "as it should be": """\
scaler.scale(loss).backward()
scaler.unscale_(optimizer)
clip_grad_norm_(model.parameters(), 1.0)
scaler.step(optimizer)
scaler.update()
""",
    "accumulation, everything in the branch of the step": """\
scaler.scale(loss / 4).backward()
if (i + 1) % 4 == 0:
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
""",
    "update under the same condition, further down": """\
last = (i + 1) % 4 == 0
scaler.scale(loss / 4).backward()
if last:
    scaler.step(optimizer)
print(loss)
if (i + 1) % 4 == 0:
    scaler.update()
""",
    "the loop goes on early": """\
scaler.scale(loss / 4).backward()
if (i + 1) % 4:
    continue
scaler.step(optimizer)
scaler.update()
""",
    "a bad loss is left out": """\
if not torch.isfinite(loss):
    optimizer.zero_grad()
    continue
scaler.scale(loss).backward()
scaler.step(optimizer)
scaler.update()
""",
    "gradients of a warm-up that no step uses": """\
loss.backward()
optimizer.zero_grad()
scaler.scale(criterion(model(x), y)).backward()
scaler.step(optimizer)
scaler.update()
""",
    "a loss that is scaled before": """\
if i:
    loss = scaler.scale(loss)
loss.backward()
scaler.step(optimizer)
scaler.update()
""",
    "hand-made division before clipping": """\
scaler.scale(loss).backward()
for p in model.parameters():
    p.grad.div_(scaler.get_scale())
clip_grad_norm_(model.parameters(), 1.0)
optimizer.step()
scaler.update()
""",
    "a threshold that knows the scale": """\
scaler.scale(loss).backward()
clip_grad_norm_(model.parameters(), 1.0 * scaler.get_scale())
scaler.step(optimizer)
scaler.update()
""",
    "a helper that cannot be seen": """\
scaler.scale(loss).backward()
prepare(scaler, optimizer)
clip_grad_norm_(model.parameters(), 1.0)
scaler.step(optimizer)
scaler.update()
""",
    "unscaled by a list of optimizers": """\
scaler.scale(loss).backward()
for o in [optimizer]:
    scaler.unscale_(o)
clip_grad_norm_(model.parameters(), 1.0)
for o in [optimizer]:
    scaler.step(o)
scaler.update()
""",
    "both halves in one expression": """\
(scaler.scale(loss) if scaler else loss).backward()
scaler.step(optimizer) if scaler else optimizer.step()
scaler.update()
""",
}

SWITCHED = {
    "a flag": (
        "scaler = torch.amp.GradScaler(enabled=args.amp)\n",
        (
            "if args.amp:\n    scaler.scale(loss).backward()\n    scaler.step(optimizer)\n    scaler.update()\n"
            "else:\n    loss.backward()\n    clip_grad_norm_(model.parameters(), 1.0)\n    optimizer.step()\n"
        ),
    ),
    "perhaps no scaler": (
        "scaler = torch.amp.GradScaler() if args.mode == 1 else None\n",
        (
            "if scaler is not None:\n    scaler.scale(loss).backward()\nelse:\n    loss.backward()\n"
            "if scaler:\n    scaler.unscale_(optimizer)\nclip_grad_norm_(model.parameters(), 1.0)\n"
            "if scaler is None:\n    optimizer.step()\nelse:\n    scaler.step(optimizer)\n    scaler.update()\n"
        ),
    ),
    "a test that says nothing by itself": (
        SCALER,
        (
            "if kind == 'new':\n    scaler.scale(loss).backward()\n    scaler.step(optimizer)\n    scaler.update()\n"
            "else:\n    loss.backward()\n    optimizer.step()\n"
        ),
    ),
    "never enabled": (
        "scaler = torch.amp.GradScaler(enabled=False)\n",
        "loss.backward()\nscaler.step(optimizer)\n",
    ),
    "not a GradScaler": (
        "from sklearn.preprocessing import StandardScaler\nscaler = StandardScaler()\nscaler.fit(data)\n",
        "loss.backward()\nclip_grad_norm_(model.parameters(), 1.0)\noptimizer.step()\n",
    ),
    "hand-made loss scaling": (
        "log_scale = 10\n",
        (
            "(loss * 2**log_scale).backward()\nfor p in model.parameters():\n    p.grad.mul_(1.0 / 2**log_scale)\n"
            "clip_grad_norm_(model.parameters(), 1.0)\noptimizer.step()\n"
        ),
    ),
}

NATIVE = """\
import torch
from torch.nn.utils import clip_grad_norm_


class NativeScaler:
    state_dict_key = "amp_scaler"

    def __init__(self):
        self._scaler = torch.cuda.amp.GradScaler()

    def __call__(self, loss, optimizer, clip_grad=None, parameters=None, create_graph=False, update_grad=True):
        self._scaler.scale(loss).backward(create_graph=create_graph)
        if update_grad:
            if clip_grad is not None:
                assert parameters is not None
                self._scaler.unscale_(optimizer)
                norm = clip_grad_norm_(parameters, clip_grad)
            else:
                self._scaler.unscale_(optimizer)
                norm = get_grad_norm_(parameters)
            self._scaler.step(optimizer)
            self._scaler.update()
        else:
            norm = None
        return norm

    def state_dict(self):
        return self._scaler.state_dict()
"""

GAN = """\
import torch
import torch.nn as nn

G = nn.Linear(2, 4).cuda()
D = nn.Linear(4, 1).cuda()
criterion = nn.BCEWithLogitsLoss()
opt_g = torch.optim.Adam(G.parameters())
opt_d = torch.optim.Adam(D.parameters())
scaler = torch.amp.GradScaler("cuda")
for real in loader:
    opt_d.zero_grad()
    with torch.autocast("cuda"):
        fake = G(torch.randn(8, 2).cuda())
        loss_d = criterion(D(real), ones) + criterion(D(fake.detach()), zeros)
    scaler.scale(loss_d).backward()
    scaler.step(opt_d)
    opt_g.zero_grad()
    with torch.autocast("cuda"):
        loss_g = criterion(D(fake), ones)
    scaler.scale(loss_g).backward()
    scaler.step(opt_g)
    scaler.update()
"""

TEMPERATURE = """\
import torch
import torch.nn as nn

actor = nn.Linear(4, 2).cuda()
log_alpha = torch.zeros(1, requires_grad=True, device="cuda")
actor_opt = torch.optim.Adam(actor.parameters())
alpha_opt = torch.optim.Adam([log_alpha])
scaler = torch.amp.GradScaler("cuda")
for x in loader:
    actor_opt.zero_grad()
    alpha_opt.zero_grad()
    with torch.autocast("cuda"):
        log_prob = actor(x).mean()
        actor_loss = (log_alpha.exp().detach() * log_prob).mean()
    scaler.scale(actor_loss).backward()
    alpha_loss = -(log_alpha * (log_prob + 1.0).detach()).mean()
    alpha_loss.backward()
    scaler.step(actor_opt)
    scaler.update()
    alpha_opt.step()
"""

CONTEXT = (
    HEAD
    + SCALER
    + """\
ctx = nullcontext() if device == "cpu" else torch.amp.autocast(device_type="cuda")
for x, y in loader:
    with ctx:
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
"""
)

INSIDE_FORWARD = """\
import torch
import torch.nn as nn


class Net(nn.Module):
    def forward(self, x):
        with torch.autocast("cuda"):
            return self.layer(x)


def train(model, loader, optimizer, scaler, criterion):
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""

HELPER = (
    HEAD
    + SCALER
    + """\
def clip():
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)


def backward(loss):
    scaler.scale(loss).backward()


for x, y in loader:
    backward(criterion(model(x), y))
    clip()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
"""
)

SPLIT = """\
import torch
from torch.nn.utils import clip_grad_norm_


class Trainer:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
        self.scaler = torch.amp.GradScaler("cuda")

    def backward(self, loss):
        self.scaler.scale(loss).backward()

    def before_step(self):
        self.scaler.unscale_(self.optimizer)
        clip_grad_norm_(self.model.parameters(), 1.0)

    def step(self):
        self.scaler.step(self.optimizer)

    def after_step(self):
        self.scaler.update()
"""

WHOLE = {
    "timm and mae": NATIVE,
    "two optimizers, one update": GAN,
    "an optimizer of its own that is not scaled": TEMPERATURE,
    "autocast in a variable": CONTEXT,
    "autocast in forward": INSIDE_FORWARD,
    "helpers": HELPER,
    "methods that somebody else calls": SPLIT,
    "float32": loop("loss.backward()\noptimizer.step()\n", "").replace('with torch.autocast("cuda"):', "if True:"),
    **{name: loop(body) for name, body in SILENT.items()},
    **{name: loop(body, made) for name, (made, body) in SWITCHED.items()},
}


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_silent(text: str) -> None:
    assert found(text) == []


CLIP = "clip_grad_norm_(model.parameters(), 1.0)"
WRONG = {
    "nothing is scaled": (
        "loss.backward()\nscaler.step(optimizer)\nscaler.update()\n",
        [("AMP202", "loss.backward()")],
    ),
    "one of two is not scaled": (
        (
            "scaler.scale(loss).backward(retain_graph=True)\nother = model(x).mean()\nother.backward()\n"
            "scaler.step(optimizer)\nscaler.update()\n"
        ),
        [("AMP202", "other.backward()")],
    ),
    "a plain step": (
        "scaler.scale(loss).backward()\noptimizer.step()\nscaler.update()\n",
        [("AMP204", "optimizer.step()")],
    ),
    "a plain step of unscaled gradients": (
        "scaler.scale(loss).backward()\nscaler.unscale_(optimizer)\noptimizer.step()\nscaler.update()\n",
        [("AMP204", "optimizer.step()")],
    ),
    "a clip in a branch": (
        f"scaler.scale(loss).backward()\nif args.clip:\n    {CLIP}\nscaler.step(optimizer)\nscaler.update()\n",
        [("AMP206", CLIP)],
    ),
    "unscaled in the other branch only": (
        (
            "scaler.scale(loss).backward()\nif args.log:\n    scaler.unscale_(optimizer)\n"
            f"{CLIP}\nscaler.step(optimizer)\nscaler.update()\n"
        ),
        [("AMP206", CLIP)],
    ),
    "no update at all": (
        "scaler.scale(loss).backward()\nscaler.step(optimizer)\n",
        [("AMP210", "scaler.step(optimizer)")],
    ),
    "an early end without update": (
        "scaler.scale(loss).backward()\nscaler.step(optimizer)\nif args.dry:\n    continue\nscaler.update()\n",
        [("AMP210", "scaler.step(optimizer)")],
    ),
}


@pytest.mark.parametrize(("body", "expected"), WRONG.values(), ids=WRONG)
def test_reported(body: str, expected: list[tuple[str, str]]) -> None:
    assert found(loop(body)) == expected


def test_the_path_is_named() -> None:
    body, _ = WRONG["unscaled in the other branch only"]
    [finding] = Inspection("train.py", Settings(), RULES).look(loop(body)).diagnostics
    assert finding.message.endswith("loss scale, where `args.log` does not hold")


def test_a_clip_per_micro_batch_has_no_fix() -> None:
    text = loop(
        f"scaler.scale(loss / 4).backward()\n{CLIP}\n"
        "if (i + 1) % 4 == 0:\n    scaler.step(optimizer)\n    scaler.update()\n    optimizer.zero_grad()\n"
    ).replace("    optimizer.zero_grad()\n    with", "    with")
    assert found(text) == [("AMP206", CLIP)]
    assert mended(text) == text


def test_the_missing_update_of_a_gan_comes_after_its_last_step() -> None:
    assert mended(GAN.replace("    scaler.update()\n", "")) == GAN


def test_an_iteration_whose_loop_is_not_seen_needs_its_update() -> None:
    whole = SPLIT.replace(
        "    def step(self):\n", "    def whole(self, loss):\n        self.scaler.scale(loss).backward()\n"
    )
    assert found(whole) == [], "somebody may call `after_step`"
    assert found(whole.replace("self.scaler.update()", "pass")) == [("AMP210", "self.scaler.step(self.optimizer)")]


@pytest.mark.parametrize("path", sorted(LOOPS.glob("*.amp.py")), ids=lambda path: path.stem)
def test_converted_loops_are_free_of_findings(path: Path) -> None:
    report = Inspection(str(path), Settings(), RULES).look(path.read_text("utf-8"))
    assert not [d for d in report.diagnostics if d.severity >= Severity.WARNING]


@pytest.mark.parametrize("name", ["c31_scaler_without_scale", "c31_deprecated_names"])
def test_a_forgotten_scale_is_mended_as_a_person_would(name: str) -> None:
    text = (LOOPS / f"{name}.py").read_text("utf-8")
    report = Inspection(f"{name}.py", Settings(), tuple(load().values())).mend(text)
    assert report.after == (LOOPS / f"{name}.amp.py").read_text("utf-8")


MUTATIONS = {
    "unscale": (r"^[ \t]*[\w.]*scaler\.unscale_\(.*\)\n", ""),
    "update": (r"^[ \t]*[\w.]*scaler\.update\(\)\n", ""),
    "scale": (r"[\w.]*scaler\.scale\(([\w.]+)\)\.backward", r"\1.backward"),
    "step": (r"[\w.]*scaler\.step\(([\w.]+)\)", r"\1.step()"),
    "save": (r",\s*[\"']scaler[\"']: [\w.]*scaler\.state_dict\(\)", ""),
    "load": (r"^[ \t]*if \w+\.get\([\"']scaler[\"']\):\n.*\n", ""),
}
NOT_RESTORED = {
    ("unscale", "c04_gradient_loop_first"): "no clipping: the gradients are changed by hand first",
    ("unscale", "c26_read_gradients"): "no clipping: the gradients are only read",
    ("unscale", "c40_nan_guards"): "an iteration ends between clipping and step",
    ("update", "c40_nan_guards"): "the update after `unscale_` of an iteration without a step",
    ("update", "c06b_penalty_helper"): "two optimizers that step in different blocks",
    ("update", "c08_wgan_n_critic"): "two optimizers that step in different blocks",
    ("scale", "c06b_penalty_helper"): "the loss knows the scale already",
    ("scale", "c06_parameter_penalty"): "the loss knows the scale already",
    ("scale", "c06b_input_penalty"): "the loss knows the scale already",
    ("scale", "c20_divided_or_inline"): "one branch with a scaler and one without: that is how it is switched off",
    ("step", "c07_two_optimizers_retain_graph"): "one loss of two does not reach that optimizer",
    ("step", "c07_optimizers_in_records"): "the other optimizer has its scaler, and a part of the step is elsewhere",
    ("update", "c07_optimizers_in_records"): "two optimizers that step in different blocks",
    ("unscale", "c14_rate_wrapper"): "the optimizer is inside of a wrapper",
    ("unscale", "c18_clip_then_step_function"): "the optimizer is stepped in another function",
    ("save", "c16_optimizer_of_agent"): "the optimizer is an attribute of an object",
    ("save", "c15_checkpoint_functions"): "no scaler is passed to the function that saves",
    ("load", "c15_checkpoint_functions"): "no scaler is passed to the function that loads",
    ("scale", "c15_checkpoint_gives_optimizer"): "the optimizer may be another one that a function gave back",
    ("save", "c15_checkpoint_gives_optimizer"): "no scaler is passed to the function that saves",
    ("load", "c15_checkpoint_gives_optimizer"): "no scaler is passed to the function that loads",
}


def mutants() -> Iterator[tuple[str, str, str, str]]:
    for path in sorted(LOOPS.glob("*.amp.py")):
        text = path.read_text("utf-8")
        for mistake, (pattern, instead) in MUTATIONS.items():
            name = path.stem.removesuffix(".amp")
            if (bad := re.sub(pattern, instead, text, flags=re.M)) != text and (mistake, name) not in NOT_RESTORED:
                yield mistake, name, bad, text


@pytest.mark.parametrize(("bad", "good"), [pytest.param(b, g, id=f"{m}:{n}") for m, n, b, g in mutants()])
def test_a_mistake_made_in_a_right_program_is_undone(bad: str, good: str) -> None:
    assert mended(bad) == good
