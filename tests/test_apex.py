"""The scripts of fixtures/apex: each `.amp.py` is what its `.py` becomes, and the same program where AMP is off.

The originals run with an `apex` that means float32 (see `fake_apex`). `# fixture: refused=WORDS` at the head of a
script means that it is left alone, with these words.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import fake_apex
import pytest
from execution import Trace, assert_same, run

from ampify.config import Settings
from ampify.diagnostic import Diagnostic, Severity
from ampify.engine import Run, check_text, fix_text, fix_texts, steps
from ampify.rewrite.erase import erase_text

FOLDER = Path(__file__).parents[1] / "fixtures" / "apex"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.endswith(".amp"))
PAIRS = [name for name in NAMES if (FOLDER / f"{name}.amp.py").exists()]
REFUSED = [name for name in NAMES if name not in PAIRS]
OFF = {"always_off"}
SAFE = {"o1_literal", "installed_or_not", "always_off", "delay_unscale", "wrapped_optimizer"}
"""The scripts whose Apex means exactly what torch.amp does."""
ARGUMENTS = ("", '"--fp16"')


def _before(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text()


def _after(name: str) -> str:
    return (FOLDER / f"{name}.amp.py").read_text()


def _fixed(text: str) -> tuple[str, list[Diagnostic]]:
    return fix_text(text, Settings(unsafe_fixes=True))


def _called(text: str, arguments: str) -> str:
    return text.replace("parse_args()", f"parse_args([{arguments}])")


@cache
def _original(name: str, arguments: str) -> Trace:
    with fake_apex.installed():
        return run(_called(_before(name), arguments))


@pytest.mark.parametrize("name", PAIRS)
def test_migrates(name: str):
    assert _fixed(_before(name))[0] == _after(name)


@pytest.mark.parametrize("name", PAIRS)
def test_migrates_once(name: str):
    text, left = _fixed(_after(name))
    assert text == _after(name)
    assert [d for d in left if d.severity >= Severity.WARNING] == []


@pytest.mark.parametrize("name", PAIRS)
def test_nothing_of_apex_is_left(name: str):
    imports = (n for n in ast.walk(ast.parse(_after(name))) if isinstance(n, ast.Import | ast.ImportFrom))
    imported = [alias.name for node in imports for alias in node.names]
    assert not any("apex" in name or name == "amp" for name in imported)
    assert ("torch.autocast(" in _after(name)) == (name not in OFF)


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("mode", ["off", "scaled"])
@pytest.mark.parametrize("name", PAIRS)
def test_it_is_the_same_program(name: str, mode: str, arguments: str):
    trace = run(_called(_after(name), arguments), mode)
    assert trace.steps
    assert_same(_original(name, arguments), trace)


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in OFF])
def test_switched_on_it_still_trains(name: str):
    trace = run(_called(_after(name), ARGUMENTS[1]), "full")
    assert trace.finite
    assert trace.steps
    assert trace.regions


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_safe_needs_no_asking(name: str):
    assert (fix_text(_before(name), Settings())[0] == _after(name)) == (name in SAFE)


@pytest.mark.parametrize("name", PAIRS)
def test_erased_it_is_the_float32_program(name: str):
    for arguments in ARGUMENTS:
        assert_same(_original(name, arguments), run(_called(erase_text(_after(name)), arguments)))


@pytest.mark.parametrize("name", REFUSED)
def test_leaves_alone_what_it_cannot_migrate(name: str):
    text, left = _fixed(_before(name))
    wanted = re.findall(r"^# fixture: refused=(.+)$", _before(name), re.MULTILINE)
    assert text == _before(name)
    assert {note.message.partition(": ")[2] for d in left for note in d.notes if "is left" in note.message} == {*wanted}


def test_a_refused_script_trains_with_apex():
    assert all(_original(name, "").steps for name in REFUSED)


# Whose Apex it is


def test_a_vendored_apex_is_nobody_elses(tmp_path: Path):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "apex").mkdir()
    (tmp_path / "apex" / "__init__.py").touch()
    found = check_text(_before("o1_literal"), Settings(select=("AMP12",)), str(tmp_path / "train.py"))
    assert found
    assert all(d.fix is None for d in found)


def test_a_newer_apex_beside_it_has_no_amp(tmp_path: Path):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "apex").mkdir()
    (tmp_path / "apex" / "__init__.py").write_text("import torch\n")
    (tmp_path / "train.py").write_text(_before("o1_literal"))
    found, _ = steps([tmp_path], Run())
    assert [step.decision for step in found] == ["already mixed"]


def test_a_fork_for_another_accelerator_is_maintained():
    text = _before("delay_unscale").replace("import torch\n", "import torch\nimport torch_npu\n", 1)
    assert [d.code for d in check_text(text, Settings()) if d.code.startswith(("AMP12", "AMP13"))] == []


def test_something_else_may_be_called_amp():
    text = "from guitar import amp\n\namp.initialize(1, 2)\nwith amp.scale_loss(3, 4) as loud:\n    loud.backward()\n"
    assert [d.code for d in check_text(text, Settings()) if d.code.startswith(("AMP12", "AMP13"))] == []


# What more is asked of Apex than torch does


def _reasons(text: str) -> set[str]:
    found = check_text(text, Settings(select=("AMP12", "AMP13")))
    assert found
    assert all(d.fix is None for d in found)
    return {note.message.partition(": ")[2] for d in found for note in d.notes if "is left" in note.message}


def test_whether_apex_is_installed_may_be_told_to_others():
    told = (
        "try:\n    from apex import amp  # noqa: F401\n\n    _has_apex = True\nexcept ImportError:\n"
        "    _has_apex = False\n\n\ndef is_apex_available():\n    return _has_apex\n"
    )
    assert _reasons(told) == {"whether `from apex import amp` succeeds is asked elsewhere"}


def test_a_function_that_is_to_run_in_float32_is_for_the_hand():
    text = "from apex import amp\n\n\n@amp.float_function\ndef focal(p, t):\n    return ((1 - p) * t).mean()\n"
    assert _reasons(text) == {"`amp.float_function` has to be replaced by hand first (AMP132)"}


PARALLEL = "from apex.parallel import DistributedDataParallel as DDP\n\nmodel = DDP(model)\n"


def test_gradients_may_be_held_back_by_hand():
    assert _reasons(PARALLEL + "if isinstance(model, DDP):\n    model.disable_allreduce()\n") == {
        "`model.disable_allreduce` belongs to Apex; `DistributedDataParallel` of torch has `no_sync` for that"
    }


def test_gradients_may_be_summed_over_processes():
    assert _reasons(PARALLEL.replace("(model)", "(model, gradient_average=False)")) == {
        "`gradient_average=False` sums the gradients of all processes; torch takes their mean"
    }


# Apex looked for in torch

GHOST = """\
import torch
import torch.cuda.amp as amp
from torch import nn

torch.manual_seed(11)
model = nn.Linear(4, 2).to("cuda" if torch.cuda.is_available() else "cpu")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
log = []
for step in range(4):
    x, y = torch.randn(8, 4), torch.randint(2, (8,))
    with amp.autocast():
        loss = nn.functional.cross_entropy(model(x), y)
    # backward
    with amp.scale_loss(loss, optimizer) as scaled_loss:
        scaled_loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    log.append(loss.item())
"""
ONCE = GHOST.replace("    # backward\n", "    # backward\n    loss.backward()\n")
BY_HAND = (
    GHOST.replace("    with amp.autocast():\n        loss =", "    loss =")
    .replace("    with amp.scale_loss(loss, optimizer) as scaled_loss:\n", "")
    .replace("        scaled_loss.backward()", "    loss.backward()")
)


@pytest.mark.parametrize("mode", ["off", "scaled"])
@pytest.mark.parametrize("text", [GHOST, ONCE])
def test_what_torch_never_had_becomes_what_it_was_meant_to_be(text: str, mode: str):
    after, left = _fixed(text)
    assert "scaler.scale(loss).backward()" in after
    assert "scale_loss" not in after
    assert "# backward" in after
    assert [d for d in left if d.severity >= Severity.WARNING] == []
    assert_same(run(BY_HAND), run(after, mode))


def test_it_is_not_guessed_for_a_step_out_of_sight():
    text = "from torch.cuda import amp\n\nwith amp.scale_loss(loss, optimizer) as scaled:\n    scaled.backward()\n"
    assert _fixed(text)[0] == text


def test_two_backward_passes_of_one_graph_that_is_kept_are_two():
    text = ONCE.replace("    loss.backward()\n", "    loss.backward(retain_graph=True)\n")
    assert "scaler.scale(loss).backward(retain_graph=True)" in _fixed(text)[0]


# What the fix leaves


def _plain(text: str) -> str:
    return fix_text(text, Settings(select=("AMP12",), unsafe_fixes=True))[0]


def test_a_comment_that_only_speaks_of_apex_goes():
    text = "import sys\n\n# Apex imports\nfrom apex import amp\n\n\ndef f(): ...\n"
    assert _plain(text) == "import sys\n\n\ndef f(): ...\n"


def test_a_comment_that_speaks_of_more_stays():
    text = (
        "import sys\n\n# Apex imports\nfrom apex import amp\nimport os\n\n# seed\nfrom apex import amp as a\n\nx = 1\n"
    )
    assert _plain(text) == "import sys\n\n# Apex imports\nimport os\n\n# seed\n\nx = 1\n"


def test_a_block_does_not_begin_with_a_blank_line():
    text = "def f(model):\n    from apex import amp\n\n    return model\n"
    assert _plain(text) == "def f(model):\n    return model\n"


SET = "import torch\nfrom apex.parallel import DistributedDataParallel as DDP\n\n\ndef main(rank, model):\n"
PLACED = "import torch\n\n\ndef main(rank, model):\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    torch.cuda.set_device(rank)\n    model = DDP(model, delay_allreduce=True)\n", ", device_ids=[rank]"),
        ("    torch.cuda.set_device(rank)\n    rank = 0\n    model = DDP(model)\n", ""),
        ("    model = DDP(model)\n    torch.cuda.set_device(rank)\n", ""),
        ("    torch.cuda.set_device(int(rank))\n    model = DDP(model)\n", ""),
    ],
)
def test_data_parallelism_names_the_device_of_its_process(before: str, after: str):
    parallel = f"torch.nn.parallel.DistributedDataParallel(model{after})"
    plain = before.replace(before[before.index("DDP(") : before.index(")", before.index("DDP(")) + 1], parallel)
    assert _plain(SET + before) == PLACED + plain


def test_the_device_of_another_function_is_not_its_device():
    text = SET + "    torch.cuda.set_device(rank)\n\n\ndef other(rank, model):\n    return DDP(model)\n"
    assert "return torch.nn.parallel.DistributedDataParallel(model)\n" in _plain(text)


# Parts that Apex was told to leave alone

LOSS = """\
import torch
from apex import amp


def loss(outputs, labels):
    with amp.disable_casts():
        return torch.nn.functional.cross_entropy(outputs.float(), labels)
"""


def test_what_is_not_cast_is_not_cast(tmp_path: Path):
    train = _before("o1_literal").replace("import torch\n", "import torch\nfrom losses import loss as criterion\n", 1)
    train = train.replace("criterion = nn.MSELoss()\n", "")
    texts = {tmp_path / "train.py": train, tmp_path / "losses.py": LOSS}
    after, _ = fix_texts(texts, lambda _: Settings(unsafe_fixes=True))
    assert 'with torch.autocast(device_type="cuda", enabled=False):' in after[tmp_path / "losses.py"]
    assert "scaler.step(optimizer)" in after[tmp_path / "train.py"]
    assert "apex" not in "".join(after.values())


# Branches that have something in common

CLIPPED = "clip_grad_norm_(amp.master_params(optimizer), 0.5)"
BRANCHES = (
    "from apex import amp\nfrom torch.nn.utils import clip_grad_norm_\n\n\n"
    "def clip(args, model, optimizer):\n    if args.fp16:\n        norm = clip_grad_norm_(\n"
    "            amp.master_params(optimizer), 0.5)\n{more}    else:\n        norm = clip_grad_norm_(\n"
    "            model.parameters(), 0.5)\n    return norm\n"
)
ONE = "    norm = clip_grad_norm_(\n        model.parameters(), 0.5)\n"


def test_what_both_branches_begin_with_goes_before_them():
    after = _plain(BRANCHES.format(more="        print(norm)\n\n        log(norm)\n"))
    assert after.partition("optimizer):\n")[2] == (
        ONE + "    if args.fp16:\n        print(norm)\n\n        log(norm)\n    return norm\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        BRANCHES.format(more="        # why\n        log(norm)\n"),
        BRANCHES.format(more="        log(norm)\n").replace("norm =", "args ="),
        BRANCHES.format(more="        log(norm)\n").replace("norm =", "args.fp16 ="),
        BRANCHES.format(more="        log(norm)\n").replace("0.5", "args.next()"),
        BRANCHES.format(more="        log(norm)\n").replace("0.5", "most(args)"),
        BRANCHES.format(more="        log(norm)\n").replace("model.parameters(), 0.5", "model.parameters(), 0.7"),
    ],
)
def test_where_a_comment_stands_or_the_branch_decides_again_both_stay(text: str):
    assert _plain(text).count("clip_grad_norm_(") == 2


# The handle of 2018


def test_the_scale_that_a_handle_was_given_is_kept():
    after, _ = _fixed(_before("handle").replace("enabled=args.fp16", "args.fp16, 128.0"))
    assert "init_scale=128.0" in after
    assert "use_amp = args.fp16 and" in after


def test_a_handle_that_is_passed_on_is_left():
    text = _before("handle") + "\nlog.append(str(amp_handle))\n"
    assert _fixed(text)[0] == text


# How it is written down


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from apex import amp\n", "from apex import amp as precision\n"),
        ("from apex import amp\n", "import apex.amp as precision\n"),
        ("from apex import amp\n", "import apex\n\nprecision = apex.amp\n"),
    ],
)
def test_import_styles(old: str, new: str):
    text = _before("delay_unscale").replace(old, new).replace("amp.initialize", "precision.initialize")
    after, _ = _fixed(text.replace("amp.scale_loss", "precision.scale_loss"))
    assert "apex" not in after
    assert "scaler.step(optimizer)" in after


# Fused optimizers

FUSED = """\
import torch
from apex import optimizers as fused


def make(adam, parameters):
    if adam:
        return fused.FusedAdam(parameters)
    return fused.FusedSGD(parameters)
"""


def test_no_import_stays_when_two_fused_optimizers_go():
    after, left = _fixed(FUSED)
    assert not left
    assert after == (
        "import torch\n\n\ndef make(adam, parameters):\n    if adam:\n"
        "        return torch.optim.AdamW(parameters, weight_decay=0.0, fused=True)\n"
        "    return torch.optim.SGD(parameters, fused=True)\n"
    )


@pytest.mark.parametrize(
    "kept", ["fused.FusedSGD(parameters)  # ampify: ignore[AMP131]", "fused.FusedLAMB(parameters)"]
)
def test_the_import_of_a_fused_optimizer_that_stays_stays(kept: str):
    after, _ = _fixed(FUSED.replace("fused.FusedSGD(parameters)", kept))
    assert after == FUSED.replace("fused.FusedSGD(parameters)", kept).replace(
        "fused.FusedAdam(parameters)", "torch.optim.AdamW(parameters, weight_decay=0.0, fused=True)"
    )


def test_an_import_for_each_function_goes_with_its_optimizer():
    one = "def {0}(p):\n{2}    return {1}\n"
    local = "    from apex.optimizers import FusedSGD\n"
    before = "import torch\n\n\n" + "\n\n".join(one.format(name, "FusedSGD(p)", local) for name in "fg")
    after = "import torch\n\n\n" + "\n\n".join(one.format(name, "torch.optim.SGD(p, fused=True)", "") for name in "fg")
    assert _fixed(before)[0] == after
