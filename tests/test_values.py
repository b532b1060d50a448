"""Functions as values: which one a call runs, what it gives it, and where a function goes out of sight."""

from __future__ import annotations

from pathlib import Path

import libcst as cst
import pytest

from ampify.config import Settings
from ampify.inspection import Inspection
from ampify.model.flow import Flow
from ampify.rule import load
from ampify.syntax.tree import Tree

HEAD = """\
from functools import partial
from library import Engine

def train(model, optimizer, x): ...
def test(model, optimizer, x): ...

"""

LOOP = """\
class Loop:
    def __init__(self, f):
        self.f = f
    def run(self):
        self.f()
"""


def flow(code: str) -> Flow:
    return Flow(Tree(HEAD + code))


def run_by_last(found: Flow) -> set[str]:
    """The functions that the last call of the text runs."""
    call = max(found.calls, key=lambda c: found.tree.span(c).start)
    named = found.called(call)
    return {named.name.value} if named else {h.function.name.value for h in found.handed(call)}


def function(found: Flow, name: str) -> cst.FunctionDef:
    return next(f for f in found.functions if isinstance(f, cst.FunctionDef) and f.name.value == name)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("step = train\nstep(m, o, x)", {"train"}),
        ("step = train if epoch else test\nstep(m, o, x)", {"train", "test"}),
        ("step = custom or train\nstep(m, o, x)", set()),
        ("STEPS = {'a': train, 'b': test}\nSTEPS[k](m, o, x)", {"train", "test"}),
        ("STEPS = {'a': train}\nSTEPS['b'] = test\nSTEPS.get(k)(m, o, x)", {"train", "test"}),
        ("STEPS = {'a': train}\nSTEPS['b'] = load()\nSTEPS[k](m, o, x)", set()),
        ("STEPS = {'a': train}\nSTEPS.update(more)\nSTEPS[k](m, o, x)", set()),
        ("steps = [train]\nsteps.append(test)\nfor step in steps:\n    step(m, o, x)", {"train", "test"}),
        ("def run(step):\n    step(m, o, x)", set()),
        ("run = None\ndef fit(step):\n    step(m, o, x)\nif a: fit(train)", {"fit"}),
        ("step = partial(train, m)\nstep(o, x)", {"train"}),
        (LOOP + "class Other(Loop): ...\nRunner = Loop if a else Other\nRunner(train)", {"__init__"}),
        ("step = None\nif a:\n    step = train\nstep(m, o, x)", {"train"}),
    ],
)
def test_what_a_call_runs(code: str, names: set[str]) -> None:
    assert run_by_last(flow(code)) == names


def test_a_parameter_is_what_all_calls_pass_for_it() -> None:
    found = flow("def fit(step):\n    step(m, o, x)\nfit(train)\nfit(step=test)\n")
    (call,) = (c for c in found.calls if isinstance(c.func, cst.Name) and c.func.value == "step")
    assert {h.function.name.value for h in found.handed(call)} == {"train", "test"}
    assert found.callee(call) is None


def test_a_class_as_a_value_gives_its_constructor_what_it_is_called_with() -> None:
    found = flow(f"{LOOP}class Other(Loop): ...\nRunner = Loop if a else Other\nRunner(train)\n")
    (call,) = found.sites[constructor := function(found, "__init__")]
    assert found.tree.text(call) == "Runner(train)"
    assert found.tree.text(found.argument(call, constructor, "f") or call) == "train"


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("partial(train, m, o)", ["o"]),
        ("step = partial(train, m)\nstep(o, x)", ["o"]),
        ("step = partial(train, optimizer=o)\nstep(m, x=x)", ["o"]),
        ("step = train\nstep(m, o, x)", ["o"]),
    ],
)
def test_what_is_passed_for_a_parameter(code: str, given: list[str]) -> None:
    found = flow(code)
    train = function(found, "train")
    values = [found.argument(call, train, "optimizer") for call in found.sites[train]]
    assert [found.tree.text(v) for v in values if v is not None] == given


@pytest.mark.parametrize(
    ("code", "leaves"),
    [
        ("train(m, o, x)", None),
        ("step = train\nstep(m, o, x)", None),
        ("Engine(train)", "Engine(train)"),
        ("engine.on(event)(train)", "engine.on(event)(train)"),
        ("STEPS = {'a': train}\nSTEPS[k](m, o, x)", None),
        ("STEPS = {'a': train}\nEngine(STEPS)", "Engine(STEPS)"),
        ("STEPS = {'a': train}\nfor f in STEPS.values():\n    f(m, o, x)", None),
        ("def fit(step):\n    step(m, o, x)\nfit(train)", None),
        ("def fit(step):\n    Engine(step)\nfit(train)", "Engine(step)"),
        (
            LOOP + "Loop(train)",
            None,
        ),
        ("class Loop:\n    def __init__(self, f):\n        self.f = f\nLoop(train).f()", "Loop(train).f"),
        ("print(train.__name__)\nassert train is not test", None),
        ("from train import helper", None),
        ("from train.loop import helper\nimport train.loop as loop", None),
    ],
)
def test_where_a_function_goes_out_of_sight(code: str, leaves: str | None) -> None:
    found = flow(code)
    out = found.values.leaving(function(found, "train"))
    assert (found.tree.text(out) if out is not None else None) == leaves


STEP = """\
import torch

def train(model, optimizer, x):
    optimizer.zero_grad()
    loss = model(x.cuda()).mean()
    loss.backward()
    optimizer.step()

def test(model, optimizer, x):
    return model(x)

def main(kind):
    model = torch.nn.Linear(2, 2).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    {call}
"""


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("{'train': train, 'test': test}[kind](model, optimizer, x)", "`train` is called where `test` is"),
        ("f = train if kind else test; f(model, optimizer, x)", "`train` is called where `test` is"),
        (
            "torch.multiprocessing.spawn(train, (model, optimizer))",
            "`train` is handed to `torch.multiprocessing.spawn`",
        ),
    ],
)
def test_why_a_step_is_refused(call: str, words: str) -> None:
    text = STEP.replace("{call}", call)
    (found,) = (d for d in Inspection("step.py", Settings(), tuple(load().values())).look(text).diagnostics)
    assert (found.code, words in found.message) == ("AMP017", True), found.message


GIVEN = STEP.partition("def test")[0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("notes.txt", "import training", "no call of `train` was found that gives it its optimizer"),
        ("tool.md", "```python\nimport training as t\nt.train(a, b, c)\n```\n", "`tool.md` uses `train`"),
        ("tool.md", "```python\nimport training as t\nt.test(a, b, c)\n```\n", "no call of `train` was found"),
    ],
)
def test_who_gives_the_optimizer_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "training.py").write_text(GIVEN)
    (tmp_path / name).write_text(text)
    found = Inspection(str(tmp_path / "training.py"), Settings(), tuple(load().values())).look(GIVEN).diagnostics
    assert [(d.code, words in d.message) for d in found] == [("AMP017", True)], found


def test_a_value_that_is_part_of_itself_is_not_followed_for_ever() -> None:
    assert not run_by_last(flow("def go(x):\n    go(x[0])\n    x()\n"))
