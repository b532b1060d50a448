"""Small training scripts, their correct conversions, and mistakes people make when they convert by hand; runs nothing.

A mutant says what is wrong and which lines of the conversion change; which level of the ladder or which rule sees it is
measured (`scripts/mutation_matrix.py`). The texts are written with SGD; `Optimizer.spell` puts another in its place.
"""

from __future__ import annotations

from dataclasses import dataclass

Edits = tuple[tuple[str, str], ...]
"""Pairs of a text that occurs exactly once and what takes its place."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer that the scripts are run with."""

    name: str
    arguments: str

    def spell(self, text: str) -> str:
        return text.replace("optim.SGD(", f"optim.{self.name}(").replace(SGD.arguments, self.arguments)


SGD = Optimizer("SGD", "lr=0.05, momentum=0.9")
ADAM = Optimizer("Adam", "lr=0.002")
ADAMW = Optimizer("AdamW", "lr=0.002, weight_decay=0.05")


@dataclass(frozen=True)
class Loop:
    """A script as it was, and as it is when converted without a mistake."""

    name: str
    original: str
    converted: str
    optimizers: tuple[Optimizer, Optimizer] = (SGD, ADAMW)


@dataclass(frozen=True)
class Mutant:
    """A mistake in the conversion of a loop.

    ``setting`` are edits of the original and of the conversion alike; they make the script in which this is a mistake.
    A mistake that shows only when autocast is on has ``precision``, the dtype that it is run in.
    """

    name: str
    loop: Loop
    edits: Edits
    setting: Edits = ()
    precision: str | None = None

    @property
    def original(self) -> str:
        return edited(self.loop.original, self.setting)

    @property
    def text(self) -> str:
        return edited(edited(self.loop.converted, self.setting), self.edits)


def edited(text: str, edits: Edits) -> str:
    """The text after each edit in turn."""
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


HEAD = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
inputs = torch.randn(384, 20)
targets = (inputs @ torch.randn(20, 5)).argmax(1)
loader = DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(20, 32), nn.GELU(), nn.Dropout(0.1), nn.LayerNorm(32), nn.Linear(32, 5)).to(device)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
"""

SCALER = """\
use_amp = device.type == "cuda"
scaler = torch.amp.GradScaler(device.type, enabled=use_amp)
"""

REGION = "    with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):\n"
FORWARD = "        output = model(x)\n        loss = criterion(output, y)\n"
BACKWARD = "    scaler.scale(loss).backward()\n"
UNSCALE = "    scaler.unscale_(optimizer)\n"
CLIP = "    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.3)\n"
STEP = "    scaler.step(optimizer)\n"
UPDATE = "    scaler.update()\n"

SIMPLE = Loop(
    "simple",
    HEAD
    + """\
log = []

for x, y in loader:
    x, y = x.to(device), y.to(device)
    optimizer.zero_grad()
    output = model(x)
    loss = criterion(output, y)
    loss.backward()
    optimizer.step()
    log.append(loss.item())
""",
    HEAD
    + SCALER
    + """\
log = []

for x, y in loader:
    x, y = x.to(device), y.to(device)
    optimizer.zero_grad()
    with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):
        output = model(x)
        loss = criterion(output, y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    log.append(loss.item())
""",
)

CLIPPED = Loop(
    "clip and scheduler",
    HEAD
    + """\
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
log = []

for x, y in loader:
    x, y = x.to(device), y.to(device)
    optimizer.zero_grad()
    output = model(x)
    loss = criterion(output, y)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.3)
    optimizer.step()
    scheduler.step()
    log.append((loss.item(), norm.item()))
""",
    HEAD
    + SCALER
    + """\
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
log = []

for x, y in loader:
    x, y = x.to(device), y.to(device)
    optimizer.zero_grad()
    with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):
        output = model(x)
        loss = criterion(output, y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.3)
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
    log.append((loss.item(), norm.item()))
""",
)

ACCUMULATION = Loop(
    "accumulation and clip",
    HEAD
    + """\
log = []

optimizer.zero_grad()
for i, (x, y) in enumerate(loader):
    x, y = x.to(device), y.to(device)
    output = model(x)
    loss = criterion(output, y) / 2
    loss.backward()
    if (i + 1) % 2 == 0:
        nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        optimizer.step()
        optimizer.zero_grad()
    log.append(2 * loss.item())
""",
    HEAD
    + SCALER
    + """\
log = []

optimizer.zero_grad()
for i, (x, y) in enumerate(loader):
    x, y = x.to(device), y.to(device)
    with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):
        output = model(x)
        loss = criterion(output, y) / 2
    scaler.scale(loss).backward()
    if (i + 1) % 2 == 0:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    log.append(2 * loss.item())
""",
)

GAN_HEAD = """\
import torch
from torch import nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2)).to(device)
discriminator = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1)).to(device)
criterion = nn.BCEWithLogitsLoss()
optimizer_g = torch.optim.SGD(generator.parameters(), lr=0.05, momentum=0.9)
optimizer_d = torch.optim.SGD(discriminator.parameters(), lr=0.05, momentum=0.9)
"""

GAN = Loop(
    "GAN",
    GAN_HEAD
    + """\
real_label = torch.ones(16, 1, device=device)
fake_label = torch.zeros(16, 1, device=device)
log = []

for real in (torch.randn(384, 2) * 0.5 + 1).to(device).split(16):
    noise = torch.randn(16, 8, device=device)

    optimizer_d.zero_grad()
    fake = generator(noise)
    loss_d = criterion(discriminator(real), real_label) + criterion(discriminator(fake.detach()), fake_label)
    loss_d.backward()
    optimizer_d.step()

    optimizer_g.zero_grad()
    loss_g = criterion(discriminator(fake), real_label)
    loss_g.backward()
    nn.utils.clip_grad_norm_(generator.parameters(), 0.2)
    optimizer_g.step()
    log.append((loss_d.item(), loss_g.item()))
""",
    GAN_HEAD
    + SCALER
    + """\
real_label = torch.ones(16, 1, device=device)
fake_label = torch.zeros(16, 1, device=device)
log = []

for real in (torch.randn(384, 2) * 0.5 + 1).to(device).split(16):
    noise = torch.randn(16, 8, device=device)

    optimizer_d.zero_grad()
    with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):
        fake = generator(noise)
        loss_d = criterion(discriminator(real), real_label) + criterion(discriminator(fake.detach()), fake_label)
    scaler.scale(loss_d).backward()
    scaler.step(optimizer_d)

    optimizer_g.zero_grad()
    with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):
        loss_g = criterion(discriminator(fake), real_label)
    scaler.scale(loss_g).backward()
    scaler.unscale_(optimizer_g)
    nn.utils.clip_grad_norm_(generator.parameters(), 0.2)
    scaler.step(optimizer_g)
    scaler.update()
    log.append((loss_d.item(), loss_g.item()))
""",
    optimizers=(SGD, ADAM),
)

PAIR_HEAD = """\
import torch
from torch import nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
first = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8)).to(device)
second = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8)).to(device)
criterion = nn.MSELoss()
optimizer_1 = torch.optim.SGD(first.parameters(), lr=0.05, momentum=0.9)
optimizer_2 = torch.optim.SGD(second.parameters(), lr=0.05, momentum=0.9)
"""

TWO_LOSSES = Loop(
    "two losses",
    PAIR_HEAD
    + """\
inputs = torch.randn(192, 8).to(device)
targets = torch.randn(192, 8).to(device)
log = []

for x, y in zip(inputs.split(8), targets.split(8)):
    optimizer_1.zero_grad()
    optimizer_2.zero_grad()
    a, b = first(x), second(x)
    loss_1 = criterion(0.3 * a + 0.7 * b, y)
    loss_2 = criterion(0.6 * a - 0.4 * b, y)
    loss_1.backward(retain_graph=True)
    loss_2.backward()
    optimizer_1.step()
    optimizer_2.step()
    log.append((loss_1.item(), loss_2.item()))
""",
    PAIR_HEAD
    + SCALER
    + """\
inputs = torch.randn(192, 8).to(device)
targets = torch.randn(192, 8).to(device)
log = []

for x, y in zip(inputs.split(8), targets.split(8)):
    optimizer_1.zero_grad()
    optimizer_2.zero_grad()
    with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):
        a, b = first(x), second(x)
        loss_1 = criterion(0.3 * a + 0.7 * b, y)
        loss_2 = criterion(0.6 * a - 0.4 * b, y)
    scaler.scale(loss_1).backward(retain_graph=True)
    scaler.scale(loss_2).backward()
    scaler.step(optimizer_1)
    scaler.step(optimizer_2)
    scaler.update()
    log.append((loss_1.item(), loss_2.item()))
""",
    optimizers=(SGD, ADAM),
)

PENALTY = Loop(
    "gradient penalty",
    HEAD
    + """\
log = []

for x, y in loader:
    x, y = x.to(device), y.to(device)
    optimizer.zero_grad()
    output = model(x)
    loss = criterion(output, y)
    grads = torch.autograd.grad(loss, model.parameters(), create_graph=True)
    penalty = 0.0
    for grad in grads:
        penalty = penalty + grad.pow(2).sum()
    loss = loss + 0.1 * penalty.sqrt()
    loss.backward()
    optimizer.step()
    log.append(loss.item())
""",
    HEAD
    + SCALER
    + """\
log = []

for x, y in loader:
    x, y = x.to(device), y.to(device)
    optimizer.zero_grad()
    with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):
        output = model(x)
        loss = criterion(output, y)
    grads = torch.autograd.grad(scaler.scale(loss), model.parameters(), create_graph=True)
    inv_scale = 1.0 / scaler.get_scale()
    grads = [g * inv_scale for g in grads]
    penalty = 0.0
    with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):
        for grad in grads:
            penalty = penalty + grad.pow(2).sum()
        loss = loss + 0.1 * penalty.sqrt()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    log.append(loss.item())
""",
    optimizers=(SGD, ADAM),
)

LOOPS = (SIMPLE, CLIPPED, ACCUMULATION, GAN, TWO_LOSSES, PENALTY)

# The same loop with a loss so small that its gradients vanish in float16 (smallest subnormal 6e-8)
TINY_LOSS = (("loss = criterion(output, y)", "loss = criterion(output, y) * 1e-5"),)

# ... with a hook that is not homogeneous in the gradient
CLAMP = "for parameter in model.parameters():\n    parameter.register_hook(lambda grad: grad.clamp(-1e-3, 1e-3))\n"
CLAMP_HOOK = (("log = []\n", f"{CLAMP}log = []\n"),)

# ... and one that clips values
CLIP_VALUE = ((CLIP, "    nn.utils.clip_grad_value_(model.parameters(), 0.01)\n"), ((", norm.item()"), ""))

# ... with the loss written out: autocast on the CPU leaves every operation of it in half
BY_HAND = (
    ("criterion(output, y)", "(output.exp().sum(1).log() - output.gather(1, y.unsqueeze(1)).squeeze(1)).mean()"),
)

# ... and with a factor that is taken out again; float16 ends at 65504
LARGE = (("output = model(x)", "output = 1e6 * model(x)"), ("criterion(output, y)", "criterion(1e-6 * output, y)"))

NO_SCALER = ((SCALER, SCALER.splitlines(keepends=True)[0]), (BACKWARD, "    loss.backward()\n"),
             (STEP + UPDATE, "    optimizer.step()\n"))  # fmt: skip

MUTANTS = (
    # the scaler's own protocol
    Mutant("loss not scaled", SIMPLE, ((BACKWARD, "    loss.backward()\n"),)),
    Mutant("scaled loss thrown away", SIMPLE, ((BACKWARD, "    scaler.scale(loss)\n    loss.backward()\n"),)),
    Mutant("loss scaled twice", SIMPLE, (("scaler.scale(loss)", "scaler.scale(scaler.scale(loss))"),)),
    Mutant("loss multiplied by the scale by hand", SIMPLE, (("scaler.scale(loss)", "(loss * scaler.get_scale())"),)),
    Mutant("fixed loss scale left in", SIMPLE, (("scaler.scale(loss)", "scaler.scale(loss * 128)"),)),
    Mutant("`update` forgotten", SIMPLE, ((UPDATE, ""),)),
    Mutant("`update` twice", SIMPLE, ((UPDATE, UPDATE + UPDATE),)),
    Mutant("`update` before `step`", SIMPLE, ((STEP + UPDATE, UPDATE + STEP),)),
    Mutant("plain `optimizer.step()`", SIMPLE, ((STEP + UPDATE, "    optimizer.step()\n"),)),
    Mutant("plain `optimizer.step()`, with `update`", SIMPLE, ((STEP, "    optimizer.step()\n"),)),
    Mutant("`scaler.step` and `optimizer.step()`", SIMPLE, ((STEP, STEP + "    optimizer.step()\n"),)),
    Mutant("a new scaler for every batch", SIMPLE,
           ((SCALER, SCALER.splitlines(keepends=True)[0]),
            ("    optimizer.zero_grad()\n",
             "    optimizer.zero_grad()\n    scaler = torch.amp.GradScaler(device.type, enabled=use_amp)\n"))),
    Mutant("scaler's state reset for every batch", SIMPLE,
           ((SCALER, SCALER + "state = scaler.state_dict()\n"),
            (UPDATE, UPDATE + "    scaler.load_state_dict(state)\n"))),
    Mutant("`unscale_` after `step`", SIMPLE, ((STEP, STEP + UNSCALE),)),
    # the loss and the gradients elsewhere
    Mutant("scaled loss logged", SIMPLE, ((BACKWARD, "    loss = scaler.scale(loss)\n    loss.backward()\n"),)),
    Mutant("branch on the scaled loss", SIMPLE,
           ((BACKWARD, lines("    scaled = scaler.scale(loss)", "    if scaled.item() > 100:",
                             "        scaled = scaled * 0.5", "    scaled.backward()")),)),
    Mutant("backward twice", SIMPLE, ((BACKWARD, "    loss.backward(retain_graph=True)\n" + BACKWARD),)),
    Mutant("`zero_grad` between backward and step", SIMPLE, ((STEP, "    optimizer.zero_grad()\n" + STEP),)),
    Mutant("`zero_grad` lost", SIMPLE, (("    optimizer.zero_grad()\n", ""),)),
    Mutant("clamping hook sees scaled gradients", SIMPLE, (), setting=CLAMP_HOOK),
    # precision by hand, and where autocast is
    Mutant("model cast to bfloat16 on top", SIMPLE,
           ((SCALER, SCALER + "model.to(torch.bfloat16)\n"), ("model(x)", "model(x.to(torch.bfloat16)).float()"))),
    Mutant("loss cast to half", SIMPLE, (("criterion(output, y)", "criterion(output, y).half()"),)),
    Mutant("inputs cast to half", SIMPLE, (("x.to(device), y", "x.to(device).half(), y"),)),
    Mutant("backward inside autocast", SIMPLE, ((BACKWARD, "    " + BACKWARD),), precision="float16"),
    Mutant("autocast forgotten", SIMPLE, ((REGION, "    if True:\n"),), precision="bfloat16"),
    Mutant("autocast of another device", SIMPLE, (("device_type=device.type", 'device_type="xpu"'),),
           precision="bfloat16"),
    Mutant("autocast around the loss only", SIMPLE, ((REGION + "        output = model(x)\n",
                                                      "    output = model(x)\n" + REGION),), precision="bfloat16"),
    Mutant("autocast left switched off", SIMPLE, (("float16, enabled=use_amp", "float16, enabled=False"),),
           precision="bfloat16"),
    Mutant("one autocast around the whole loop", SIMPLE,
           ((REGION + FORWARD, FORWARD.replace("        ", "    ")),
            ("for x, y in loader:\n", REGION.lstrip() + "  for x, y in loader:\n")), precision="bfloat16"),
    Mutant("cross entropy by hand, in half", SIMPLE, (), setting=BY_HAND, precision="float16"),
    Mutant("intermediate values too large for half", SIMPLE, (), setting=LARGE, precision="float16"),
    Mutant("no scaler", SIMPLE, NO_SCALER, precision="float16"),
    Mutant("no scaler for a tiny loss", SIMPLE, NO_SCALER, setting=TINY_LOSS, precision="float16"),
    # clipping, scheduling
    Mutant("clip of scaled gradients", CLIPPED, ((UNSCALE, ""),)),
    Mutant("`unscale_` after the clip", CLIPPED, ((UNSCALE + CLIP, CLIP + UNSCALE),)),
    Mutant("`unscale_` twice", CLIPPED, ((UNSCALE, UNSCALE + UNSCALE),)),
    Mutant("clip at the norm times the scale", CLIPPED, ((UNSCALE, ""), ("0.3)", "0.3 * scaler.get_scale())"))),
    Mutant("`clip_grad_value_` of scaled gradients", CLIPPED, ((UNSCALE, ""),), setting=CLIP_VALUE),
    Mutant("norm of scaled gradients logged", CLIPPED,
           ((UNSCALE + CLIP, "    norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])\n" + UNSCALE
                             + CLIP.replace("norm = ", "")),)),
    Mutant("clip lost", CLIPPED, ((CLIP, "    norm = loss\n"),)),
    Mutant("clip after the step", CLIPPED, ((CLIP + STEP, STEP + CLIP),)),
    Mutant("gradients divided by hand", CLIPPED,
           ((UNSCALE, "    for p in model.parameters():\n        p.grad.div_(scaler.get_scale())\n"),)),
    Mutant("plain step after `unscale_`", CLIPPED, ((STEP, "    optimizer.step()\n"),)),
    Mutant("infinite gradients zeroed, plain step", CLIPPED,
           ((STEP, lines("    for p in model.parameters():", "        p.grad.nan_to_num_(0.0, 0.0, 0.0)",
                         "    optimizer.step()")),)),
    Mutant("scheduler before the step", CLIPPED, ((STEP + UPDATE + "    scheduler.step()\n",
                                                   "    scheduler.step()\n" + STEP + UPDATE),)),
    Mutant("scheduler lost", CLIPPED, (("    scheduler.step()\n", ""),)),
    Mutant("scheduler twice", CLIPPED, (("    scheduler.step()\n", "    scheduler.step()\n" * 2),)),
    # accumulation
    Mutant("loss divided twice", ACCUMULATION, (("criterion(output, y) / 2", "criterion(output, y) / 2 / 2"),)),
    Mutant("step for every micro-batch", ACCUMULATION, (("    if (i + 1) % 2 == 0:\n", "    if True:\n"),)),
    Mutant("`unscale_` for every micro-batch", ACCUMULATION,
           (("    " + UNSCALE, ""), (BACKWARD, BACKWARD + UNSCALE))),
    Mutant("`zero_grad` for every micro-batch", ACCUMULATION,
           (("    scaler.scale", "    optimizer.zero_grad()\n    scaler.scale"),)),
    Mutant("`update` for every micro-batch", ACCUMULATION,
           (("    " + UPDATE, ""), ("    log.append", UPDATE + "    log.append"))),
    Mutant("scale changed inside the window", ACCUMULATION,
           ((BACKWARD, BACKWARD + "    if (i + 1) % 2 == 1:\n        scaler.update(2 * scaler.get_scale())\n"),)),
    # two optimizers
    Mutant("the other optimizer unscaled", GAN, (("unscale_(optimizer_g)", "unscale_(optimizer_d)"),)),
    Mutant("the other model clipped", GAN, (("clip_grad_norm_(generator", "clip_grad_norm_(discriminator"),)),
    Mutant("discriminator stepped too late", GAN,
           (("    scaler.step(optimizer_d)\n", ""),
            ("    scaler.step(optimizer_g)\n", "    scaler.step(optimizer_g)\n    scaler.step(optimizer_d)\n"))),
    Mutant("generator stepped without scaler", GAN, (("scaler.step(optimizer_g)", "optimizer_g.step()"),)),
    Mutant("generator's loss not scaled", GAN, (("scaler.scale(loss_g)", "loss_g"),)),
    Mutant("one of two losses not scaled", TWO_LOSSES, (("scaler.scale(loss_2)", "loss_2"),)),
    Mutant("`retain_graph` lost", TWO_LOSSES, (("backward(retain_graph=True)", "backward()"),)),
    Mutant("`update` between two steps", TWO_LOSSES,
           (("    scaler.step(optimizer_1)\n", "    scaler.step(optimizer_1)\n    scaler.update()\n"),)),
    Mutant("second optimizer's step lost", TWO_LOSSES, (("    scaler.step(optimizer_2)\n", ""),)),
    # gradient penalty
    Mutant("penalty of scaled gradients", PENALTY, (("    grads = [g * inv_scale for g in grads]\n", ""),)),
    Mutant("penalty's gradients not scaled, yet unscaled", PENALTY, (("grad(scaler.scale(loss),", "grad(loss,"),)),
    Mutant("penalty's backward not scaled", PENALTY, ((BACKWARD, "    loss.backward()\n"),)),
    Mutant("penalty's graph lost", PENALTY, (("create_graph=True", "retain_graph=True"),)),
)  # fmt: skip
