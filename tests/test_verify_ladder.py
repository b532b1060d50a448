"""The ladder from end to end, on small scripts and the CPU: what holds, what fails, and in which words."""

import re
import sys
from pathlib import Path

import pytest

from ampify.config import Lookup
from ampify.engine import fix_text
from ampify.verify.ladder import climb
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.workers import Workers

SCRIPT = """\
import sys

import torch
from torch import nn

torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
    x, y = torch.randn(16, 4, device=device), torch.randn(16, 1, device=device)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    print(loss.item())
torch.save(model.state_dict(), "model.pt")
"""
CONVERTED = fix_text(SCRIPT, Lookup()(Path("train.py")))[0]
RANKS = """\
import os

import torch

scale = 1.0
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean() * scale
    loss.backward()
    optimizer.step()
"""
EXACT = ("L0", "L1", "L2", "L2s", "ledger")


@pytest.fixture(scope="module")
def workers():
    with Workers(env={"OMP_NUM_THREADS": "1"}) as opened:
        yield opened


@pytest.fixture
def verify(workers, tmp_path):
    """Write a script and climb; the script is the only file that is there afterwards."""

    def run(text, *args, sources=None, **options):
        script = tmp_path / "train.py"
        script.write_text(text, "utf-8")
        request = Request(script=script, args=args, cwd=tmp_path, device="cpu", **options)
        texts = {} if sources is None else {"sources": Sources({}, {script: sources}, "given")}
        verdict = climb(request, workers=workers, **texts)
        assert [path.name for path in tmp_path.iterdir()] == ["train.py"]
        return verdict

    return run


def statuses(verdict):
    return {level.name: level.status for level in verdict.levels}


def test_float32_code_and_what_fix_would_write(verify):
    verdict = verify(SCRIPT)
    assert verdict.mode == "convert"
    assert [verdict.level(name).status for name in EXACT] == ["holds"] * 5, verdict.first
    assert (verdict.word, verdict.status, verdict.diagnostics) == ("PLUMBING-EQUIVALENT", 0, ())
    assert verdict.level("L2s").summary == "overflow at step 4 of optimizer 0"
    assert verdict.unverified == ()
    assert any("clipping is held" in note for note in verdict.notes)
    assert any("scaler was forced on" in note for note in verdict.notes)
    assert len(verdict.losses["reference"]) == 9  # the ninth leads to a step that is no longer made
    assert verdict.losses["reference"] == verdict.losses["candidate"]


def test_amp_code_and_what_is_left_without(verify):
    verdict = verify(CONVERTED)
    assert verdict.mode == "audit"
    assert [verdict.level(name).status for name in EXACT] == ["holds"] * 5, verdict.first


def test_a_clip_of_scaled_gradients(verify):
    line = "    scaler.unscale_(optimizer)\n"
    assert line in CONVERTED
    wrong = CONVERTED.replace(line, "")
    verdict = verify(wrong)
    assert (verdict.word, verdict.status) == ("NOT EQUIVALENT", 1)
    assert statuses(verdict) | {"L0": "holds", "L1": "holds", "L2": "fails", "L2s": "fails"} == statuses(verdict)
    first = verdict.first
    assert (first.level, first.channel, first.step, first.name) == ("L2", "grads", 1, "0.weight")
    assert first.candidate_at.text == "scaler.step(optimizer)"
    assert first.reference_at.text == "optimizer.step()"
    reference, candidate = (float(value.split()[0]) for value in (first.reference, first.candidate))
    assert abs(candidate) < abs(reference)
    finding = verdict.diagnostics[0]
    assert finding.code == "AMP901"
    assert wrong[finding.span.start : finding.span.end] == "scaler.step(optimizer)"


def test_what_only_an_overflow_shows(verify):
    plain = "    scaler.step(optimizer)\n    scaler.update()\n"
    assert plain in CONVERTED
    wrong = CONVERTED.replace(plain, "    optimizer.step()\n    scaler.update()\n")
    verdict = verify(wrong)
    assert statuses(verdict)["L2"] == "holds"
    assert "fails" in (statuses(verdict)["L2s"], statuses(verdict)["ledger"])
    assert verdict.level("ledger").differences[0].candidate_at.text == "optimizer.step()"


def test_a_scaler_in_the_loop(verify):
    wrong = CONVERTED.replace(
        "    optimizer.zero_grad()\n", "    optimizer.zero_grad()\n    scaler = torch.amp.GradScaler()\n"
    )
    verdict = verify(wrong)
    assert [verdict.level(name).status for name in EXACT] == ["holds"] * 4 + ["fails"]
    assert "forgets the scale" in verdict.first.message


def test_a_candidate_that_raises(verify):
    verdict = verify(SCRIPT, sources=CONVERTED.replace("    scaler.update()\n", ""))
    first = verdict.level("L2").differences[0]
    assert (first.channel, first.candidate_at.text) == ("raises", "scaler.unscale_(optimizer)")
    assert "after 1 step" in first.message


def test_another_program_fails_with_amp_off_too(verify):
    verdict = verify(SCRIPT, sources=CONVERTED.replace("scheduler.step()", "pass"))
    assert statuses(verdict)["L1"] == "fails"
    assert verdict.first.channel == "lr"


def test_values_that_are_logged(verify):
    verdict = verify(SCRIPT, sources=CONVERTED.replace("print(loss.item())", "print(scaler.scale(loss).item())"))
    (difference,) = verdict.level("L2").differences
    assert (difference.channel, difference.step) == ("values", 1)
    assert difference.candidate_at.text == "print(scaler.scale(loss).item())"


def test_changed_lines_that_never_ran(verify):
    verdict = verify(SCRIPT, sources=CONVERTED + "scaler.load_state_dict(scaler.state_dict())\n")
    assert verdict.word == "PLUMBING-EQUIVALENT"
    assert [place.text for place in verdict.unverified] == ["scaler.load_state_dict(scaler.state_dict())"]
    ran = verify(SCRIPT, "5", sources=CONVERTED + "scaler.load_state_dict(scaler.state_dict())\n")
    assert ran.unverified == ()
    assert any("made 5 of the 8 steps" in note for note in ran.notes)


def test_without_a_scaler_there_is_nothing_to_scale(verify):
    verdict = verify(SCRIPT, settings=Lookup({"dtype": "bfloat16"}))
    assert [verdict.level(name).status for name in EXACT] == ["holds", "holds"] + ["not applicable"] * 3
    assert verdict.unverified == ()


def test_every_optimizer_gets_an_overflow(verify):
    two = SCRIPT.replace(
        "    optimizer.zero_grad()\n", "    optimizer.zero_grad()\n    other.zero_grad()\n"
    ).replace("    optimizer.step()\n", "    optimizer.step()\n    other.step()\n")  # fmt: skip
    two = two.replace(
        "scheduler =",
        "bias = nn.Parameter(torch.zeros(1, device=device))\nother = torch.optim.Adam([bias])\nscheduler =",
    )
    two = two.replace("mse_loss(model(x), y)", "mse_loss(model(x) + bias, y)")
    verdict = verify(two)
    assert verdict.level("L2s").summary == "overflow at step 4 of optimizer 0, step 4 of optimizer 1"
    assert [verdict.level(name).status for name in EXACT] == ["holds"] * 5, verdict.first


def test_a_scheduler_that_is_guarded_against_skipped_steps(verify):
    plain = "    scaler.update()\n    scheduler.step()\n"
    guard = (
        "    before = scaler.get_scale()\n    scaler.update()\n    if scaler.get_scale() >= before:\n"
        "        scheduler.step()\n"
    )
    assert plain in CONVERTED
    verdict = verify(SCRIPT, sources=CONVERTED.replace(plain, guard))
    assert [verdict.level(name).status for name in EXACT] == ["holds"] * 5, verdict.first
    never = guard.replace(">= before", "< before")
    assert verify(SCRIPT, sources=CONVERTED.replace(plain, never)).word == "NOT EQUIVALENT"


def test_what_is_switched_off_is_told(verify):
    fused = SCRIPT.replace("momentum=0.9", "momentum=0.9, fused=True")
    compiled = fused.replace(".to(device)\n", ".to(device)\nmodel = torch.compile(model)\n", 1)
    verdict = verify(compiled)
    assert [verdict.level(name).status for name in EXACT] == ["holds"] * 5, verdict.first
    assert any("unfused" in note for note in verdict.notes)
    assert any("torch.compile" in note for note in verdict.notes)


def test_a_script_that_does_not_repeat_itself(verify):
    random = SCRIPT.replace("torch.manual_seed(0)", "import time\ntorch.manual_seed(time.time_ns() % 2**31)")
    verdict = verify(random)
    assert (verdict.word, verdict.status) == ("NOT COMPARABLE", 2)
    assert statuses(verdict)["L0"] == "fails"
    assert statuses(verdict)["L1"] == statuses(verdict)["L2"] == "band"
    assert "as near as reruns" in verdict.level("L1").summary
    assert verdict.reason.startswith("Two runs of the reference differ: The loss at backward call 1")
    assert [d.code for d in verdict.diagnostics] == ["AMP902"]


def before_the_model(line):
    return SCRIPT.replace("model = nn", f"{line}\nmodel = nn")


LBFGS = SCRIPT.replace("SGD(model.parameters(), lr=0.1, momentum=0.9)", "LBFGS(model.parameters())").replace(
    "optimizer.step()", "optimizer.step(lambda: loss)"
)
USELESS = {
    "raises": (before_the_model("raise ValueError('no')"), "before its first step, at .*:8: ValueError: no"),
    "raises later": (SCRIPT.replace("scheduler.step()", "open('/no/file')"), "after 1 step, at .*FileNotFoundError"),
    "never steps": (SCRIPT.replace("    optimizer.step()\n", ""), "ends without a step of an optimizer"),
    "syntax": ("import torch\nx = (\n", "SyntaxError"),
    "hangs": (before_the_model("while True: pass"), "before its first step, at .*:8: Timeout: not done after"),
    "refused": (LBFGS, "There is no AMP in the files .* can be converted"),
}


@pytest.mark.parametrize(("text", "words"), USELESS.values(), ids=USELESS)
def test_what_cannot_run_says_why(verify, text, words):
    verdict = verify(text, timeout=8.0)
    assert (verdict.word, verdict.status, verdict.levels) == ("CANNOT RUN", 2, ())
    assert re.search(words, verdict.reason), verdict.reason
    assert [d.code for d in verdict.diagnostics] == ["AMP902"]


def test_a_traceback_of_the_script_itself(verify):
    verdict = verify(SCRIPT.replace("model = nn", "raise ValueError('no data')\nmodel = nn"))
    assert "raise ValueError('no data')" in verdict.details
    assert "ampify" not in verdict.details.replace(verdict.title, "")


def test_an_interpreter_that_is_not_there(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, "utf-8")
    verdict = climb(Request(script=script, cwd=tmp_path, python=str(tmp_path / "python")))
    assert (verdict.word, verdict.levels) == ("CANNOT RUN", ())
    assert "cannot run the script" in verdict.reason


def test_a_module(workers, tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("", "utf-8")
    (package / "net.py").write_text("from torch import nn\n\n\ndef net():\n    return nn.Linear(4, 1)\n", "utf-8")
    whole = SCRIPT.replace("from torch import nn\n", "from torch import nn\nfrom .net import net\n")
    layers = "nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))"
    (package / "train.py").write_text(whole.replace(layers, "net()"), "utf-8")
    verdict = climb(Request(module="pkg.train", cwd=tmp_path, device="cpu"), workers=workers)
    assert verdict.word == "PLUMBING-EQUIVALENT", (verdict.reason, verdict.first)


def test_an_imitated_device_has_exact_levels_only(verify):
    only_cuda = SCRIPT.replace('torch.device("cuda" if torch.cuda.is_available() else "cpu")', 'torch.device("cuda")')
    refused = verify(only_cuda)
    assert refused.word == "CANNOT RUN"
    assert "`--fake-cuda` imitates CUDA" in refused.reason
    verdict = verify(only_cuda, fake_cuda=True, numerics=True, bench=True)
    assert [verdict.level(name).status for name in EXACT] == ["holds"] * 5, verdict.first
    assert verdict.level("L3").status == verdict.level("L4").status == "not run"
    assert any("imitated" in note for note in verdict.notes)


def test_numerics_and_bench(verify):
    verdict = verify(SCRIPT, numerics=True, bench=True)
    assert (verdict.word, verdict.level("L3").status) == ("EQUIVALENT", "holds"), verdict.level("L3")
    assert verdict.level("L4").summary == "not measured: no CUDA device"
    assert verdict.numerics.statistics
    assert any("stand-in" in note for note in verdict.notes)


def test_every_rank_of_a_launch(workers, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(RANKS, "utf-8")
    launch = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    request = Request(script=script, cwd=tmp_path, device="cpu", launch=launch, steps=3)
    wrong = RANKS.replace("* scale", "* (scale + (os.environ['RANK'] == '1'))")
    verdict = climb(request, sources=Sources({}, {script: wrong}, "given"))
    assert verdict.level("L0").status == "holds", (verdict.reason, verdict.details)
    assert verdict.word == "NOT EQUIVALENT"
    assert verdict.first.message.startswith("rank 1: ")


def test_kernels_that_repeat_themselves_only_where_torch_insists(verify):
    lenient = "if torch.is_deterministic_algorithms_warn_only_enabled():\n        loss = loss + os.urandom(1)[0]\n"
    script = SCRIPT.replace("import sys", "import os, sys").replace("loss.backward()", f"{lenient}    loss.backward()")
    verdict = verify(script, sources=script.replace("    scheduler.step()\n", ""))
    assert verdict.level("L0").status == "holds"
    assert verdict.level("L1").status == "fails"
    assert any("enforced" in note for note in verdict.notes)
