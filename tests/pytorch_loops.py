"""The training loops inside PyTorch's tests of gradient scaling, each as a program of its own.

A test holds its loop twice, with a scaler and without: `try_scaling_api` chooses. Here one of the two is left, and the
program makes what the test's helpers make. What spoils a gradient, so that a step is skipped, is done from outside.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

HEAD = """\
import torch

torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
data = [(torch.randn((8, 8)).to(device), torch.randn((8, 8)).to(device)) for _ in range(4)]
loss_fn = torch.nn.MSELoss().to(device)
"""
MODEL = """\
model{n} = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)).to(device)
optimizer{n} = {of}(model{n}.parameters(), lr=1.0{options})
"""
SCALER = "scaler = torch.GradScaler(device=device.type, init_scale=128.0, growth_factor=2.0, growth_interval=1)\n"
SKIPPED = 2
"""The iteration whose step is to be skipped, counted from 0."""


@dataclass(frozen=True)
class Loop:
    """One of PyTorch's tests: where its loop is, and how it is called."""

    test: str
    tolerance: float = 1e-7
    skips: bool = True
    models: tuple[str, ...] = ("",)
    of: str = "torch.optim.SGD"
    options: str = ""
    mixed: bool = False
    """Autocast is a part of it."""

    @property
    def called(self) -> str:
        parts = (self.test, self.of.rpartition(".")[2], self.options.strip(", ").replace("=", "_"))
        return "_".join(filter(None, parts))

    def program(self, tests: dict[str, ast.FunctionDef], *, scaling: bool, skipping: bool = False) -> str:
        """The program with the loop that scales, or the one that does not; ``skipping`` leaves out one step of it."""
        body = _loop(tests[self.test])
        made = "".join(MODEL.format(n=n, of=self.of, options=self.options) for n in self.models)
        kept = ast.unparse(ast.fix_missing_locations(_Chosen(scaling, skipping).visit(body)))
        call = ""
        if isinstance(body, ast.FunctionDef):
            call = f"run({', '.join(arg.arg for arg in body.args.args)})\n"
        return f"{HEAD}{made}{SCALER if scaling else ''}\n\n{kept}\n\n\n{call}"


CPU = (", foreach=None", ", foreach=True", ", fused=True")
LOOPS = (
    *(Loop("test_grad_scaling_autocast", 1e-3, options=options, mixed=True) for options in CPU),
    Loop("test_grad_scaling_clipping", 1e-5),
    Loop("test_grad_scaling_clipping_separate_unscale"),
    Loop("test_grad_scaling_penalty"),
    Loop("test_grad_scaling_accumulation", skips=False),
    Loop("test_grad_scaling_multiple", models=("0", "1")),
    *(
        Loop("test_params_invalidated_with_grads_invalidated_between_unscale_and_step", of=of, skips=False, mixed=True)
        for of in ("torch.optim.AdamW", "torch.optim.Adam", "torch.optim.SGD")
    ),
)
BREAKS = "test_params_invalidated_with_grads_invalidated_between_unscale_and_step"
"""The one test that asserts that its parameters are lost, and has no loop without a scaler."""


def _loop(test: ast.FunctionDef) -> ast.FunctionDef | ast.For:
    """The function `run` of a test, or else its loop over the data."""
    inner = [node for node in ast.walk(test) if isinstance(node, ast.FunctionDef) and node.name == "run"]
    loops = [node for node in ast.walk(test) if isinstance(node, ast.For) and ast.unparse(node.iter) == "data"]
    found = ast.parse(ast.unparse((inner or loops)[0])).body[0]
    assert isinstance(found, ast.FunctionDef | ast.For)
    return found


class _Chosen(ast.NodeTransformer):
    """Leaves one of the two loops: with a scaler that is enabled and not pickled, or without one."""

    def __init__(self, scaling: bool, skipping: bool) -> None:
        self.scaling, self.skipping = scaling, skipping

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        gone = {"device", "skip_iter", "try_scaling_api"} | (set() if self.scaling else {"scaler"})
        node.args.args = [arg for arg in node.args.args if arg.arg not in gone]
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        test = ast.unparse(node.test)
        self.generic_visit(node)
        if test == "try_scaling_api":
            return node.body if self.scaling else node.orelse
        if "skip_iter" not in test:
            return [] if test == "try_pickle" else node
        if self.scaling:  # here the test spoils a gradient
            return []
        node.test = ast.parse(f"i != {SKIPPED}", mode="eval").body
        return node if self.skipping else node.body

    def visit_Name(self, node: ast.Name) -> ast.AST:
        match node.id:
            case "try_scaling_api":
                return ast.Constant(self.scaling)
            case "device":
                return ast.parse("device.type", mode="eval").body
        return node

    def visit_With(self, node: ast.With) -> Any:
        self.generic_visit(node)
        lowered = "autocast" in ast.unparse(node.items[0])
        return node.body if lowered and not self.scaling else node

    def visit_Return(self, node: ast.Return) -> list[ast.stmt]:
        return []


def executed(text: str, loop: Loop, *, spoil: bool = False) -> dict[str, Any]:
    """What a program leaves; ``spoil`` makes a gradient infinite where the test does, just after a backward pass."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    backward, calls, each = torch.autograd.backward, iter(range(1, 99)), len(loop.models)

    def spoiling(*args: Any, **kwargs: Any) -> None:
        backward(*args, **kwargs)
        if next(calls) == (SKIPPED + 1) * each and spoil:
            namespace[f"model{loop.models[-1]}"][1].weight.grad.data.fill_(float("inf"))

    with mock.patch.object(torch.autograd, "backward", spoiling):
        exec(compile(text, f"{loop.called}.py", "exec"), namespace)
    return namespace
