"""PyTorch's page "AMP examples", whose blocks are erased, converted again and run; its tests of gradient scaling.

`AMPIFY_PYTORCH` names a folder with files of pytorch/pytorch at their paths in it. Nothing of them is part of this
repository; without them these tests are skipped.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import textwrap
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from execution import Trace, assert_same, run

from ampify.config import Settings
from ampify.engine import fix_text
from ampify.rewrite.erase import erase_text

PRELUDE = """\
import torch
from torch import nn, optim
from torch.amp import GradScaler, autocast, custom_bwd, custom_fwd

epochs, max_norm, iters_to_accumulate = range(2), 0.1, 2
data = [(torch.randn(4, 8), torch.randn(4, 3)) for _ in range(4)]
input = torch.randn(4, 8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, input):
        return self.layers(input)


class MyModel(Net):
    pass


log = []
loss_fn = nn.MSELoss()
"""
ONE = """\
model = Net().cuda()
optimizer = optim.SGD(model.parameters(), lr=0.5)
"""
TWO = """\
model0 = Net().cuda()
model1 = Net().cuda()
optimizer0 = optim.SGD(model0.parameters(), lr=0.5)
optimizer1 = optim.SGD(model1.parameters(), lr=0.5)
"""
WEIGHTS = """\
layer = nn.Bilinear(8, 8, 3).cuda()
input1, input2 = torch.randn(4, 8), layer.weight[0]
imported_function = torch.mm
"""
BLOCKS = (
    "typical", "clipping", "accumulation", "penalty in float32", "penalty", "several",
    "threads", "island", "function", "use of function", "float32 function", "use of float32 function",
)  # fmt: skip
STEPS = {
    "typical": "",
    "clipping": ONE,
    "accumulation": ONE,
    "penalty in float32": ONE,
    "penalty": ONE,
    "several": TWO,
}
"""Blocks that are training steps, and what stands before them."""
NO_STEPS = [name for name in BLOCKS if name not in STEPS]
LOOP = """\
scaler = GradScaler()
for input, target in data:
    optimizer.zero_grad()
{region}
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    log.append(loss.item())
"""
IN_STEPS = ("threads", "use of function", "use of float32 function")
"""Blocks that become training steps with a loop around them; their documented autocast region is in it."""
EVERY = (*STEPS, *IN_STEPS)
PROTOCOL = ("scale", "unscale_", "get_scale", "step", "update")


def source(path: str) -> str:
    if not (folder := os.environ.get("AMPIFY_PYTORCH")):
        pytest.skip("AMPIFY_PYTORCH does not name a folder with files of PyTorch")
    return (Path(folder) / path).read_text("utf-8")


# The page


@functools.cache
def blocks() -> dict[str, str]:
    """The page's blocks of code, in their order."""
    page = source("docs/source/notes/amp_examples.rst")
    found = [textwrap.dedent(b).strip("\n") + "\n" for b in re.findall(r"::\n\n((?: {4}.*\n|\n)+)", page)]
    return dict(zip(BLOCKS, found, strict=True))


def program(name: str) -> str:
    """A script around a block, in a training step where it is a part of one."""
    return PRELUDE + completed(name) if name in IN_STEPS else excerpt(name)


def excerpt(name: str) -> str:
    """A script with nothing but what a block needs."""
    return PRELUDE + STEPS.get(name, WEIGHTS) + blocks()[name].replace(", ...)", ", lr=0.5)")


def completed(name: str) -> str:
    """The training step that a block is an excerpt of, with what the page leaves out."""
    head, mark, region = blocks()[name].partition("# Sets" if name == "threads" else "with autocast")
    region, loss = mark + region, "    loss = loss_fn(output, target)\n"
    match name:
        case "threads":
            head = head.replace("MyModel()", "MyModel().cuda()") + ONE.partition("\n")[2]
            region = region.replace("loss_fn(output)", "loss_fn(output, target)")
        case "use of function":
            function = blocks()["function"]
            for old in ("custom_fwd", "custom_bwd"):
                function = function.replace(f"{old}\n", f"{old}(device_type='cuda')\n")
            head = f"{ONE}{function}\n\n{head}"
            region = f"input1, input2 = model(input), torch.eye(3)\n{region}{loss}"
        case _:
            function = blocks()["float32 function"].replace("...", "fwd_output = input.exp()", 1)
            function = function.replace("...", "(input,) = ctx.saved_tensors\n        return grad * input.exp()")
            head = f"{ONE}{function}\n\n{head}"
            region = f"{region}    loss = loss_fn(model(output), target)\n"
    return head + LOOP.format(region=textwrap.indent(region, "    ").rstrip())


def converted(name: str) -> str:
    text, left = fix_text(erase_text(program(name)), Settings())
    assert left == []
    return text


def traced(text: str, mode: str) -> Trace:
    with mock.patch.object(torch.nn.Module, "cuda", lambda self: self):
        return run(text, mode)


def protocol(text: str) -> list[str]:
    """What a program asks of its scaler, in order; what the scaler asks of itself is not counted."""
    calls, inside = [], []

    def told(method):
        @functools.wraps(method)
        def telling(*args, **kwargs):
            if not inside:
                calls.append(method.__name__)
            inside.append(method)
            try:
                return method(*args, **kwargs)
            finally:
                inside.pop()

        return telling

    scaler = torch.amp.GradScaler
    with mock.patch.multiple(scaler, **{name: told(getattr(scaler, name)) for name in PROTOCOL}):
        traced(text, "scaled")
    return calls


@pytest.mark.parametrize("name", EVERY)
def test_a_block_of_the_page_is_converted_to_the_same_program(name: str):
    plain, after = erase_text(program(name)), converted(name)
    assert after != plain
    original = traced(plain, "original")
    assert original.steps
    assert_same(original, traced(after, "scaled"))
    assert_same(original, traced(program(name), "original" if name == "penalty in float32" else "scaled"))


@pytest.mark.parametrize("name", EVERY)
def test_a_block_of_the_page_still_trains_when_it_is_converted(name: str):
    trace = traced(converted(name), "full")
    assert trace.finite
    assert trace.steps
    assert trace.regions


@pytest.mark.parametrize("name", EVERY)
def test_a_block_of_the_page_gets_the_documented_protocol(name: str):
    documented = protocol(program("penalty" if name == "penalty in float32" else name))
    if name == "several":  # the page unscales for one of two optimizers to show that it may; nothing looks at it
        documented = [call for call in documented if call != "unscale_"]
    assert "step" in documented
    assert protocol(converted(name)) == documented


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_the_page_is_right_as_it_is(name: str):
    text = program(name)
    after, left = fix_text(text, Settings())
    assert left == []
    assert (after == text) is (name != "penalty in float32")


@pytest.mark.parametrize("name", NO_STEPS)
def test_a_block_without_a_training_step_is_left_alone_once_it_is_erased(name: str):
    plain = erase_text(excerpt(name))
    assert fix_text(plain, Settings()) == (plain, [])
    assert "with autocast" not in plain


@pytest.mark.parametrize("name", ["function", "float32 function"])
def test_custom_functions_keep_their_decorators(name: str):
    assert blocks()[name] in erase_text(excerpt(name))


def test_a_function_that_is_not_seen_is_not_put_under_autocast():
    """The page runs it in float32, and does not say in code that it has to."""
    island = blocks()["island"].replace("...", "input1, input2 = model(input), target")
    region = island + "    loss = loss_fn(output, target)\n"
    loop = LOOP.format(region=textwrap.indent(region, "    ").rstrip())
    plain = erase_text(f"{PRELUDE}from kernels import imported_function\n{ONE}{loop}")
    after, left = fix_text(plain, Settings())
    assert after == plain
    assert [finding.code for finding in left] == ["AMP017"]


# The tests of gradient scaling

HEAD = """\
import contextlib
import pickle
import torch
from functools import partial
from itertools import chain
from types import SimpleNamespace
from unittest import TestCase

TEST_MULTIGPU = False


def _get_optim_inputs_including_global_cliquey_kwargs(*args, **kwargs):
    return [SimpleNamespace(kwargs={"foreach": foreach}) for foreach in (None, False, True)]


class TensorCase(TestCase):
    def assertEqual(self, left, right, atol=None, rtol=None, msg=None):
        if not isinstance(left, torch.Tensor):
            return super().assertEqual(left, right, msg)
        right = torch.as_tensor(right, dtype=left.dtype).expand_as(left)
        torch.testing.assert_close(left, right, atol=atol, rtol=rtol)


"""
OPTIMIZERS = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD)
FLAGS = ({"foreach": None, "fused": None}, {"foreach": True, "fused": None}, {"foreach": None, "fused": True})
CASES: dict[str, list[dict[str, object]]] = {
    "test_pickle_gradscaler": [{}],
    "test_grad_scaling_unscale": [{"dtype": torch.float}, {"dtype": torch.double}],
    "test_grad_scaling_update_scale": [{"dtype": torch.float}],
    "test_grad_scaling_unscale_sparse": [{"dtype": torch.float}],
    "test_grad_scaling_state_dict": [{}],
    "test_grad_scaling_autocast": [{"dtype": torch.float, "of": o, **f} for o in OPTIMIZERS for f in FLAGS],
    "test_params_invalidated_with_grads_invalidated_between_unscale_and_step": [
        {"dtype": torch.float, "of": o} for o in OPTIMIZERS
    ],
    "test_grad_scale_will_not_overflow": [{}],
    "test_grad_scaling_clipping": [{}],
    "test_grad_scaling_clipping_separate_unscale": [{}],
    "test_grad_scaling_penalty": [{}],
    "test_grad_scaling_accumulation": [{}],
    "test_grad_scaling_multiple": [{}],
    "test_grad_scaler_pass_itself": [{}],
    "test_grad_scaler_deprecated_warning": [{}],
}
"""Each test, and what PyTorch calls it with on the CPU; ``of`` is the optimizer of an ``optim_info``."""
REPORTED = {
    "test_grad_scaling_autocast": {"AMP603"},
    "test_grad_scale_will_not_overflow": {"AMP504"},
    "test_grad_scaler_deprecated_warning": {"AMP102", "AMP103"},
}


def functions(path: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(ast.parse(source(path))) if isinstance(node, ast.FunctionDef)}


@functools.cache
def case(name: str) -> str:
    """A module with one test and what it needs; its decorators choose devices, and are not taken along."""
    tests, helpers = functions("test/test_torch.py"), functions("torch/testing/_internal/common_cuda.py")
    methods = [tests["_run_scaling_case"], tests[name]]
    tests[name].decorator_list = []
    parts = [ast.unparse(helpers[h]) for h in ("_create_scaling_models_optimizers", "_create_scaling_case")]
    inside = textwrap.indent("\n\n".join(map(ast.unparse, methods)), "    ")
    return HEAD + "\n\n".join((*parts, f"class Case(TensorCase):\n{inside}\n"))


@pytest.mark.parametrize("name", CASES)
def test_a_test_of_gradient_scaling_is_left_alone(name: str):
    after, left = fix_text(case(name), Settings())
    assert after == case(name)
    assert {finding.code for finding in left} == REPORTED.get(name, set())


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, each in CASES.items() for n in range(len(each))])
def test_a_test_of_gradient_scaling_passes_after_the_fixes(name: str, number: int):
    arguments = dict(CASES[name][number])
    if (chosen := arguments.pop("of", None)) is not None:
        arguments["optim_info"] = SimpleNamespace(optim_cls=chosen)
    namespace: dict[str, Any] = {"__name__": "case"}
    exec(compile(fix_text(case(name), Settings())[0], "case.py", "exec"), namespace)
    ran = namespace["Case"](name)
    with warnings.catch_warnings(action="ignore"):
        getattr(ran, name)("cpu", **arguments)
    assert ran.id() == f"case.Case.{name}"
