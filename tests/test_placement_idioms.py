"""Programs that are right: the rules on placement, state and devices (AMP5xx to AMP7xx) say nothing about them."""

from __future__ import annotations

import pytest

from ampify.config import Settings
from ampify.engine import check_text

HEAD = """\
import contextlib
import functools

import torch
from torch import nn

device = "cuda" if torch.cuda.is_available() else "cpu"
model = nn.Linear(4, 2).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cuda", enabled=(dtype == "float16"))
"""

IN_A_VARIABLE = """
kind = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
ctx = contextlib.nullcontext() if device == "cpu" else torch.autocast(device_type=device, dtype=kind)


@torch.no_grad()
def estimate_loss():
    model.eval()
    for split in ("train", "val"):
        losses = torch.zeros(10)
        for k in range(10):
            x, y = get_batch(split)
            with ctx:
                loss = nn.functional.cross_entropy(model(x), y)
            losses[k] = loss.item()
    model.train()


while True:
    for micro_step in range(4):
        with ctx:
            loss = nn.functional.cross_entropy(model(x), y)
            loss = loss / 4
        x, y = get_batch("train")
        scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
"""

AS_A_PARTIAL = """
amp_autocast = functools.partial(torch.autocast, device_type=device, dtype=torch.float16)
for x, y in loader:
    optimizer.zero_grad()
    with amp_autocast():
        loss = nn.functional.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""

IN_A_METHOD = """
class Trainer:
    def context(self):
        return torch.autocast("cuda", enabled=self.amp)

    def step(self, x, y):
        with self.context():
            loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def train(self):
        for x, y in loader:
            optimizer.zero_grad()
            self.step(x, y)
"""

BY_A_FLAG = """
scaler = torch.amp.GradScaler("cuda") if use_amp else None
for x, y in loader:
    optimizer.zero_grad()
    with torch.autocast("cuda", enabled=scaler is not None):
        loss = nn.functional.cross_entropy(model(x), y)
    if scaler is not None:
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    else:
        loss.backward()
        optimizer.step()
"""

OTHER_STEPS = """
from gymnasium import make
from sklearn.preprocessing import StandardScaler

env, features = make("CartPole-v1"), StandardScaler()
with torch.no_grad(), torch.autocast("cuda"), torch.profiler.profile() as profiler:
    for episode in range(10):
        state, _ = env.reset()
        for _ in range(100):
            action = model(torch.as_tensor(features.transform([state]))).argmax().item()
            state, *_ = env.step(action)
        profiler.step()
"""

WITH_AN_AVERAGE = """
ema = torch.optim.swa_utils.AveragedModel(model)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
total = torch.zeros((), device=device)
for x, y in train_loader:
    optimizer.zero_grad()
    with torch.autocast("cuda"):
        loss = nn.functional.cross_entropy(model(x), y)
        ema.update_parameters(model)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    total += loss.detach()
scheduler.step()
with torch.inference_mode(), torch.autocast("cuda"):
    for x, y in test_loader:
        print(nn.functional.cross_entropy(ema(x), y).item())
"""

A_GAN = """
critic = nn.Linear(2, 1).to(device)
other = torch.optim.AdamW(critic.parameters(), lr=1e-3)
for x, y in loader:
    with torch.autocast("cuda"):
        fake = model(x)
        loss = critic(fake.detach()).mean() - critic(y).mean()
    scaler.scale(loss).backward()
    scaler.step(other)
    with torch.autocast("cuda"):
        gain = -critic(fake).mean()
    scaler.scale(gain).backward()
    scaler.step(optimizer)
    scaler.update()
    other.zero_grad()
    optimizer.zero_grad()
"""

WITH_CHECKPOINTS = """
import os

if os.path.exists("last.pt"):
    saved = torch.load("last.pt")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    if saved.get("scaler"):
        scaler.load_state_dict(saved["scaler"])
for x, y in loader:
    optimizer.zero_grad()
    with torch.autocast("cuda"):
        loss = nn.functional.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
torch.save(state, "last.pt")
"""

PROGRAMS = {name: text for name, text in globals().items() if name.isupper() and name not in ("HEAD", "PROGRAMS")}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_what_is_right_is_silent(program: str) -> None:
    assert check_text(HEAD + program, Settings(select=("AMP5", "AMP6", "AMP7"))) == []


@pytest.mark.parametrize("name", ["IN_A_VARIABLE", "AS_A_PARTIAL", "BY_A_FLAG"])
def test_the_same_region_around_the_loop_is_not(name: str) -> None:
    before, _, loop = PROGRAMS[name].rpartition("\nfor " if "\nfor " in PROGRAMS[name] else "\nwhile ")
    region = {"IN_A_VARIABLE": "ctx", "AS_A_PARTIAL": "amp_autocast()"}.get(name, 'torch.autocast("cuda")')
    head = "while " if name == "IN_A_VARIABLE" else "for "
    wrong = f"{before}\nwith {region}:\n    {head}" + loop.replace("\n", "\n    ").rstrip(" ")
    assert [d.code for d in check_text(HEAD + wrong, Settings(select=("AMP506",)))] == ["AMP506"]
