"""Mistakes that people made when they brought mixed precision to well-known projects: each is found where it stands.

The programs are ours; they have the shape of the mistake and nothing else of the project.
"""

from __future__ import annotations

import pytest

from ampify.config import Settings
from ampify.engine import check_text

CLIPPED_IN_ONE_BRANCH = """\
class Trainer:
    def __init__(self, config, model, optimizer):
        self.config, self.optimizer = config, optimizer
        self.model = nn.parallel.DistributedDataParallel(model)
        if config.use_amp:
            self.scaler = torch.cuda.amp.GradScaler()

    def _run_batch(self, x, y):
        with torch.autocast("cuda", enabled=self.config.use_amp):
            _, loss = self.model(x, y)
        self.optimizer.zero_grad(set_to_none=True)
        if self.config.use_amp:
            self.scaler.scale(loss).backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.limit)  # AMP206
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.limit)
            self.optimizer.step()

    def train(self, loader):
        for x, y in loader:
            self._run_batch(x, y)
"""
SCALER_OF_AN_EPOCH = """\
class Trainer:
    def __init__(self, model, loader):
        self.model, self.loader = model.cuda(), loader
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def _train_epoch(self, epoch):
        scaler = torch.cuda.amp.GradScaler()  # AMP214
        for x, y in self.loader:
            self.optimizer.zero_grad()
            with torch.autocast("cuda"):
                loss = F.nll_loss(self.model(x), y)
            scaler.scale(loss).backward()
            scaler.step(self.optimizer)
            scaler.update()

    def train(self):
        for epoch in range(9):
            self._train_epoch(epoch)


Trainer(nn.Linear(4, 2), []).train()
"""
STATE_WITHOUT_SCALER = """\
def run(config, loader):
    model, criterion = nn.Linear(4, 2).cuda(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.cuda.amp.GradScaler(enabled=config.with_amp)
    for x, y in loader:
        optimizer.zero_grad()
        with torch.autocast("cuda", enabled=config.with_amp):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}  # AMP601
        torch.save(state, "last.pt")
"""
BACKWARD_IN_REGION = """\
class Trainer:
    def __init__(self, model, data):
        self.model, self.data, self.every = model, data, 2
        self.opt = torch.optim.Adam(model.parameters())
        self.scaler = torch.cuda.amp.GradScaler(enabled=True)

    def train(self):
        for step in range(100):
            for i in range(self.every):
                x = next(self.data).cuda()
                with torch.autocast("cuda"):
                    loss = self.model(x).square().mean()
                    self.scaler.scale(loss / self.every).backward()  # AMP501
            self.scaler.step(self.opt)
            self.scaler.update()
            self.opt.zero_grad()
"""
UNSCALED_PENALTY = """\
def penalty(images, outputs):
    grads = torch.autograd.grad(outputs.sum(), images, create_graph=True)[0]  # AMP227
    return grads.square().sum(dim=2).mean(dim=1).sqrt()


def train(net, loader):
    optimizer, scaler = torch.optim.Adam(net.parameters()), torch.amp.GradScaler("cuda")
    for x in loader:
        optimizer.zero_grad()
        x.requires_grad_()
        with torch.autocast("cuda"):
            out = net(x)
            loss = out.mean() + penalty(x, out).mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""
UNSCALED_AT_EACH_MICRO_STEP = """\
def train_one_epoch(config, model, criterion, loader, optimizer, scaler):
    for i, (x, y) in enumerate(loader):
        with torch.autocast("cuda"):
            loss = criterion(model(x), y) / config.steps
        scaler.scale(loss).backward()
        if config.limit:
            scaler.unscale_(optimizer)  # AMP208
            nn.utils.clip_grad_norm_(model.parameters(), config.limit)
        if (i + 1) % config.steps == 0:
            scaler.step(optimizer)
            optimizer.zero_grad()
            scaler.update()


def main(config, loader):
    model = nn.Linear(4, 2).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_one_epoch(config, model, nn.CrossEntropyLoss(), loader, optimizer, torch.amp.GradScaler("cuda"))
"""
NO_REGION_ANYWHERE = """\
class Narrow(nn.Linear):
    pass


class Wide(nn.Linear):
    pass


def build(config):
    if config.TYPE == "wide":
        net = Wide(4, 2)
    elif config.TYPE == "narrow":
        net = Narrow(4, 2)
    else:
        raise NotImplementedError(config.TYPE)
    return net


def train_one_epoch(model, criterion, loader, optimizer, scaler):
    for x, y in loader:
        outputs = model(x)
        loss = criterion(outputs, y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()  # AMP504
        scaler.step(optimizer)
        scaler.update()


def main(config, loader):
    model = build(config)
    model.cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    model = nn.parallel.DistributedDataParallel(model)
    train_one_epoch(model, nn.CrossEntropyLoss(), loader, optimizer, torch.amp.GradScaler("cuda"))
"""
ON_FOR_BFLOAT16 = """\
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--fp16", action="store_true")
parser.add_argument("--bf16", action="store_true")
opt = parser.parse_args()
fp16 = opt.fp16
bf16 = opt.bf16
if fp16:
    half = torch.float16
elif bf16:
    half = torch.bfloat16


def train(model, criterion, optimizer, scaler, loaders):
    for phase in ["train", "val"]:
        for x, y in loaders[phase]:
            optimizer.zero_grad()
            if opt.bf16 or opt.fp16:
                with torch.autocast("cuda", dtype=half):
                    loss = criterion(model(x), y)
            else:
                loss = criterion(model(x), y)
            if phase == "train":
                if bf16 or fp16:
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
                else:
                    loss.backward()
                    optimizer.step()


model = nn.Linear(4, 2).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cuda")  # AMP218
train(model, nn.CrossEntropyLoss(), optimizer, scaler, {})
"""
STAND_IN = """\
try:
    from torch.cuda.amp import GradScaler
except:

    class GradScaler:
        def __init__(self):
            pass

        def scale(self, loss):
            return loss

        def unscale_(self, optimizer):
            pass

        def step(self, optimizer):
            optimizer.step()

        def update(self):
            pass


def train(args, model, loader, optimizer):
    scaler = GradScaler(enabled=args.mixed_precision)  # AMP233
    for x, y in loader:
        optimizer.zero_grad()
        loss = (model(x) - y).abs().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
"""
NOT_BOUND = """\
try:
    from apex import amp

    has_apex = True
except ImportError:
    has_apex = False


def main(args, loader):
    assert args.rank >= 0
    model = nn.Linear(4, 2).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    use_amp = False
    if has_apex and args.amp:
        model, optimizer = amp.initialize(model, optimizer, opt_level="O1")
        use_amp = True
    elif args.amp:
        scaler = torch.cuda.amp.GradScaler()
        use_amp = True
    if args.evaluate:
        return
    try:
        for epoch in range(9):
            if args.distributed:
                loader.sampler.set_epoch(epoch)
            train_epoch(model, loader, optimizer, use_amp, scaler=scaler)  # AMP232
    except KeyboardInterrupt:
        pass


def train_epoch(model, loader, optimizer, use_amp=False, scaler=None):
    for x in loader:
        loss = model(x).mean()
        optimizer.zero_grad()
        if use_amp and not has_apex:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
"""

MISTAKES = {
    "pytorch/examples 8351740174": CLIPPED_IN_ONE_BRANCH,
    "victoresque/pytorch-template eae16a9532": SCALER_OF_AN_EPOCH,
    "pytorch/ignite 90a753c9d4": STATE_WITHOUT_SCALER,
    "lucidrains/denoising-diffusion-pytorch 0b8cdb4c8b": BACKWARD_IN_REGION,
    "lucidrains/stylegan2-pytorch 46e24a2abc": UNSCALED_PENALTY,
    "microsoft/Swin-Transformer, fine-tuning, clip": UNSCALED_AT_EACH_MICRO_STEP,
    "microsoft/Swin-Transformer, fine-tuning, region": NO_REGION_ANYWHERE,
    "layumi/Person_reID_baseline_pytorch 54bcdc77f2": ON_FOR_BFLOAT16,
    "princeton-vl/RAFT a2408eab78": STAND_IN,
    "huggingface/pytorch-image-models d98967ed5d": NOT_BOUND,
}
IMPORTS = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n\n"


def found(program: str, code: str) -> list[int]:
    """The lines, from 1, with a finding."""
    text = IMPORTS + program
    shown = (d for d in check_text(text, Settings()) if d.code == code)
    return sorted(text.count("\n", 0, d.span.start) + 1 for d in shown)


@pytest.mark.parametrize("program", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_where_it_stands(program: str):
    lines = (IMPORTS + program).split("\n")
    marked = {number: line.rpartition("# ")[2] for number, line in enumerate(lines, 1) if "# AMP" in line}
    assert len(marked) == 1
    for line, code in marked.items():
        assert found(program, code) == [line]


PUT_RIGHT = {
    "unscaled first": (
        CLIPPED_IN_ONE_BRANCH,
        "AMP206",
        "            nn.utils.clip",
        "            self.scaler.unscale_(self.optimizer)\n            nn.utils.clip",
    ),
    "a region in the model": (
        NO_REGION_ANYWHERE,
        "AMP504",
        "class Wide(nn.Linear):\n    pass",
        "class Wide(nn.Linear):\n    @torch.autocast('cuda')\n    def forward(self, x):\n        return x",
    ),
    "an unknown model": (
        NO_REGION_ANYWHERE,
        "AMP504",
        "        raise NotImplementedError(config.TYPE)",
        "        net = config.make()",
    ),
    "a scaler that follows the dtype": (
        ON_FOR_BFLOAT16,
        "AMP218",
        'GradScaler("cuda")',
        'GradScaler("cuda", enabled=fp16)',
    ),
    "scaled only in float16": (
        ON_FOR_BFLOAT16,
        "AMP218",
        "if bf16 or fp16:\n                    scaler",
        "if fp16:\n                    scaler",
    ),
    "a scaler of which not all is said": (ON_FOR_BFLOAT16, "AMP218", '("cuda")  # AMP218', '("cuda", **vars(opt))'),
    "a region for float16 alone": (
        ON_FOR_BFLOAT16,
        "AMP218",
        "if opt.bf16 or opt.fp16:\n                with",
        "if opt.fp16:\n                with",
    ),
    "a bfloat16 that is left": (
        ON_FOR_BFLOAT16,
        "AMP218",
        "            optimizer.zero_grad()",
        "            if opt.bf16:\n                continue\n            optimizer.zero_grad()",
    ),
    "an unknown dtype": (ON_FOR_BFLOAT16, "AMP218", "half = torch.bfloat16", "half = getattr(torch, opt.dtype)"),
    "a stand-in that takes it": (STAND_IN, "AMP233", "__init__(self)", "__init__(self, enabled=True)"),
    "called without": (STAND_IN, "AMP233", "GradScaler(enabled=args.mixed_precision)", "GradScaler()"),
    "only where there is one": (STAND_IN, "AMP233", "GradScaler(enabled", "args.amp and GradScaler(enabled"),
    "bound before": (NOT_BOUND, "AMP232", "use_amp = False", "use_amp, scaler = False, None"),
    "bound on the other paths": (
        NOT_BOUND,
        "AMP232",
        "        use_amp = True\n    elif args.amp:",
        "        use_amp, scaler = True, None\n    elif not args.amp:\n        scaler = None\n    else:",
    ),
    "left on the other paths": (
        NOT_BOUND,
        "AMP232",
        "        use_amp = True\n    elif args.amp:",
        "        raise SystemExit\n    elif not args.amp:\n        return\n    else:",
    ),
    "used where it is on": (NOT_BOUND, "AMP232", "            train_epoch(", "            use_amp and train_epoch("),
    "waited for": (NOT_BOUND, "AMP232", "except KeyboardInterrupt", "except NameError"),
}


@pytest.mark.parametrize(("program", "code", "wrong", "right"), PUT_RIGHT.values(), ids=PUT_RIGHT)
def test_put_right_it_is_silent(program: str, code: str, wrong: str, right: str):
    assert wrong in program
    assert found(program, code)
    assert not found(program.replace(wrong, right), code)
