"""Composes random float32 training scripts that run in milliseconds on a CPU; knows nothing of what becomes of them.

A script is drawn piece by piece: how modules are imported, how the device is chosen, what the models, the losses and
the optimizers are, where gradients are cleared, touched and applied, how often, and into which functions, methods or
classes the pieces are cut. Each gathers numbers in a list `log` and prints a last line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

Code = list["str | tuple[str, Code]"]
"""Lines of code; a compound statement is its header with its suite."""

SIGMOID_CALLS = ("{torch}.sigmoid({out})", "{out}.sigmoid()")


@dataclass(frozen=True)
class Imports:
    """How a script imports PyTorch, and how it spells the parts of it."""

    lines: tuple[str, ...]
    torch: str = "torch"
    nn: str = "nn"
    optim: str = "torch.optim"
    functional: str = "F"
    clip: str = ""

    @property
    def clip_norm(self) -> str:
        return self.clip or f"{self.nn}.utils.clip_grad_norm_"


IMPORTS = (
    Imports(("import torch", "import torch.nn as nn", "import torch.nn.functional as F")),
    Imports(("import torch",), nn="torch.nn", functional="torch.nn.functional"),
    Imports(("import torch as th", "from torch import nn, optim"), "th", "nn", "optim", "nn.functional"),
    Imports(
        (
            "import torch",
            "import torch.nn.functional as F",
            "from torch import nn",
            "from torch.nn.utils import clip_grad_norm_",
        ),
        clip="clip_grad_norm_",
    ),
    Imports(
        ("import torch, torch.nn as tnn", "from torch.nn import functional as F", "from torch import optim as O"),
        nn="tnn",
        optim="O",
    ),
)

ROLES = ("model", "opt", "crit", "loss", "out", "x", "y", "loader")
NAMES = (
    dict(zip(ROLES, ("model", "optimizer", "criterion", "loss", "output", "x", "y", "loader"), strict=True)),
    dict(zip(ROLES, ("net", "opt", "loss_fn", "err", "pred", "inputs", "labels", "batches"), strict=True)),
    dict(
        zip(ROLES, ("student", "solver", "objective", "cost", "logits", "data", "target", "train_loader"), strict=True)
    ),
)


class Pen:
    """Draws choices; the first option of each is the plainest, so that failing scripts shrink to it."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def maybe(self) -> bool:
        return self.draw(st.booleans())

    def rarely(self) -> bool:
        return self.draw(st.integers(0, 5)) == 5


@dataclass
class Iteration:
    """What is done with one batch, in the order in which it is written."""

    data: Code = field(default_factory=list)
    before: Code = field(default_factory=list)
    forward: Code = field(default_factory=list)
    guard: Code = field(default_factory=list)
    update: Code = field(default_factory=list)
    after: Code = field(default_factory=list)

    @property
    def lines(self) -> Code:
        return [*self.data, *self.before, *self.forward, *self.guard, *self.update, *self.after]


class Script:
    """One script while it is being drawn."""

    def __init__(self, pen: Pen) -> None:
        self.pen = pen
        self.imports: Imports = pen.pick(*IMPORTS)
        self.names: dict[str, str] = pen.pick(*NAMES)
        self.task = pen.pick("mse", "ce", "logits", "bce")
        self.device = pen.pick("object", "string", "index", "guarded")
        self.layout = pen.pick("module", "function", "main", "nested", "class", "globals", "helpers", "methods")
        self.kind = pen.pick("plain", "plain", "plain", "joint", "two", "gan", "micro")
        self.own = "self." if self.layout in ("class", "methods") else ""
        self.sigmoid = pen.pick("call", "end", "forward") if self.task == "bce" else None
        self.functions: Code = []
        self.setup: Code = []
        self.objects: list[str] = []
        self.exit = "return" if self.layout in ("helpers", "methods") else "continue"
        self.extra: Code = []

    # The names of things

    def __getitem__(self, role: str) -> str:
        name = self.names.get(role, role)
        return self.own + name if name in self.objects else name

    def make(self, role: str, value: str) -> None:
        """A line of the setup that makes an object which the training needs."""
        name = self.names.get(role, role)
        self.objects.append(name)
        self.setup.append(f"{self.own}{name} = {value}")

    # What is made before the training begins

    def prepare(self) -> None:
        torch = self.imports.torch
        cuda = f"{torch}.cuda.is_available()"
        match self.device:
            case "object":
                self.make("device", f'{torch}.device("cuda" if {cuda} else "cpu")')
            case "string":
                self.make("device", f'"cuda" if {cuda} else "cpu"')
            case "index":
                self.make("device", f'{torch}.device("cuda:0" if {cuda} else "cpu")')
            case "guarded":
                self.make("use_cuda", cuda)
        self.make_objective()

    def module(self, role: str, ins: int, outs: int, sigmoid: bool = False) -> None:
        """A model, a Sequential or of a class, and its move to the device."""
        nn = self.imports.nn
        end = f", {nn}.Sigmoid()" if sigmoid and self.sigmoid == "end" else ""
        layers = self.pen.pick(
            f"{nn}.Linear({ins}, 4), {nn}.ReLU(), {nn}.Linear(4, {outs}){end}",
            f"{nn}.Linear({ins}, {outs}){end}",
            f"{nn}.Linear({ins}, 4), {nn}.LayerNorm(4), {nn}.Tanh(), {nn}.Linear(4, {outs}){end}",
        )
        value = f"{nn}.Sequential({layers})"
        if (sigmoid and self.sigmoid == "forward") or self.pen.maybe():
            name = f"Net{len(self.functions)}"
            result = "self.body(h)"
            if sigmoid and self.sigmoid == "forward":
                result = self.pen.pick(f"{self.imports.torch}.sigmoid({result})", f"{result}.sigmoid()")
            forward = [f"return {result}"] if self.pen.maybe() else [f"z = {result}", "return z"]
            init = ("def __init__(self):", ["super().__init__()", f"self.body = {value}"])
            self.functions.append((f"class {name}({nn}.Module):", [init, ("def forward(self, h):", forward)]))
            value = f"{name}()"
        if self.device == "guarded":
            self.make(role, value)
            self.setup.append((f"if {self['use_cuda']}:", [f"{self[role]}.cuda()"]))
        elif self.pen.maybe():
            self.make(role, f"{value}.to({self['device']})")
        else:
            self.make(role, value)
            self.setup.append(f"{self[role]}.to({self['device']})")

    def optimizer(self, role: str, *models: str) -> None:
        optim = self.imports.optim
        parameters = (
            " + ".join(f"list({m}.parameters())" for m in models) if models[1:] else f"{models[0]}.parameters()"
        )
        cls, options = self.pen.pick(
            ("SGD", "lr=0.1"), ("Adam", "lr=0.01"), ("SGD", "lr=0.05, momentum=0.9"), ("AdamW", "lr=0.01")
        )
        if self.pen.rarely():
            parameters = f'[{{"params": {parameters}, "lr": 0.03}}]'
        if self.pen.rarely():
            self.make(role, f"{optim}.{cls}(\n    {parameters},\n    {options},\n)")
        else:
            self.make(role, f"{optim}.{cls}({parameters}, {options})")

    def make_objective(self) -> None:
        nn, f = self.imports.nn, self.imports.functional
        cls, function = {
            "mse": ("MSELoss", "mse_loss"),
            "ce": ("CrossEntropyLoss", "cross_entropy"),
            "logits": ("BCEWithLogitsLoss", "binary_cross_entropy_with_logits"),
            "bce": ("BCELoss", "binary_cross_entropy"),
        }[self.task]
        self.objective = f"{f}.{function}"
        if self.pen.pick(True, False):
            self.make("crit", f"{nn}.{cls}()")
            self.objective = self["crit"]

    @property
    def width(self) -> int:
        return 3 if self.task == "ce" else 1

    @property
    def targets(self) -> str:
        torch = self.imports.torch
        if self.task == "ce":
            return f"{torch}.randint(0, 3, (4,))"
        return f"{torch}.rand(4, 1)" + ("" if self.task == "mse" else ".round()")

    # What is done with a batch

    def moved(self) -> Code:
        x, y = self["x"], self["y"]
        if self.device == "guarded":
            return [(f"if {self['use_cuda']}:", [f"{x}, {y} = {x}.cuda(), {y}.cuda()"])]
        device = self["device"]
        if self.pen.maybe():
            return [f"{x} = {x}.to({device})", f"{y} = {y}.to({device})"]
        return [f"{x}, {y} = {x}.to({device}), {y}.to({device})"]

    def clear(self, *optimizers: str) -> Code:
        argument = self.pen.pick("", "set_to_none=True", "set_to_none=False")
        return [f"{o}.zero_grad({argument})" for o in optimizers]

    def judged(self, scores: str, target: str) -> str:
        """The loss of an expression."""
        if self.sigmoid == "call":
            scores = self.pen.pick(*SIGMOID_CALLS).format(torch=self.imports.torch, out=scores)
        if self.pen.rarely():
            return f"{self.objective}(\n    {scores}, {target}\n)"
        if self.pen.rarely():
            return f"{self.objective}({scores}, target={target})"
        return f"{self.objective}({scores}, {target})"

    def loss(self, scores: str, target: str, model: str, loss: str) -> Code:
        """Statements that end with a loss of that name."""
        torch, out = self.imports.torch, self["out"]
        judged = self.judged
        shape = self.pen.pick(
            "named", "inline", "summed", "added", "parts", "divided", "decay", "helper", "typed", "list", "branch"
        )
        match shape:
            case "named":
                return [f"{out} = {scores}", f"{loss} = {judged(out, target)}"]
            case "inline":
                return [f"{loss} = {judged(scores, target)}"]
            case "summed":
                return [f"{out} = {scores}", f"{loss} = {judged(out, target)} + 0.1 * {out}.pow(2).mean()"]
            case "added":
                return [f"{out} = {scores}", f"{loss} = {judged(out, target)}", f"{loss} += 0.01 * {out}.abs().mean()"]
            case "parts":
                return [
                    f"{out} = {scores}",
                    f"main_part = {judged(out, target)}",
                    f"extra = ({out} - 0.5).abs().sum()  # keep it small",
                    f"{loss} = main_part + 0.1 * extra",
                ]
            case "divided":
                return [f"{loss} = {judged(scores, target)} / 2"]
            case "decay":
                norm = f"sum(w.pow(2).sum() for w in {model}.parameters())"
                return [f"{out} = {scores}", f"{loss} = {judged(out, target)}", f"{loss} = {loss} + 0.001 * {norm}"]
            case "helper":
                return self.helper(scores, target, loss)
            case "typed":
                return [f"{out}: {torch}.Tensor = {scores}", f"{loss} = ({judged(out, target)})"]
            case "list":
                other = f"{self['out']}.pow(2).mean()"
                return [f"{out} = {scores}", f"losses = [{judged(out, target)}, {other}]", f"{loss} = sum(losses)"]
            case "branch":
                return [
                    f"{out} = {scores}",
                    (f"if {out}.shape[0] > 100:", [f"{loss} = {out}.pow(2).mean()"]),
                    ("else:", [f"{loss} = {judged(out, target)}"]),
                ]
        raise AssertionError(shape)

    def helper(self, scores: str, target: str, loss: str) -> Code:
        """The loss from a function of its own, which gets the scores."""
        made = self["crit"] == self.objective
        if made or (self.own and self.task != "bce"):
            head, call = "def judge(objective, scores, target):", f"judge({self.objective}, {scores}, {target})"
            objective, self.objective = self.objective, "objective"
            value = self.judged("scores", "target")
            self.objective = objective
        else:
            head, call = "def judge(scores, target):", f"judge({scores}, {target})"
            value = self.judged("scores", "target")
        suite = [f"return {value}"] if self.pen.maybe() else [f"value = {value}", "return value"]
        if not any(isinstance(f, tuple) and f[0].startswith("def judge") for f in self.functions):
            self.functions.append((head, suite))
        return [f"{loss} = {call}"]

    def touch(self, model: str) -> Code:
        """Accesses to gradients between backward and step."""
        kind = self.pen.pick("none", "none", "norm", "logged norm", "value", "loop", "read", "guard", "both")
        clip = self.imports.clip_norm
        nn = self.imports.nn
        match kind:
            case "none":
                return []
            case "norm":
                return [f"{clip}({model}.parameters(), {self.pen.pick('0.5', 'max_norm=0.5')})"]
            case "logged norm":
                return [f"norm = {clip}({model}.parameters(), 0.5)", "log.append(norm.item())"]
            case "value":
                return [f"{nn}.utils.clip_grad_value_({model}.parameters(), 0.05)"]
            case "loop":
                change = self.pen.pick("p.grad.mul_(0.5)", "p.grad.clamp_(-0.1, 0.1)", "p.grad = p.grad * 0.5")
                body: Code = [("if p.grad is not None:", [change])] if self.pen.maybe() else [change]
                return [(f"for p in {model}.parameters():", body)]
            case "read":
                return [f"print(sum(p.grad.abs().sum().item() for p in {model}.parameters()))"]
            case "guard":
                limit = self.pen.pick("0.6", "100.0")
                return [f"norm = {clip}({model}.parameters(), 1.0)", (f"if norm > {limit}:", [self.exit])]
            case "both":
                return [
                    f"print(max(p.grad.abs().max().item() for p in {model}.parameters()))",
                    f"{clip}({model}.parameters(), 0.5)",
                ]
        raise AssertionError(kind)

    def backward(self, loss: str, model: str) -> Code:
        torch = self.imports.torch
        kind = self.pen.pick("plain", "plain", "plain", "divided", "kept", "function", "penalty")
        match kind:
            case "plain":
                return [f"{loss}.backward()"]
            case "divided":
                return [f"({loss} / 2).backward()"]
            case "kept":
                return [f"{loss}.backward(retain_graph=True)", f"(0.5 * {loss}).backward()"]
            case "function":
                return [f"{torch}.autograd.backward({loss})"]
            case "penalty":
                return [
                    f"grads = {torch}.autograd.grad({loss}, list({model}.parameters()), create_graph=True)",
                    f"{loss} = {loss} + 0.1 * sum(g.pow(2).sum() for g in grads)",
                    f"{loss}.backward()",
                ]
        raise AssertionError(kind)

    def note(self, loss: str) -> Code:
        return self.pen.pick(
            [f"log.append({loss}.item())"],
            [f'print(f"{{{loss}.item():.4f}}")'],
            [f"log.append(float({loss}))"],
            [f"log.append({loss}.detach().item())", f'print("loss", round({loss}.item(), 5))'],
            [f"log.append({loss}.item() * {self['x']}.size(0))"],
        )

    def scheduled(self, optimizer: str) -> tuple[Code, Code]:
        """A scheduler that steps with every batch, or with every epoch, or not at all."""
        when = self.pen.pick("never", "never", "batch", "epoch")
        if when == "never":
            return [], []
        self.make("scheduler", f"{self.imports.optim}.lr_scheduler.StepLR({optimizer}, step_size=1, gamma=0.5)")
        line = f"{self['scheduler']}.step()"
        return ([line], []) if when == "batch" else ([], [line])

    # Kinds of iterations

    def iteration(self) -> Iteration:
        match self.kind:
            case "plain":
                return self.plain()
            case "joint":
                return self.joint()
            case "two":
                return self.two()
            case "gan":
                return self.gan()
            case "micro":
                return self.micro()
        raise AssertionError(self.kind)

    def plain(self) -> Iteration:
        self.module("model", 3, self.width, sigmoid=True)
        model, x, y, loss = self["model"], self["x"], self["y"], self["loss"]
        self.optimizer("opt", model)
        opt = self["opt"]
        per_batch, self.per_epoch = self.scheduled(opt)
        forward = self.loss(f"{model}({x})", y, model, loss)
        guard: Code = []
        if self.pen.rarely() and self.layout != "methods":
            test = self.pen.pick(
                f"not {self.imports.torch}.isfinite({loss})", f"{loss}.item() > 0.9", f"{loss}.isnan().any()"
            )
            guard = [(f"if {test}:", [self.exit])]
        backward, touch = self.backward(loss, model), self.touch(model)
        step: Code = [f"{opt}.step()", *per_batch]
        if not any("self.exit" in str(t) for t in touch) and self.pen.rarely():
            step = [f"log.append({loss}.item())", *step]
        accumulate = self.pen.pick("no", "no", "every", "flag", "last")
        if accumulate != "no":
            test = {"every": "(i + 1) % 2 == 0", "flag": "ready", "last": "(i + 1) % 2 == 0 or i + 1 == 5"}[accumulate]
            inside = self.pen.maybe()
            inner = [*(touch if inside else []), *step, *self.clear(opt)]
            flag: Code = ["ready = i % 2 == 1"] if accumulate == "flag" else []
            apply: Code = [*backward, *([] if inside else touch), *flag, (f"if {test}:", inner)]
            return Iteration(self.moved(), [], forward, guard, apply, self.note(loss))
        clear = self.clear(opt)
        match self.pen.pick("first", "late", "last"):
            case "first":
                return Iteration(self.moved(), clear, forward, guard, [*backward, *touch, *step], self.note(loss))
            case "late":
                return Iteration(self.moved(), [], forward, guard, [*clear, *backward, *touch, *step], self.note(loss))
        return Iteration(self.moved(), [], forward, guard, [*backward, *touch, *step, *clear], self.note(loss))

    def joint(self) -> Iteration:
        """Two models, one loss, one optimizer or two."""
        self.module("encoder", 3, 4)
        self.module("decoder", 4, self.width, sigmoid=True)
        encoder, decoder, x, y, loss = self["encoder"], self["decoder"], self["x"], self["y"], self["loss"]
        if self.pen.maybe():
            self.optimizer("opt", encoder, decoder)
            optimizers = [self["opt"]]
        else:
            self.optimizer("opt_a", encoder)
            self.optimizer("opt_b", decoder)
            optimizers = [self["opt_a"], self["opt_b"]]
        if self.pen.maybe():
            forward: Code = self.loss(f"{decoder}({encoder}({x}))", y, decoder, loss)
        else:
            forward = [f"hidden = {encoder}({x})", *self.loss(f"{decoder}(hidden)", y, encoder, loss)]
        touch = self.touch(self.pen.pick(encoder, decoder))
        steps = [f"{o}.step()" for o in optimizers]
        if optimizers[1:] and self.pen.rarely():
            steps = [steps[0], ("if i % 2 == 0:", steps[1:])]
        self.per_epoch: Code = []
        backward = self.backward(loss, decoder)
        return Iteration(
            self.moved(), self.clear(*optimizers), forward, [], [*backward, *touch, *steps], self.note(loss)
        )

    def two(self) -> Iteration:
        """Two models with losses of their own over the same batch."""
        self.module("model", 3, self.width, sigmoid=True)
        self.module("other", 3, self.width, sigmoid=True)
        model, other, x, y, loss = self["model"], self["other"], self["x"], self["y"], self["loss"]
        self.optimizer("opt", model)
        self.optimizer("opt_other", other)
        opt, second = self["opt"], self["opt_other"]
        forward = self.loss(f"{model}({x})", y, model, loss)
        forward2: Code = [f"other_loss = {self.judged(f'{other}({x})', y)}"]
        first: Code = [*self.clear(opt), f"{loss}.backward()", *self.touch(model), f"{opt}.step()"]
        then: Code = [*self.clear(second), "other_loss.backward()", *self.touch(other), f"{second}.step()"]
        self.per_epoch = []
        after = [*self.note(loss), *self.note("other_loss")]
        if self.pen.maybe():
            return Iteration(self.moved(), [], [*forward, *forward2], [], [*first, *then], after)
        if self.pen.maybe():
            return Iteration(self.moved(), [], forward, [], [*first, *forward2, *then], after)
        guarded = ("if i % 2 == 1:", [*forward2, *then, "log.append(other_loss.item())"])
        return Iteration(self.moved(), [], forward, [], [*first, guarded], self.note(loss))

    def gan(self) -> Iteration:
        torch = self.imports.torch
        if self.task == "ce":
            self.task, self.objective = "logits", f"{self.imports.functional}.binary_cross_entropy_with_logits"
        self.module("gen", 2, 3)
        self.module("disc", 3, 1, sigmoid=True)
        gen, disc, x = self["gen"], self["disc"], self["x"]
        self.optimizer("opt_d", disc)
        self.optimizer("opt_g", gen)
        opt_d, opt_g = self["opt_d"], self["opt_g"]
        ones, zeros = f"{torch}.ones(4, 1, device={x}.device)", f"{torch}.zeros(4, 1, device={x}.device)"
        noise: Code = [f"z = {torch}.randn(4, 2).to({x}.device)", f"fake = {gen}(z)"]
        if self.pen.rarely():
            noise = [noise[0], (f"with {torch}.no_grad():", [noise[1]])]
        if self.pen.maybe():
            judged: Code = [
                f"loss_d = {self.judged(f'{disc}({x})', ones)} + {self.judged(f'{disc}(fake.detach())', zeros)}"
            ]
            backward_d: Code = ["loss_d.backward()"]
        elif self.pen.maybe():
            judged = [
                f"real_score = {disc}({x})",
                f"fake_score = {disc}(fake.detach())",
                f"loss_d = ({self.judged('real_score', ones)} + {self.judged('fake_score', zeros)}) / 2",
            ]
            backward_d = ["loss_d.backward()"]
        else:
            judged = [
                f"loss_d = {self.judged(f'{disc}({x})', ones)}",
                "loss_d.backward()",
                f"loss_f = {self.judged(f'{disc}(fake.detach())', zeros)}",
            ]
            backward_d = ["loss_f.backward()"]
        train_d = [
            *self.clear(opt_d),
            *noise,
            *judged,
            *backward_d,
            *self.touch(disc),
            f"{opt_d}.step()",
            "log.append(loss_d.item())",
        ]
        again: Code = [f"fake = {gen}(z)"] if noise[1:] != [f"fake = {gen}(z)"] or self.pen.maybe() else []
        train_g: Code = [
            *self.clear(opt_g), *again, f"loss_g = {self.judged(f'{disc}(fake)', ones)}",
            "loss_g.backward()", *self.touch(gen), f"{opt_g}.step()", "log.append(loss_g.item())",
        ]  # fmt: skip
        if self.pen.maybe():
            train_g = [("if i % 2 == 0:", train_g)]
        self.per_epoch = []
        return Iteration(self.moved(), [], [], [], [*train_d, *train_g], [])

    def micro(self) -> Iteration:
        """A batch in pieces, one step for all of them."""
        self.module("model", 3, self.width, sigmoid=True)
        model, x, y, loss = self["model"], self["x"], self["y"], self["loss"]
        self.optimizer("opt", model)
        opt = self["opt"]
        per_batch, self.per_epoch = self.scheduled(opt)
        forward = self.loss(f"{model}(part)", "goal", model, loss)
        loop = (
            f"for part, goal in zip({x}.chunk(2), {y}.chunk(2)):",
            [*forward, f"({loss} / 2).backward()", f"total += {loss}.item()"],
        )
        update = ["total = 0.0", loop, *self.touch(model), f"{opt}.step()", *per_batch]
        return Iteration(self.moved(), self.clear(opt), [], [], update, ["log.append(total)"])

    # Functions around it

    def batches(self, body: Code) -> Code:
        """A loop over batches; the number of the batch is ``i``."""
        torch, x, y = self.imports.torch, self["x"], self["y"]
        made = [f"{x} = {torch}.randn(4, 3)", f"{y} = {self.targets}"]
        match self.pen.pick("loader", "made", "while", "true", "iterator"):
            case "loader":
                return [(f"for i, ({x}, {y}) in enumerate({self['loader']}):", body)]
            case "made":
                return [("for i in range(4):", [*made, *body])]
            case "while":
                return ["i = -1", ("while i < 3:", ["i += 1", *made, *body])]
            case "true":
                return ["i = -1", ("while True:", ["i += 1", ("if i == 4:", ["break"]), *made, *body])]
            case "iterator":
                fetch = [f"{x}, {y} = next(source)"]
                return [
                    f"source = iter({self['loader']})",
                    (f"for i in range(len({self['loader']})):", [*fetch, *body]),
                ]
        raise AssertionError

    def loader(self) -> None:
        torch = self.imports.torch
        batch = f"({torch}.randn(4, 3), {self.targets})"
        if self.task == "ce" or self.pen.maybe():
            self.make("loader", f"[{batch} for _ in range(5)]")
        else:
            data = f"{torch}.utils.data.TensorDataset({torch}.randn(20, 3), {torch}.rand(20, 1).round())"
            self.make("loader", f"{torch}.utils.data.DataLoader({data}, batch_size=4)")

    def evaluation(self) -> Code:
        """A look at the model in between, inline or in a function."""
        if "model" not in self.names or self.names["model"] not in self.objects or not self.pen.rarely():
            return []
        torch, model = self.imports.torch, self["model"]
        device = f"next({model}.parameters()).device"
        if self.pen.maybe():
            inside = [f"score = {model}({torch}.ones(2, 3, device={device})).sum()", "log.append(score.item())"]
            return [f"{model}.eval()", (f"with {torch}.no_grad():", inside), f"{model}.train()"]
        suite: Code = [
            "net.eval()",
            (f"with {torch}.no_grad():", ["score = net(rows).sum()"]),
            "net.train()",
            "return score.item()",
        ]
        self.functions.append(("def evaluate(net, rows):", suite))
        return [f"log.append(evaluate({model}, {torch}.ones(2, 3, device={device})))"]

    def checkpoint(self) -> Code:
        roles = [n for n in self.objects if n.startswith(("opt", "solver")) or n in self.networks]
        if not self.pen.rarely():
            return []
        torch = self.imports.torch
        if self.pen.maybe():
            entries = ", ".join(f'"{n}": {self.own}{n}.state_dict()' for n in roles)
            save: Code = [f'{torch}.save({{{entries}}}, "checkpoint.pt")']
        else:
            save = [
                "state = {}",
                *(f'state["{n}"] = {self.own}{n}.state_dict()' for n in roles),
                f'{torch}.save(state, "checkpoint.pt")',
            ]
        if self.pen.maybe():
            load = [f'{self.own}{n}.load_state_dict(saved["{n}"])' for n in roles]
            save += [f'saved = {torch}.load("checkpoint.pt")', *load]
        return save

    @property
    def networks(self) -> set[str]:
        return {self.names["model"], "gen", "disc", "encoder", "decoder", "other"}

    def body(self) -> Code:
        """Functions and classes, then what runs."""
        self.prepare()
        iteration = self.iteration()
        self.loader()
        around = [*self.per_epoch, *self.evaluation(), *self.checkpoint()]
        match self.layout:
            case "module":
                return [*self.functions, *self.setup, *self.epochs([*self.batches(iteration.lines), *around])]
            case "main":
                run = self.epochs([*self.batches(iteration.lines), *around])
                return [*self.functions, ("def main():", [*self.setup, *run]), *self.called_main()]
            case "nested":
                run = ("def run_epoch(epoch):", self.batches(iteration.lines))
                main = [*self.setup, run, *self.epochs(["run_epoch(epoch)", *around])]
                return [*self.functions, ("def main():", main), *self.called_main()]
            case "globals":
                run = ("def run_epoch(epoch):", self.batches(iteration.lines))
                return [*self.functions, *self.setup, run, *self.epochs(["run_epoch(epoch)", *around])]
            case "function":
                return self.in_function(iteration, around)
            case "helpers":
                return self.in_helpers(iteration, around)
            case "class":
                return self.in_class(iteration, around)
            case "methods":
                return self.in_methods(iteration, around)
        raise AssertionError(self.layout)

    def epochs(self, body: Code) -> Code:
        return [(f"for epoch in range({self.pen.pick(2, 1)}):", body)]

    def called_main(self) -> Code:
        return [('if __name__ == "__main__":', ["main()"])] if self.pen.maybe() else ["main()"]

    def signature(self) -> tuple[str, str]:
        """The parameters for all objects, and the arguments of a call."""
        if self.pen.maybe():
            return ", ".join(self.objects), ", ".join(self.objects)
        return ", ".join(self.objects), ", ".join(f"{n}={n}" for n in self.objects)

    def in_function(self, iteration: Iteration, around: Code) -> Code:
        parameters, arguments = self.signature()
        train = (f"def train({parameters}):", self.batches(iteration.lines))
        call = self.epochs([f"train({arguments})", *around])
        if self.pen.maybe():
            return [*self.functions, train, ("def main():", [*self.setup, *call]), *self.called_main()]
        return [*self.functions, train, *self.setup, *call]

    def in_helpers(self, iteration: Iteration, around: Code) -> Code:
        """A function for each batch; forward, or update, may have one of their own."""
        parameters, arguments = self.signature()
        x, y, loss = self["x"], self["y"], self["loss"]
        single = self.kind in ("plain", "joint") and not iteration.guard
        helpers: Code = []
        forward, update, after = iteration.forward, iteration.update, iteration.after
        if single and self.pen.maybe():
            helpers.append((f"def compute_loss({parameters}, {x}, {y}):", [*forward, f"return {loss}"]))
            forward = [f"{loss} = compute_loss({arguments}, {x}={x}, {y}={y})"]
        if single and self.pen.maybe() and "i " not in str(update):
            helpers.append((f"def apply({parameters}, {loss}):", update))
            update = [f"apply({arguments}, {loss}={loss})"]
        lines = [*iteration.data, *iteration.before, *forward, *iteration.guard, *update, *after]
        step = (f"def train_step({parameters}, i, {x}, {y}):", lines)
        call = self.batches([f"train_step({arguments}, i=i, {x}={x}, {y}={y})"])
        run = self.epochs([*call, *around])
        if self.pen.maybe():
            return [*self.functions, *helpers, step, ("def main():", [*self.setup, *run]), *self.called_main()]
        return [*self.functions, *helpers, step, *self.setup, *run]

    def in_class(self, iteration: Iteration, around: Code) -> Code:
        init = ("def __init__(self):", self.setup)
        train = ("def train_epoch(self, epoch):", self.batches(iteration.lines))
        fit = ("def fit(self):", self.epochs(["self.train_epoch(epoch)", *around]))
        if self.pen.maybe():
            methods = [init, ("def fit(self):", self.epochs([*self.batches(iteration.lines), *around]))]
        else:
            methods = [init, train, fit]
        return [*self.functions, ("class Trainer:", methods), *self.made("Trainer")]

    def made(self, cls: str) -> Code:
        return [f"{cls}().fit()"] if self.pen.maybe() else [f"trainer = {cls}()", "trainer.fit()"]

    def in_methods(self, iteration: Iteration, around: Code) -> Code:
        """A method for each batch; forward and update may have their own."""
        x, y, loss = self["x"], self["y"], self["loss"]
        single = self.kind in ("plain", "joint")
        forward, update = iteration.forward, iteration.update
        methods: Code = [("def __init__(self):", self.setup)]
        if single and self.pen.maybe():
            methods.append((f"def compute_loss(self, {x}, {y}):", [*forward, f"return {loss}"]))
            forward = [f"{loss} = self.compute_loss({x}, {y})"]
        if single and self.pen.maybe():
            methods.append((f"def apply(self, i, {loss}):", update))
            update = [f"self.apply(i, {loss})"]
        lines = [*iteration.data, *iteration.before, *forward, *iteration.guard, *update, *iteration.after]
        methods.append((f"def train_step(self, i, {x}, {y}):", lines))
        run = self.batches([f"self.train_step(i, {x}, {y})"])
        methods.append(("def fit(self):", self.epochs([*run, *around])))
        return [*self.functions, ("class Trainer:", methods), *self.made("Trainer")]


@dataclass(frozen=True)
class Layout:
    """How code is written down."""

    unit: str = "    "
    one_line: bool = False
    joined: str = ""
    comments: int = 0

    def write(self, code: Code) -> str:
        lines = list(self._lines(code, ""))
        if self.comments:
            lines = [self._commented(number, line) for number, line in enumerate(lines)]
        return "\n".join(lines) + "\n"

    def _lines(self, code: Code, indent: str) -> Iterator[str]:
        for item in self._merged(code):
            match item:
                case str():
                    yield indent + item.replace("\n", "\n" + indent)
                case (header, [suite]) if self.one_line and header.startswith("if ") and self._inline(suite):
                    yield f"{indent}{header} {suite}"
                case (header, suite):
                    yield indent + header
                    yield from self._lines(suite, indent + self.unit)

    def _merged(self, code: Code) -> Code:
        """With the statements that hold the word ``joined`` on one line with the next."""
        merged: Code = []
        for item in code:
            last = merged[-1] if merged else None
            if self.joined and self.joined in str(last) and self._short(last) and self._short(item):
                merged[-1] = f"{last}; {item}"
            else:
                merged.append(item)
        return merged

    def _inline(self, item: object) -> bool:
        """Whether a suite may stand in the line of its header; one that computes a loss gets its own."""
        return self._simple(item) and ".pow(2).mean()" not in str(item)

    def _short(self, item: object) -> bool:
        """Whether a statement may share its line: one of the calls that end with or follow a backward."""
        called = any(word in str(item) for word in (".zero_grad(", ".backward()", ".step()"))
        return called and self._simple(item) and ";" not in str(item) and "=" not in str(item).partition("(")[0]

    def _simple(self, item: object) -> bool:
        return isinstance(item, str) and "\n" not in item and "#" not in item

    def _commented(self, number: int, line: str) -> str:
        if number % self.comments == 2 and "\n" not in line and "#" not in line:
            return f"{line}  # remark {number}"
        if number % self.comments == 3 and not line.lstrip().startswith(("else", "elif")):
            indent = line[: len(line) - len(line.lstrip())]
            return f"\n{indent}# about line {number}\n{line}"
        return line


@st.composite
def programs(draw: st.DrawFn) -> str:
    """The text of a script."""
    pen = Pen(draw)
    script = Script(pen)
    body = script.body()
    torch = script.imports.torch
    head = [*script.imports.lines, "", f"{torch}.manual_seed({draw(st.integers(0, 3))})", "log = []"]
    layout = Layout(
        pen.pick("    ", "  ", "\t"),
        pen.maybe(),
        pen.pick("", ".backward()", ".step()", ".zero_grad("),
        pen.pick(0, 4, 7),
    )
    return layout.write([*head, *body, 'print("done", len(log))'])
