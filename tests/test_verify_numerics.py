"""L3 and L4: the null model holds what a correct conversion costs, and nothing else."""

import json
import math
import struct
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

from ampify.verify import bench, numerics
from ampify.verify.arms import Arm, Runs
from ampify.verify.numerics import Engaged
from ampify.verify.record import Outcome, read
from ampify.verify.request import Request
from ampify.verify.sources import Sources
from ampify.verify.worker.operations import Counts
from ampify.verify.worker.rounding import Rounding
from ampify.verify.workers import Workers

MODELS = {
    "mlp": """
        model = nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Dropout(0.1), nn.LayerNorm(64), nn.Linear(64, 10))
        teacher = torch.randn(20, 10)
        inputs = [torch.randn(16, 20) for _ in range(24)]
        data = [(x, (x @ teacher).argmax(1)) for x in inputs]
    """,
    "transformer": """
        class Transformer(nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding = nn.Embedding(64, 32)
                layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
                self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
                self.head = nn.Linear(32, 64)

            def forward(self, tokens):
                return self.head(self.encoder(self.embedding(tokens))).flatten(0, 1)

        model = Transformer()
        tokens = [torch.randint(0, 64, (8, 17)) for _ in range(24)]
        data = [(x[:, :-1], ((x[:, :-1] * 3 + 1) % 64).flatten()) for x in tokens]
    """,
    "recurrent": """
        class Recurrent(nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding, self.head = nn.Embedding(50, 24), nn.Linear(32, 5)
                self.layers = nn.LSTM(24, 32, num_layers=2, dropout=0.2, batch_first=True)

            def forward(self, tokens):
                return self.head(self.layers(self.embedding(tokens))[0][:, -1])

        model = Recurrent()
        tokens = [torch.randint(0, 50, (16, 12)) for _ in range(24)]
        data = [(x, x[:, -3:].sum(1) % 5) for x in tokens]
    """,
}
HEAD = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

torch.manual_seed({seed})
{model}
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
scaler = torch.amp.GradScaler("cpu", enabled={scaled})
"""
PLAIN = """
for x, y in data:
    optimizer.zero_grad()
    loss = cross_entropy(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
"""
AMP = """
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    scaler.step(optimizer)
    scaler.update()
"""
STALE = """
with torch.autocast("cpu", dtype=torch.bfloat16):
    for x, y in data:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
"""
CLIP = "    nn.utils.clip_grad_norm_(model.parameters(), 0.5)\n"
STALE_NAME = "one region around the loop"
MISTAKES = {
    "gradients 10 % too large": AMP.replace("scale(loss)", "scale(loss * 1.1)").replace("0.5)", "1e6)"),
    "clipped while scaled": AMP.replace("    scaler.unscale_(optimizer)\n", ""),
    STALE_NAME: STALE,
}


@pytest.fixture(scope="module")
def workers():
    with Workers(env={"OMP_NUM_THREADS": "1"}) as shared:
        yield shared


def program(model, loop, seed=0, scaled=True):
    return HEAD.format(seed=seed, model=dedent(MODELS[model]), scaled=scaled) + loop


@pytest.fixture
def runs(workers, tmp_path):
    """`runs(reference, candidate)`: what runs the arms of two programs."""

    def make(reference, candidate, **fields):
        script = tmp_path / "train.py"
        script.write_text(reference, "utf-8")
        request = Request(script=script, cwd=tmp_path, **fields)
        made = Runs(request, workers, lambda name: None)
        made.sources = Sources(reference={script: reference}, candidate={script: candidate})
        return made

    return make


def measured(made):
    return numerics.measure(made.run, made.request)


@pytest.mark.parametrize(("model", "seed"), [("mlp", 0), ("mlp", 1), ("transformer", 0), ("recurrent", 0)])
def test_a_correct_conversion_is_inside_the_band(runs, model, seed):
    result = measured(runs(program(model, PLAIN, seed, scaled=False), program(model, AMP, seed)))
    assert result.status == "holds", result.summary
    assert (result.dtype, result.device) == ("bfloat16", "CPU")
    assert all(0.05 < each.ratio < numerics.FACTOR for each in result.statistics)
    assert {each.name for each in result.statistics} == {"gradients", "parameters", "loss"}
    assert result.share > 0.9
    assert not result.escalated


@pytest.mark.parametrize(("model", "mistake"), [*(("mlp", each) for each in MISTAKES), ("transformer", STALE_NAME)])
def test_a_mistake_is_outside(runs, model, mistake):
    plain = PLAIN.replace("0.5)", "1e6)") if "10 %" in mistake else PLAIN
    result = measured(runs(program(model, plain, scaled=False), program(model, MISTAKES[mistake])))
    assert result.status == "fails"
    assert result.escalated
    assert "times as much as rounding explains" in result.summary


def test_float16_underflow_is_outside_and_a_scaler_mends_it(runs):
    """Gradients near 1e-7 are lost in float16 unless they are scaled: what a scaler is for."""
    tiny = {
        name: loop.replace("model(x), y)", "model(x), y) * 1e-5") for name, loop in (("plain", PLAIN), ("amp", AMP))
    }
    half = tiny["amp"].replace("bfloat16", "float16")
    reference = program("mlp", tiny["plain"], scaled=False)
    assert measured(runs(reference, program("mlp", half))).status == "holds"
    lost = measured(runs(reference, program("mlp", half, scaled=False)))
    assert lost.status == "fails"
    assert lost.statistics[0].name == "gradients"
    assert lost.statistics[0].exceeds


def test_without_autocast_nothing_is_engaged(runs):
    reference = program("mlp", PLAIN, scaled=False)
    result = measured(runs(reference, reference))
    assert (result.status, result.share) == ("fails", 0.0)
    assert "not engaged" in result.summary


def test_regions_for_cuda_are_forced_on_without_it(runs):
    reference = program("mlp", PLAIN, scaled=False)
    candidate = program("mlp", AMP.replace('autocast("cpu", dtype=torch.bfloat16)', 'autocast("cuda")'), scaled=False)
    result = measured(runs(reference, candidate))
    assert (result.status, result.dtype) == ("holds", "bfloat16")
    assert any("forced on" in note for note in result.notes)


def test_a_candidate_that_fails_with_amp_on(runs):
    broken = AMP.replace(
        "model(x), y)", "model(x), y.float().mean() + model(x).to(torch.bfloat16) @ torch.ones(10, 1))"
    )
    result = measured(runs(program("mlp", PLAIN, scaled=False), program("mlp", broken)))
    assert result.status == "fails"
    assert "with AMP on the candidate fails" in result.summary


def test_l4_needs_cuda(runs):
    made = runs(program("mlp", PLAIN, scaled=False), program("mlp", AMP))
    outcome = made.run(Arm("L4", "candidate", bench.TIMED))
    if outcome.record.named("bench")[0]["device"] is None:
        assert bench.measure(made.run, made.request).summary == "not measured: no CUDA device"
    assert outcome.record.end.status == "completed"  # 24 steps: fewer than warm-up and iterations


def test_timed_runs_stop(runs):
    made = runs(program("mlp", PLAIN, scaled=False), program("mlp", AMP))
    fields = {**bench.TIMED, "bench": {"warmup": 2, "iterations": 3}}
    outcome = made.run(Arm("L4", "candidate", fields))
    assert outcome.record.end.status == "stopped"
    assert [each.kind for each in outcome.record.events if each.kind not in ("other", "start", "files", "end")] == []


RANDOM = """
import json
import torch
from torch import nn

draws = {
    "randn_like": torch.randn_like, "rand": lambda x: torch.rand(500, dtype=x.dtype),
    "normal_": lambda x: x.clone().normal_(), "exponential_": lambda x: x.clone().exponential_(),
    "native_dropout": lambda x: torch.native_dropout(x, 0.5, True)[0], "dropout": nn.functional.dropout,
    "rrelu": lambda x: nn.functional.rrelu(x - 1, training=True), "bernoulli": torch.bernoulli,
}

def drawn(draw, dtype):
    torch.manual_seed(5)
    made = draw(torch.full((500,), 0.5).to(dtype))
    assert made.dtype == dtype
    return made.double()

halves = (torch.float16, torch.bfloat16)
print(json.dumps([name for name, draw in draws.items() for dtype in halves
                  if not torch.allclose(drawn(draw, torch.float32), drawn(draw, dtype), rtol=0.01, atol=0.01)]))
"""


@pytest.mark.parametrize("masks", [True, False])
def test_random_numbers_do_not_depend_on_the_dtype(runs, masks):
    program = RANDOM if masks else RANDOM.replace("(torch.float16, torch.bfloat16)", "(torch.bfloat16,)")  # no rrelu
    outcome = runs(program, program).run(Arm("random", "reference", {"masks": masks}))
    differ = json.loads(outcome.output.splitlines()[-1])
    assert (not differ) if masks else "randn_like" in differ


ATTENTION = """
import json
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as attend

def drawn(dtype, **options):
    torch.manual_seed(5)
    query, key = torch.randn(2, 4, 6, 8), torch.randn(2, options.pop("heads", 4), 6, 8)
    torch.manual_seed(6)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return attend(query, key, key, **options).float()

cases = [{}, {"is_causal": True}, {"attn_mask": torch.ones(6, 6).tril() > 0}, {"attn_mask": torch.ones(6, 6)},
         {"scale": 0.3}, {"heads": 2, "enable_gqa": True}]

def far(left, right):
    return (left - right).abs().max().item()

whole = [far(drawn(torch.float32, **case), drawn(torch.float32, dropout_p=1e-9, **case)) for case in cases]
halves = [far(drawn(torch.float32, dropout_p=p), drawn(torch.bfloat16, dropout_p=p)) for p in (0.3, 0.9)]
print(json.dumps([whole, halves]))
"""


def test_attention_is_taken_apart_only_where_it_drops(runs):
    outcome = runs(ATTENTION, ATTENTION).run(Arm("attention", "reference", {"masks": True}))
    whole, halves = json.loads(outcome.output.splitlines()[-1])
    assert max(whole) < 1e-5
    assert max(halves) < 0.1


RECURRENT = """
import json
import torch
from torch import nn

kinds = [(nn.LSTM, {}), (nn.LSTM, {"bidirectional": True}), (nn.LSTM, {"proj_size": 3}), (nn.LSTM, {"bias": False}),
         (nn.LSTM, {"batch_first": True}), (nn.GRU, {"bidirectional": True}), (nn.RNN, {"nonlinearity": "relu"}),
         (nn.RNN, {"num_layers": 3})]
packed = nn.utils.rnn.pack_padded_sequence(torch.randn(7, 4, 5), [7, 5, 5, 2])

def trained(layer, x, dtype=None):
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        y, ends = layer(x)
        y = y.data if hasattr(y, "data") and hasattr(y, "batch_sizes") else y
        ends = ends if isinstance(ends, tuple) else (ends,)
        sum(each.float().square().sum() for each in (y, *ends)).backward()
    grads = [parameter.grad for parameter in layer.parameters()]
    for parameter in layer.parameters():
        parameter.grad = None
    return [y, *ends, *grads]

def far(left, right):
    return max((a.float() - b.float()).abs().max().item() for a, b in zip(left, right))

def layer(kind, options, dropout):
    torch.manual_seed(1)
    return kind(5, 6, **{"num_layers": 2, "dropout": dropout, **options})

whole = [far(trained(layer(*kind, 0.0), x), trained(layer(*kind, 1e-9), x))
         for kind in kinds for x in (torch.randn(7, 4, 5), packed)]
halves = [far(trained(layer(*kind, 0.5), x), trained(layer(*kind, 0.5), x, torch.bfloat16)) for kind in kinds
          for x in (torch.randn(7, 4, 5),)]
none = far(trained(layer(*kinds[0], 0.5), packed), trained(layer(*kinds[0], 0.0), packed))
print(json.dumps([whole, halves, none]))
"""


def test_recurrent_layers_are_taken_apart_only_where_they_drop(runs):
    outcome = runs(RECURRENT, RECURRENT).run(Arm("recurrent", "reference", {"masks": True}))
    whole, halves, none = json.loads(outcome.output.splitlines()[-1])
    assert max(whole) < 1e-5
    assert max(halves) < 0.5 < none


def test_recurrent_layers_keep_their_kernel(runs):
    made = runs(program("recurrent", PLAIN, scaled=False), program("recurrent", AMP))
    outcome = made.run(Arm("recurrent", "candidate", {"masks": True, "count": True, "steps": 2}))
    found = {name.partition(":")[0] for event in outcome.record.named("ops") for name in event}
    assert "mkldnn_rnn_layer" in found


def rounded(function, dtype="bfloat16", guard=0, seed=0):
    with Rounding(dtype, seed, guard):
        return function()


def fits(tensor, dtype):
    return torch.equal(tensor.to(dtype).float(), tensor)


def test_rounding_keeps_exponents_and_is_fair():
    x = torch.randn(400, 400) * torch.tensor([1e-30, 1.0, 1e30, 1e-6]).repeat(100)
    mode = Rounding("float16", 0, 0)
    once = mode._round(x)
    assert torch.equal(mode._round(once), once)
    assert ((once - x).abs() <= x.abs() * 2.0**-10).all()
    assert abs(((once - x) / x).mean()) < 1e-5
    assert not torch.equal(once, mode._round(x))
    strange = torch.tensor([math.inf, -math.inf, math.nan, 0.0])
    strange = torch.cat([strange, torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)])
    assert torch.equal(mode._round(strange).isnan(), strange.isnan())
    assert torch.equal(mode._round(strange)[:2], strange[:2])


def test_rounding_draws_from_a_generator_of_its_own():
    x = leaf(8, 8)
    torch.manual_seed(3)
    plain = torch.rand(4)
    torch.manual_seed(3)
    results = [rounded(lambda: x @ x, seed=seed) for seed in (0, 1, 0)]
    assert torch.equal(plain, torch.rand(4))
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])


def test_guard_bits_are_coarser():
    x = leaf(200, 200)
    exact = x.double() @ x.double()
    errors = [(rounded(lambda: x @ x, guard=guard) - exact).norm() for guard in (0, 2)]
    assert 3 < errors[1] / errors[0] < 5


def test_other_dtypes_are_left_alone():
    x = leaf(8, 8).double()
    assert torch.equal(rounded(lambda: x @ x), x @ x)
    half = leaf(8, 8).to(torch.bfloat16)
    assert torch.equal(rounded(lambda: half @ half), half @ half)


def leaf(*shape):
    """Only what has to do with a gradient is rounded."""
    return torch.randn(*shape, requires_grad=True)


X, W, V, IMAGE, HEADS = leaf(4, 4), leaf(4, 4), leaf(4), leaf(2, 3, 8, 8), leaf(2, 2, 4, 8)
LOWERED = {
    "matmul": lambda: torch.matmul(X, W), "mm": lambda: torch.mm(X, W),
    "bmm": lambda: torch.bmm(HEADS[0], HEADS[1].mT), "addmm": lambda: torch.addmm(X, X, W),
    "addbmm": lambda: torch.addbmm(X, HEADS[0][:, :, :4], HEADS[1][:, :, :4]), "linear": lambda: linear(X, W, V),
    "baddbmm": lambda: torch.baddbmm(HEADS[:, 0, :, :4], HEADS[0][:, :, :4], HEADS[1][:, :, :4]),
    "einsum": lambda: torch.einsum("ij,kj->ik", X, W), "multi_dot": lambda: torch.linalg.multi_dot([X, W, X]),
    "tensordot": lambda: torch.tensordot(X, W, 1),
    "conv1d": lambda: nn.functional.conv1d(IMAGE[0], torch.randn(2, 8, 3)),
    "conv2d": lambda: nn.functional.conv2d(IMAGE, torch.randn(2, 3, 3, 3)),
    "conv_transpose2d": lambda: nn.functional.conv_transpose2d(IMAGE, torch.randn(3, 2, 3, 3)),
    "attention": lambda: scaled_dot_product_attention(HEADS, HEADS, HEADS),
}  # fmt: skip


@pytest.mark.parametrize("name", LOWERED)
def test_what_autocast_lowers_is_rounded_and_counted(name):
    torch.manual_seed(0)
    with Counts() as counts, torch.autocast("cpu", dtype=torch.bfloat16):
        LOWERED[name]()
    assert all(each.endswith(":bfloat16") for each in counts.found)
    assert sum(entry["flops"] for entry in counts.found.values()) > 0
    assert not fits(LOWERED[name](), torch.bfloat16)
    assert fits(rounded(LOWERED[name]), torch.bfloat16)


def test_only_the_model_is_rounded():
    """A label that flips because a script makes its data with a matrix product is no matter of precision."""
    plain, other, frozen = torch.randn(8, 8), torch.randn(8, 8), nn.Linear(8, 8).requires_grad_(requires_grad=False)
    assert not fits(rounded(lambda: plain @ other), torch.bfloat16)
    assert torch.equal(rounded(lambda: plain @ other), plain @ other)
    assert fits(rounded(lambda: frozen(plain)), torch.bfloat16)
    call = nn.Module.__call__
    with pytest.raises(RuntimeError):
        rounded(lambda: frozen(torch.randn(3)))
    assert nn.Module.__call__ is call


def test_backward_passes_are_rounded_and_counted():
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(), nn.Flatten(), nn.Linear(144, 2))

    def gradients():
        layer.zero_grad()
        layer(IMAGE).square().sum().backward()
        return [layer[0].weight.grad, layer[3].weight.grad]

    assert all(fits(each, torch.bfloat16) for each in rounded(gradients))
    with Counts() as counts:
        gradients()
    assert counts.found["convolution_backward:float32"]["calls"] == 1


def test_work_is_counted_as_products_and_sums():
    layers = nn.LSTM(4, 8, batch_first=True)
    with Counts() as counts, torch.no_grad():
        torch.mm(torch.ones(3, 4), torch.ones(4, 5))
        torch.mv(torch.ones(3, 4), torch.ones(4))
        scaled_dot_product_attention(*torch.ones(3, 1, 2, 5, 8))
        layers(torch.ones(2, 7, 4))
    with torch.inference_mode(), counts:
        linear(torch.ones(6, 4), torch.ones(5, 4))
    flops = {name.partition(":")[0]: entry["flops"] for name, entry in counts.found.items()}
    assert flops.pop("addmm", 0) + flops.pop("mm") + flops.pop("linear", 0) == 2 * (3 * 4 * 5) + 2 * (6 * 4 * 5)
    assert flops.pop("mv") == 2 * 3 * 4
    assert flops.pop("_scaled_dot_product_flash_attention_for_cpu") == 2 * (2 * 2 * 5 * 5 * 8)
    assert flops == {"mkldnn_rnn_layer": 2 * 14 * (32 * 4 + 32 * 8)}


class Made:
    """Made-up records: ``steps`` attempts, each with a loss, a gradient and parameters; ``off`` moves them away."""

    def __init__(self, folder, *, off=0.0, last=0.0, loss=0.0, skipped=(), steps=3, dtype="float32", outputs=0.0):
        self.folder, self.offset, self.sketches = folder, 0, b""
        folder.mkdir()
        self.lines = [{"k": "start", "torch": "2", "python": "3", "cuda": None, "pid": 1, "rank": 0}]
        self.sketch("start", 0, [0.0, 0.0], [0.0])
        for n in range(1, steps + 1):
            out = n in skipped
            root = {"i": n, "d": f"{off}{loss}", "dtype": "float32", "scale": 1.0}
            self.add("backward", **root, x=outputs, size=64)
            self.add("backward", **root, x=math.inf if out else 2.0 + loss, size=1)
            if not out:
                self.add("grads", o=0, n=n, d=[f"{off}"], lr=[0.1], via="scaler")
                self.sketch("grads", n, [3.0 + off, 0.0], [4.0])
            self.add("params", o=0, n=n, d=[], b=[], skipped=out)
            self.sketch("params", n, [3.0 * n + last, 0.0], [4.0 * n])
        self.add("names", o=0, params=["first", "second"], buffers=[])
        self.add("ops", **{f"mm:{dtype}": {"calls": 2, "flops": 60}, "mm:float32": {"calls": 1, "flops": 40}})
        self.end(steps)

    def add(self, kind, **fields):
        self.lines.append({"k": kind, **{name: str(x) if x == math.inf else x for name, x in fields.items()}})

    def sketch(self, what, n, *tensors):
        sizes = [len(each) for each in tensors]
        self.add("sketch", what=what, o=0, n=n, file="sketch.bin", offset=self.offset, sizes=sizes)
        self.sketches += b"".join(struct.pack(f"<{len(each)}f", *each) for each in tensors)
        self.offset += 4 * sum(sizes)

    def end(self, steps):
        ended = {"status": "stopped", "code": 0, "error": None, "seconds": 1.0, "swallowed": False}
        self.add("end", attempts={0: steps}, **ended)

    @property
    def outcome(self):
        (self.folder / "sketch.bin").write_bytes(self.sketches)
        (self.folder / "record.jsonl").write_text("\n".join(map(json.dumps, self.lines)), "utf-8")
        return Outcome(read(self.folder), "exit", 0, 1.0, "", "")


@pytest.fixture
def judged(tmp_path):
    """`judged(candidate, nulls, wide)`: the verdict on made-up runs, by their deviations."""

    def judge(candidate, nulls=({"off": 0.1},), wide=({"off": 0.2},), skipped=()):
        def made(name, fields):
            return Made(tmp_path / name, **{"skipped": skipped, **fields}).outcome

        control = made("control", {})
        near, far = (
            [made(f"{kind}{i}", each) for i, each in enumerate(given)] for kind, given in (("n", nulls), ("w", wide))
        )
        return numerics.judge(Engaged(made("candidate", {"dtype": "float16", **candidate})), control, near, far)

    return judge


def values(result):
    return {each.name: (each.value, each.null, each.wide) for each in result.statistics}


def test_statistics_are_relative(judged):
    result = judged({"off": 0.5, "last": 3.0, "loss": 0.2}, [{"off": 0.1, "last": 1.5}], [{"off": 1.0, "loss": -0.4}])
    found = values(result)
    assert found["gradients"] == pytest.approx((0.5 / 5, 0.1 / 5, 1.0 / 5), rel=1e-6)
    assert found["parameters"] == pytest.approx((3 / 15, 1.5 / 15, 0.0), rel=1e-6)
    assert found["loss"] == pytest.approx((0.1, 0.0, 0.2))
    assert (result.dtype, result.share, result.attempts) == ("float16", 0.6, 3)
    assert result.layers == (numerics.Layer("first", pytest.approx(0.5 / 3), pytest.approx(0.1 / 3)),)


@pytest.mark.parametrize(
    ("off", "wide", "status"), [(0.29, 0.2, "holds"), (0.31, 0.2, "fails"), (0.31, 0.4, "holds"), (0.29, 0.0, "holds")]
)
def test_both_nulls_must_be_exceeded(judged, off, wide, status):
    assert judged({"off": off}, [{"off": 0.1}, {"off": 0.05}], [{"off": wide}]).status == status


@pytest.mark.parametrize("strange", [{"off": math.inf}, {"off": 0.1, "last": math.nan}, {"loss": math.nan}])
def test_what_is_not_finite_fails(judged, strange):
    result = judged(strange)
    assert (result.status, "not finite" in result.summary) == ("fails", True)


def test_the_sum_of_many_outputs_is_no_loss(judged):
    result = judged({"off": 0.1, "outputs": math.inf})
    assert result.status == "holds"
    assert result.losses == {"reference": (2.0,) * 3, "candidate": (2.0,) * 3}


def test_the_bits_of_float32_are_no_amp(judged):
    assert "the bits of float32" in judged({}).summary


def test_skipped_steps_are_left_out(judged):
    result = judged({"off": 0.1, "loss": 0.0}, skipped=(1,))
    assert result.status == "holds"
    assert (result.skipped, result.attempts) == (1, 3)
    assert values(result)["gradients"][0] == pytest.approx(0.1 / 5)


def test_health_is_noted(judged):
    result = judged({"off": 1.0, "steps": 12}, [{"off": 2.0}], skipped=(7, 8, 9))
    assert any("3 of the last 7 steps were skipped" in note for note in result.notes)
    assert any("rounding alone moves the gradient by 40%" in note for note in result.notes)


def test_gradients_that_vanish_are_named(judged):
    result = judged({"off": -3.0})
    assert result.status == "fails"
    assert result.notes == ("gradients that vanish with AMP on: first",)


def test_the_runs_are_planned_around_the_skipped_steps(tmp_path):
    candidate = Made(tmp_path / "candidate", skipped=(1, 3)).outcome
    plan = numerics.plan(candidate, Request(script=Path("train.py"), steps=30), "float16")
    arms = (plan.control, *plan.nulls, *plan.wide, *plan.more)
    assert [len(each) for each in (plan.nulls, plan.wide, plan.more)] == [3, 4, 16]
    assert {each.side for each in arms} == {"reference"}
    skip = ({"optimizer": 0, "attempt": 1}, {"optimizer": 0, "attempt": 3})
    assert all(each.fields["skip"] == skip and each.fields["masks"] and each.fields["steps"] == 30 for each in arms)
    assert {each.fields["rounding"]["guard"] for each in plan.nulls} == {0}
    assert {each.fields["rounding"]["guard"] for each in (*plan.wide, *plan.more)} == {2}
    assert len({json.dumps(each.fields["rounding"]) for each in arms[1:]}) == 23
    assert "rounding" not in plan.control.fields


def timed(**milliseconds):
    return tuple(
        bench.Timed(name, (ms, ms + 1, ms + 2, ms + 3, 100.0), memory) for name, (ms, memory) in milliseconds.items()
    )


def test_l4_says_what_is_gained():
    result = bench.judge(timed(float32=(18.0, 1000), TF32=(8.0, 900), AMP=(3.0, 500)), "GPU", 0.9)
    assert result.summary == "x4.00 against float32, x2.00 against TF32; memory x0.50"
    assert (result.of("TF32").median_ms, result.of("AMP").spread_ms) == (10.0, 2.0)
    assert result.notes == ()


def test_l4_says_when_it_is_not_worth_it():
    result = bench.judge(timed(float32=(18.0, 1000), TF32=(2.0, 900), AMP=(3.0, 1100)), "GPU", 0.3)
    assert "slower than TF32, not worth it for speed" in result.summary
    assert result.speedup("TF32") == pytest.approx(0.8)
    assert result.notes == ("only 30% of the matrix work is in low precision",)


def test_l4_times_the_script_as_it_is():
    arms = bench.plan(Request(script=Path("train.py"), dtype="bfloat16"))
    assert {name: arm.side for name, arm in arms.items()} == {
        "float32": "reference", "TF32": "reference", "AMP": "candidate",
    }  # fmt: skip
    assert [arm.fields.get("tf32") for arm in arms.values()] == [False, True, None]
    assert not any(arm.fields["record"] or arm.fields["deterministic"] for arm in arms.values())
    assert arms["AMP"].fields["dtype"] == "bfloat16"
