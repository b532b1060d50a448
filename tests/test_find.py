"""Every training step is found, also those that are left alone: their backward is another object's than the loss."""

from __future__ import annotations

from pathlib import Path

import pytest

from ampify.config import Settings
from ampify.engine import Mode, Run, check, check_text, fix_text, steps
from ampify.listing import StepReport

HEAD = """\
import torch
import torch.nn.functional as F
from torch import nn

device = torch.device("cuda")
net = nn.Linear(4, 2).to(device)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
"""
LOOP = """\
for x, y in loader:
    opt.zero_grad()
    loss = F.cross_entropy(net(x), y)
    {}
    opt.step()
"""
ACCELERATE = 'mixed precision is the business of Accelerate here; `Accelerator(mixed_precision="fp16")` switches it on'
NOBODYS = "is no backward of PyTorch, and what it does to the gradients besides cannot be seen here"

ATTRIBUTE = """\
class Trainer:
    def __init__(self):
        self.a = Accelerator()
"""
MADE = {
    "name": "accelerator = Accelerator()\n" + LOOP.format("accelerator.backward(loss)"),
    "attribute": f"{ATTRIBUTE}    def fit(self):\n        self.a.backward(net(1).sum())\n        opt.step()\n",
    "annotated": "def fit(a: Accelerator):\n    a.backward(net(1).sum())\n    opt.step()\n",
    "argument": "def fit(a):\n    a.backward(net(1).sum())\n    opt.step()\nfit(Accelerator())\n",
    "attribute of an object": f"{ATTRIBUTE}trainer = Trainer()\ntrainer.a.backward(net(1).sum())\nopt.step()\n",
    "returned": """\
def build():
    a = Accelerator()
    return a
a = build()
a.backward(net(1).sum())
opt.step()
""",
    "returned with more": """\
def build():
    a = Accelerator()
    return net, a
model, a = build()
a.backward(model(1).sum())
opt.step()
""",
}


def found(folder: Path, **texts: str) -> list[StepReport]:
    """The steps of files in one folder, none of which may be changed."""
    paths = [folder / f"{name}.py" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    assert not check(paths, Run(mode=Mode.DIFF)).changes
    rows, report = steps(paths, Run())
    assert not report.errors
    return rows


def lines(step: StepReport, role: str) -> list[str]:
    """What the nodes of one role in the graph of a step say."""
    return [node.label for node in step.nodes if node.role == role]


class TestFrameworks:
    @pytest.mark.parametrize("code", MADE.values(), ids=MADE)
    def test_wherever_the_accelerator_comes_from(self, tmp_path, code):
        (step,) = found(tmp_path, train=f"{HEAD}from accelerate import Accelerator\n{code}")
        assert (step.decision, step.code, step.reason) == ("leave alone", "AMP701", ACCELERATE)
        assert step.optimizers == ("opt",)
        assert len(lines(step, "backward")) == 1

    def test_made_in_another_file(self, tmp_path):
        main = "from common import accelerator\n" + HEAD + LOOP.format("accelerator.backward(loss)")
        (step,) = found(tmp_path, common="from accelerate import Accelerator\naccelerator = Accelerator()\n", main=main)
        assert (step.code, step.models, step.losses) == ("AMP701", ("net",), ("loss",))

    def test_a_method_of_a_base_class(self, tmp_path):
        text = """\
import torch
from lightning import LightningModule
class Net(LightningModule):
    def training_step(self, batch, index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = self.model(batch).sum()
        self.manual_backward(loss)
        optimizer.step()
"""
        (step,) = found(tmp_path, net=text)
        assert step.code == "AMP701"
        assert 'Trainer(precision="16-mixed")' in step.reason
        assert step.losses == ("loss",)

    @pytest.mark.parametrize(
        ("base", "method", "owner"),
        [
            ("transformers import Trainer", "training_step(self, model, inputs)", "self.accelerator"),
            ("fairseq.tasks import FairseqTask", "train_step(self, sample, model, criterion, optimizer)", "optimizer"),
        ],
    )
    def test_an_object_that_a_base_class_brings_along(self, tmp_path, base, method, owner):
        text = f"""\
import torch
from {base}
class Own({base.split()[-1]}):
    def {method}:
        loss = model(1).sum()
        {owner}.backward(loss)
        return loss
"""
        (step,) = found(tmp_path, own=text)
        assert (step.decision, step.code, step.losses) == ("leave alone", "AMP701", ("loss",))

    def test_a_tensor_in_such_a_class(self, tmp_path):
        text = "import torch\nfrom lightning import LightningModule\nclass Own(LightningModule):\n"
        text += "    def backward(self, loss, *args):\n        loss.backward(*args)\n"
        (step,) = found(tmp_path, own=text)
        assert (step.decision, step.losses) == ("refuse", ("loss",))

    def test_an_engine(self, tmp_path):
        text = HEAD + "import deepspeed\nengine, opt, _, _ = deepspeed.initialize(model=net)\n"
        (step,) = found(tmp_path, train=text + LOOP.format("engine.backward(loss)"))
        assert (step.decision, step.code) == ("leave alone", "AMP701")
        assert "DeepSpeed" in step.reason

    def test_a_loop_that_can_do_with_and_without(self):
        """Half of it would be scaled by us and half by the framework."""
        either = "accelerator.backward(loss) if accelerator else loss.backward()"
        text = HEAD + "from accelerate import Accelerator\naccelerator = Accelerator() if many else None\n"
        after, _ = fix_text(text + LOOP.format(either), Settings())
        assert "GradScaler" not in after

    def test_a_loop_of_its_own_below_it_is_converted(self):
        theirs = f"from accelerate import Accelerator\n{MADE['name']}"
        other = "clone = nn.Linear(4, 2).to(device)\nother = torch.optim.SGD(clone.parameters(), lr=0.1)\n"
        ours = LOOP.format("loss.backward()").replace("opt.", "other.").replace("net", "clone")
        after, _ = fix_text(HEAD + theirs + other + ours, Settings())
        assert "scaler.step(other)" in after
        assert theirs.partition("\n")[2] in after

    def test_a_loop_of_its_own_beside_it_is_converted(self):
        own = HEAD + LOOP.format("loss.backward()")
        text = f"{own}from accelerate import Accelerator\ndef fit(accelerator: Accelerator, model, optimizer):\n"
        text += "    accelerator.backward(model(1).sum())\n    optimizer.step()\n"
        after, _ = fix_text(text, Settings())
        assert "scaler.scale(loss).backward()" in after
        assert "accelerator.backward(model(1).sum())\n    optimizer.step()\n" in after

    def test_a_loss_that_a_library_gives_is_a_tensor(self):
        text = HEAD + "from transformers import loss_of\n" + LOOP.format("loss.backward(retain_graph=True)")
        after, _ = fix_text(text.replace("F.cross_entropy", "loss_of"), Settings())
        assert "scaler.scale(loss).backward(retain_graph=True)" in after


SCALER = """\
import torch
class LossScaler:
    def __init__(self):
        self._scaler = torch.amp.GradScaler("cuda")
    def __call__(self, loss, optimizer):
        self._scaler.scale(loss).backward()
        self._scaler.step(optimizer)
        self._scaler.update()
"""
ENGINE = """\
import torch
def train(model, loader, optimizer, loss_scaler):
    for x, y in loader:
        optimizer.zero_grad()
        with torch.autocast("cuda"):
            loss = model(x, y)
        loss_scaler(loss, optimizer)
"""
CALLS = "from engine import train\ntrain(net, loader, opt, {}())\n"


class TestCallableScalers:
    def test_one_of_the_project(self, tmp_path):
        main = f"{HEAD}from scaling import LossScaler\n{CALLS.format('LossScaler')}"
        (step,) = found(tmp_path, scaling=SCALER, engine=ENGINE, main=main)
        assert step.decision == "already mixed"
        assert lines(step, "call") == ["loss_scaler(loss, optimizer)", "train(net, loader, opt, LossScaler())"]

    @pytest.mark.parametrize("module", ["timm.utils", "timm.utils.cuda"])
    def test_one_of_timm(self, tmp_path, module):
        main = f"{HEAD}from {module} import NativeScaler\n{CALLS.format('NativeScaler')}"
        (step,) = found(tmp_path, engine=ENGINE, main=main)
        assert (step.decision, step.where, step.scaler) == ("already mixed", "train()", "loss_scaler")
        assert (step.models, step.losses, step.optimizers) == (("model",), ("loss",), ("optimizer",))

    def test_its_call_keeps_the_protocol(self):
        text = HEAD + "from timm.utils import NativeScaler\nloss_scaler = NativeScaler()\n"
        loop = LOOP.format("loss_scaler(loss, opt, clip_grad=1.0, parameters=net.parameters())")
        assert check_text(text + loop.replace("    opt.step()\n", ""), Settings()) == []

    def test_a_call_of_another_name_is_none(self, tmp_path):
        text = HEAD + "from sklearn.preprocessing import NativeScaler\nloss_scaler = NativeScaler()\n"
        assert found(tmp_path, main=text + "for x in loader:\n    loss_scaler(net(x), opt)\n") == []


class TestOwnBackward:
    def test_a_wrapper_of_the_project_with_master_weights(self, tmp_path):
        trainer = """\
class Trainer:
    def __init__(self, model):
        self.params = [*model.parameters()]
        self.masters = [p.detach().clone().float() for p in self.params]
    def backward(self, loss):
        (loss * 1024).backward()
    def optimize(self, opt):
        for master, p in zip(self.masters, self.params):
            master.grad = gradient(p) / 1024
        opt.step()
def gradient(p):
    return p.grad.float()
"""
        main = (
            HEAD + "from trainer import Trainer\ntrainer = Trainer(net)\nopt = torch.optim.SGD(trainer.masters, 0.1)\n"
        )
        main += LOOP.format("trainer.backward(loss)").replace("opt.step()", "trainer.optimize(opt)")
        (step,) = found(tmp_path, trainer=trainer, main=main)
        assert (step.decision, step.code) == ("refuse", "AMP020")
        assert "copied into those of other parameters" in step.reason
        assert {"trainer.backward(loss)", "trainer.optimize(opt)"} <= {*lines(step, "call")}

    @pytest.mark.parametrize("owner", ["optimizer", "model"])
    def test_an_optimizer_or_an_engine_that_is_not_in_sight(self, tmp_path, owner):
        loop = LOOP.replace("opt.", "optimizer.").replace("net", "model").replace("\n", "\n    ")
        text = f"{HEAD}def train(model, optimizer, loader):\n    {loop.format(f'{owner}.backward(loss)')}"
        (step,) = found(tmp_path, train=text)
        assert (step.decision, step.code, step.losses) == ("refuse", "AMP017", ("loss",))
        assert step.reason == f"`{owner}.backward` {NOBODYS}"

    def test_the_step_that_follows_need_not_be_in_sight(self, tmp_path):
        text = HEAD + "def train_step(model, optimizer, x):\n    loss = model(x).sum()\n    optimizer.backward(loss)\n"
        (step,) = found(tmp_path, train=text)
        assert (step.code, step.reason) == ("AMP017", f"`optimizer.backward` {NOBODYS}")

    def test_an_object_that_is_given_the_loss(self, tmp_path):
        text = f"{HEAD}from engines import Engine\nengine = Engine(net)\n"
        (step,) = found(tmp_path, train=text + LOOP.format("engine.backward(loss)"))
        assert (step.decision, step.code, step.losses) == ("refuse", "AMP017", ("loss",))
        assert step.reason == f"`engine.backward` {NOBODYS}"

    def test_a_tensor_of_a_helper_that_is_given_its_gradient(self):
        text = HEAD + "def compute(x, y):\n    return F.cross_entropy(net(x), y, reduction='none')\n"
        loop = LOOP.replace("F.cross_entropy(net(x), y)", "compute(x, y)")
        after, _ = fix_text(text + loop.format("loss.backward(torch.ones_like(loss))"), Settings())
        assert "scaler.scale(loss).backward(torch.ones_like(loss))" in after

    def test_beside_a_backward_of_the_loss(self):
        either = "opt.backward(loss) if half else loss.backward()"
        (finding,) = check_text(HEAD + LOOP.format(either), Settings())
        assert finding.code == "AMP017"
        assert NOBODYS in finding.message

    def test_a_tensor_that_is_given_its_gradient(self):
        after, _ = fix_text(HEAD + LOOP.format("loss.backward(torch.ones_like(loss))"), Settings())
        assert "scaler.scale(loss).backward(torch.ones_like(loss))" in after

    @pytest.mark.parametrize("name", ["opt", "optimizer"])
    def test_distributed_autograd(self, tmp_path, name):
        text = f"""\
import torch
import torch.distributed.autograd as dist_autograd
from torch.distributed.optim import DistributedOptimizer
def train(model, loader):
    {name} = DistributedOptimizer(torch.optim.SGD, model.parameter_rrefs(), lr=0.05)
    for x, y in loader:
        with dist_autograd.context() as context:
            loss = torch.nn.functional.cross_entropy(model(x), y)
            dist_autograd.backward(context, [loss])
            {name}.step(context)
"""
        (step,) = found(tmp_path, train=text)
        assert (step.decision, step.code, step.losses) == ("refuse", "AMP012", ("[loss]",))
        assert step.reason == "distributed autograd keeps its gradients in a context that no GradScaler sees"


SENSITIVITY = """\
def sensitivity():
    x = torch.ones(3, 4, device=device, requires_grad=True)
    (grad,) = torch.autograd.grad(net(x).sum(), x)
    return grad.abs().mean()
"""


class TestGradientsAsValues:
    """`torch.autograd.grad` in a helper belongs to the step where it runs as often as the step does."""

    @pytest.mark.parametrize("text", ["print(sensitivity())\n{}", "{}print(sensitivity())\n"])
    def test_before_or_after_the_training(self, text):
        after, _ = fix_text(HEAD + SENSITIVITY + text.format(LOOP.format("loss.backward()")), Settings())
        assert "scaler.scale(loss).backward()" in after
        assert SENSITIVITY in after

    @pytest.mark.parametrize("place", ["opt.zero_grad()", "opt.step()"])
    def test_in_the_iteration(self, place):
        loop = LOOP.format("loss.backward()").replace(place, f"{place}\n    print(sensitivity())")
        after, _ = fix_text(HEAD + SENSITIVITY + loop, Settings())
        assert "grad = grad * (1.0 / scaler.get_scale())" in after

    def test_in_an_outer_loop(self):
        inner = "".join(f"    {line}\n" for line in LOOP.format("loss.backward()").splitlines())
        loop = f"for epoch in range(2):\n{inner}    print(sensitivity())\n"
        assert [f.code for f in check_text(HEAD + SENSITIVITY + loop, Settings())] == ["AMP012"]

    def test_of_a_step_whose_loops_are_over_losses_and_optimizers(self):
        step = "".join(f"    {line}\n" for line in (
            "losses = [F.cross_entropy(net(x), y)]", "print(sensitivity())",
            "for loss in losses:", "    loss.backward()", "for one in [opt]:", "    one.step()",
        ))  # fmt: skip
        text = f"{HEAD}{SENSITIVITY}def train_step(x, y):\n{step}for x, y in loader:\n    train_step(x, y)\n"
        assert [f.code for f in check_text(text, Settings())] == ["AMP012"]
