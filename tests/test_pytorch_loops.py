"""PyTorch's tests of gradient scaling: AMP is taken out of their loops and put in again, and their assertions are run.

`AMPIFY_PYTORCH` names a folder with files of pytorch/pytorch, see `test_pytorch.py`. Of its fifteen tests, seven have a
training step whose result they look at. The others ask a scaler alone: how it is pickled, what its kernels and its
state do, what it gives to an optimizer that takes it, what its old name warns of, that it stays finite.
"""

from __future__ import annotations

import ast
import functools
from itertools import chain
from typing import Any

import pytest
import torch
from execution import Trace, replaced
from pytorch_loops import BREAKS, LOOPS, Loop, executed
from test_pytorch import CASES, HEAD, functions

from ampify.config import Settings
from ampify.engine import fix_text
from ampify.rewrite.erase import erase_text

WITHOUT_A_STEP = {
    "test_pickle_gradscaler", "test_grad_scaling_unscale", "test_grad_scaling_update_scale",
    "test_grad_scaling_unscale_sparse", "test_grad_scaling_state_dict", "test_grad_scale_will_not_overflow",
    "test_grad_scaler_pass_itself", "test_grad_scaler_deprecated_warning",
}  # fmt: skip
each_loop = pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.called)
WITH_CONTROL = [loop for loop in LOOPS if loop.test != BREAKS]


@functools.cache
def suite() -> dict[str, ast.FunctionDef]:
    return functions("test/test_torch.py")


def mixed(loop: Loop) -> str:
    """The loop as PyTorch wrote it."""
    return loop.program(suite(), scaling=True)


def plain(loop: Loop) -> str:
    return erase_text(mixed(loop))


def converted(loop: Loop) -> str:
    text, left = fix_text(plain(loop), Settings())
    assert left == []
    return text


def scaled(text: str, loop: Loop) -> dict[str, Any]:
    """What a program leaves whose scaler is enabled, with the scale that the tests begin with."""
    with replaced("full" if loop.mixed else "scaled", Trace(), scale=128.0):
        return executed(text, loop, spoil=loop.skips)


def asserts(loop: Loop, control: dict[str, Any], ours: dict[str, Any]) -> None:
    """The test's own assertions on the parameters, gradients and states that two programs leave."""
    names: dict[str, Any] = {"chain": chain, "atol": loop.tolerance}
    exec(compile(HEAD, "head.py", "exec"), names)
    names["self"] = names["TensorCase"]()
    for n in loop.models:
        names |= {f"mod_control{n}": control.get(f"model{n}"), f"opt_control{n}": control.get(f"optimizer{n}")}
        names |= {f"mod_scaling{n}": ours[f"model{n}"], f"opt_scaling{n}": ours[f"optimizer{n}"]}
        names[f"model{n}"] = ours[f"model{n}"]
    test = suite()[loop.test]
    own = any(isinstance(node, ast.Name) and node.id == "_run_scaling_case" for node in ast.walk(test))
    shared = any(isinstance(node, ast.Attribute) and node.attr == "_run_scaling_case" for node in ast.walk(test))
    assert not own
    found = _last(suite()["_run_scaling_case"] if shared else test, "isnan" if loop.test == BREAKS else "assertEqual")
    exec(compile(ast.unparse(found), "assertions.py", "exec"), names)


def _last(test: ast.FunctionDef, word: str) -> ast.stmt:
    """The last statement with a word in it, in the block where the test itself stands."""
    block = test.body
    while isinstance(block[-1], ast.For) and ast.unparse(block[-1].iter) in ("(True, False)", "all_optim_inputs"):
        block = block[-1].body
    assert word in ast.unparse(block[-1])
    return block[-1]


def test_every_test_is_one_or_the_other():
    assert {loop.test for loop in LOOPS} | WITHOUT_A_STEP == set(CASES)
    assert not {loop.test for loop in LOOPS} & WITHOUT_A_STEP


@pytest.mark.parametrize("loop", WITH_CONTROL, ids=lambda loop: loop.called)
def test_without_amp_it_is_the_loop_that_pytorch_compares_with(loop: Loop):
    assert "caler" not in plain(loop)
    assert "autocast" not in plain(loop)
    control, ours = (executed(text, loop) for text in (loop.program(suite(), scaling=False), plain(loop)))
    for n in loop.models:
        pairs = zip(control[f"model{n}"].parameters(), ours[f"model{n}"].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@each_loop
def test_it_is_converted_again(loop: Loop):
    assert converted(loop) != plain(loop)
    assert "GradScaler(" in converted(loop)


@each_loop
def test_the_assertions_hold_for_the_converted_loop(loop: Loop):
    control = {} if loop.test == BREAKS else executed(loop.program(suite(), scaling=False, skipping=loop.skips), loop)
    ours = scaled(converted(loop), loop)
    assert ours["scaler"].is_enabled()
    asserts(loop, control, ours)
    asserts(loop, control, scaled(mixed(loop), loop))


@each_loop
def test_the_assertions_hold_where_the_scaler_is_disabled(loop: Loop):
    control = {} if loop.test == BREAKS else executed(loop.program(suite(), scaling=False), loop)
    ours = executed(converted(loop), loop)
    assert not ours["scaler"].is_enabled()
    asserts(loop, control, ours)


@pytest.mark.parametrize("loop", [loop for loop in WITH_CONTROL if loop.skips], ids=lambda loop: loop.called)
def test_the_assertions_would_fail_if_no_step_were_skipped(loop: Loop):
    control = executed(loop.program(suite(), scaling=False), loop)
    with pytest.raises(AssertionError):
        asserts(loop, control, scaled(converted(loop), loop))
