"""What only a CUDA device can show: the ladder on it, digests made there, mixed precision as it is used.

``scripts/gpu_check.sh`` runs these; elsewhere they are left out by the marker.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mutants import CLIPPED, MUTANTS, SIMPLE, Loop, edited

from ampify.config import Settings
from ampify.engine import fix_text
from ampify.verify.job import Job
from ampify.verify.ladder import climb
from ampify.verify.record import Grads, Outcome
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.verdict import Verdict
from ampify.verify.workers import Workers

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]

GPT = Path(__file__).parents[1] / "fixtures" / "verify" / "gpt.py"
SMALL = tuple(shlex.split("--layers 2 --width 128 --heads 4 --vocabulary 256 --context 64 --steps 32 --warmup 2"))


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(sys.executable) as opened:
        yield opened


def verify(folder: Path, workers: Workers, original: str, candidate: str, **wanted: object) -> Verdict:
    script = folder / "train.py"
    script.write_text(original, "utf-8")
    request = Request(script=script, cwd=folder, device="cuda", **wanted)
    return climb(request, sources=Sources({script: original}, {script: candidate}, "given"), workers=workers)


def statuses(verdict: Verdict) -> dict[str, str]:
    return {level.name: level.status for level in verdict.levels}


def recorded(folder: Path, workers: Workers, text: str, **fields: object) -> Outcome:
    """One run of a script."""
    script = folder / "script.py"
    script.write_text(text, "utf-8")
    job = Job(out=workers.arm("test"), script=script, cwd=folder, roots=(folder,), device="cuda", **fields)
    outcome = workers.run(job)
    assert outcome.record.end is not None, outcome.output
    return outcome


DIGESTS = """\
import torch
tensor = torch.arange(100_000, dtype=torch.int32).view(torch.float32).reshape(100, 1000)[:, :999].to("{device}")
tensor = torch.cat([tensor, torch.randn(100, 1, generator=torch.Generator().manual_seed(1)).to("{device}")], dim=1)
weight = torch.nn.Parameter(torch.zeros_like(tensor))
optimizer = torch.optim.SGD([weight], lr=0.0)
for _ in range(3):
    weight.grad = tensor.clone(){change}
    optimizer.step()
"""


def gradient_digest(folder: Path, workers: Workers, device: str, change: str = "") -> str:
    folder.mkdir()
    outcome = recorded(folder, workers, DIGESTS.format(device=device, change=change), steps=2)
    (digest,) = outcome.record.of(Grads)[0].d
    assert digest is not None
    return digest


def test_a_digest_made_on_the_device_is_the_one_made_on_the_cpu(tmp_path: Path, workers: Workers) -> None:
    there, here = (gradient_digest(tmp_path / device, workers, device) for device in ("cuda", "cpu"))
    flipped = gradient_digest(tmp_path / "flipped", workers, "cuda", "; weight.grad[7, 7].neg_()")
    assert there == here
    assert flipped != there


@pytest.mark.parametrize("loop", [SIMPLE, CLIPPED], ids=lambda loop: loop.name)
def test_the_exact_levels_hold_on_cuda(loop: Loop, tmp_path: Path, workers: Workers) -> None:
    for optimizer in loop.optimizers:
        spelled = map(optimizer.spell, (loop.original, loop.converted))
        verdict = verify(tmp_path, workers, *spelled)
        assert verdict.word == "PLUMBING-EQUIVALENT", (verdict.reason, verdict.first)
        assert {statuses(verdict)[name] for name in ("L0", "L1", "L2", "L2s")} == {"holds"}


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_fused_optimizers_run_unfused_in_the_exact_arms(optimizer: str, tmp_path: Path, workers: Workers) -> None:
    fused = (("optim.SGD(", f"optim.{optimizer}("), (", lr=0.05, momentum=0.9", ", lr=0.01, fused=True"))
    texts = (edited(text, fused) for text in (SIMPLE.original, SIMPLE.converted))
    verdict = verify(tmp_path, workers, *texts)
    assert verdict.word == "PLUMBING-EQUIVALENT", (verdict.reason, verdict.first)
    assert any("unfused" in note for note in verdict.notes)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_gpt_with_dropout_and_attention_stays_within_its_precision(
    dtype: str, tmp_path: Path, workers: Workers
) -> None:
    original = GPT.read_text("utf-8")
    candidate = fix_text(original, Settings(dtype=dtype))[0]
    assert f"torch.{dtype}" in candidate
    verdict = verify(tmp_path, workers, original, candidate, args=SMALL, numerics=True)
    assert verdict.word == "EQUIVALENT", (verdict.reason, verdict.first, statuses(verdict))
    assert statuses(verdict)["L3"] == "holds"


ATTENDS = """\
import torch
import torch.nn.functional as F
from torch import nn

qkv, out = nn.Linear(768, 3 * 768).cuda(), nn.Linear(768, 768).cuda()
optimizer = torch.optim.SGD([*qkv.parameters(), *out.parameters()], lr=0.05, momentum=0.9)
for step in range(8):
    x = torch.randn(8, 1024, 768, device="cuda")
    optimizer.zero_grad()
    q, k, v = (each.view(8, 1024, 12, 64).transpose(1, 2) for each in qkv(x).split(768, dim=2))
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    loss = F.mse_loss(out(attended.transpose(1, 2).reshape(8, 1024, 768)), x)
    loss.backward()
    optimizer.step()
"""
POOLS = """\
import torch
import torch.nn.functional as F
from torch import nn

model = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for step in range(8):
    images, targets = torch.randn(8, 3, 64, 64, device="cuda"), torch.randn(8, 32, 99, 99, device="cuda")
    optimizer.zero_grad()
    loss = F.mse_loss(F.adaptive_avg_pool2d(model(images), (99, 99)), targets)
    loss.backward()
    optimizer.step()
"""


def test_a_kernel_that_repeats_itself_only_where_torch_insists(tmp_path: Path, workers: Workers) -> None:
    verdict = verify(tmp_path, workers, ATTENDS, fix_text(ATTENDS, Settings())[0])
    assert verdict.word == "PLUMBING-EQUIVALENT", (verdict.reason, verdict.first)
    assert any("deterministic algorithms are enforced" in note for note in verdict.notes), verdict.notes


def test_a_kernel_that_never_repeats_itself_is_named(tmp_path: Path, workers: Workers) -> None:
    verdict = verify(tmp_path, workers, POOLS, fix_text(POOLS, Settings())[0])
    assert verdict.word == "NOT COMPARABLE", (verdict.reason, verdict.first)
    assert "adaptive_avg_pool2d_backward_cuda" in verdict.reason


def test_a_stale_weight_cache_is_caught(tmp_path: Path, workers: Workers) -> None:
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == "one autocast around the whole loop")
    verdict = verify(tmp_path, workers, mutant.original, mutant.text, numerics=True)
    assert verdict.word == "NOT EQUIVALENT"
    assert statuses(verdict)["L3"] == "fails"


def test_time_and_memory_are_measured(tmp_path: Path, workers: Workers) -> None:
    original = GPT.read_text("utf-8")
    verdict = verify(tmp_path, workers, original, fix_text(original, Settings())[0], args=SMALL, bench=True)
    assert verdict.level("L4").status == "holds", verdict.level("L4")
    assert verdict.bench is not None


GROWS = """\
import torch

model = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(8)]).cuda()
optimizer = torch.optim.AdamW(model.parameters())
for step in range(40):
    optimizer.zero_grad()
    model(torch.randn(16, 512, device="cuda")).square().mean().backward()
    optimizer.step()
    print("allocated", torch.cuda.memory_allocated())
"""


def test_recording_takes_no_more_memory_from_step_to_step(tmp_path: Path, workers: Workers) -> None:
    outcome = recorded(tmp_path, workers, GROWS, steps=100)
    allocated = [int(line.split()[1]) for line in outcome.output.splitlines() if line.startswith("allocated")]
    assert len(allocated) == 40
    assert max(allocated[20:]) <= max(allocated[4:20])
