"""What the recorder sees of a run: digests bit by bit, attempts, scalers, clipping, values; and what it forces."""

import hashlib
import itertools
import math
import textwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ampify.verify import record
from ampify.verify.job import Job
from ampify.verify.worker import digest, keep
from ampify.verify.workers import Workers

WORD = (1 << 64) - 1
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "int8": 1, "int16": 2, "int32": 4, "int64": 8}


def digests(*tensors):
    return digest.Digests(tensors).result()


def one(tensor):
    return digests(tensor)[0]


def weight(i):
    """splitmix64 of place `i`, odd."""
    z = (i + 1) * 0x9E3779B97F4A7C15 & WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31) | 1


def oracle(content, width, label, chunk):
    """The digest of some bytes, `width` of which are one number."""
    signed = width > 1  # torch has no unsigned numbers of 2 and more bytes that it can multiply
    words = [int.from_bytes(content[i : i + width], "little", signed=signed) for i in range(0, len(content), width)]
    total = 0
    for start in range(0, len(words), chunk):
        total = total * 0x9E3779B97F4A7C15 + sum(
            word * weight(i) for i, word in enumerate(words[start : start + chunk])
        )
    return hashlib.blake2b(f"{label} {total & WORD}".encode(), digest_size=8).hexdigest()


def tensor_of(content, dtype):
    return torch.frombuffer(bytearray(content), dtype=dtype)


class TestDigests:
    @given(content=st.binary(min_size=8, max_size=400), name=st.sampled_from(sorted(SIZES)))
    def test_they_are_what_plain_python_computes(self, content, name):
        content, size = content[: len(content) // 8 * 8], SIZES[name]
        tensor = tensor_of(content, getattr(torch, name))
        shape = (len(content) // size,)
        assert one(tensor) == oracle(content, min(size, 4), f"torch.{name} {shape} of {shape}", 1024)

    def test_chunks_are_folded_in_their_order(self, monkeypatch):
        monkeypatch.setitem(digest._CHUNK, "cpu", 8)
        content = bytes(range(160))
        assert one(tensor_of(content, torch.float32)) == oracle(content, 4, "torch.float32 (40,) of (40,)", 8)
        assert one(tensor_of(content[32:] + content[:32], torch.float32)) != one(tensor_of(content, torch.float32))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_one_ulp_one_sign_two_signs_and_the_order_tell(self, dtype):
        plain = torch.linspace(0.5, 1.5, 999, dtype=dtype)
        ulp, sign, order = plain.clone(), plain.clone(), plain.clone()
        ulp.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[plain.element_size()])[7] += 1
        sign[500] *= -1
        order[[3, 900]] = plain[[900, 3]]
        pairs = [plain.clone() for _ in range(200)]
        for (i, j), each in zip(itertools.combinations(range(30), 2), pairs, strict=False):
            each[[i, j]] *= -1
        found = [one(each) for each in (plain, ulp, sign, order, *pairs)]
        assert len({*found}) == 204
        assert one(plain.clone()) == found[0]

    def test_bits_tell_and_not_values(self):
        assert one(torch.tensor([0.0, 1.0])) != one(torch.tensor([-0.0, 1.0]))
        quiet = tensor_of(b"\x00\x00\xc0\x7f", torch.float32)
        other = tensor_of(b"\x01\x00\xc0\x7f", torch.float32)
        assert one(quiet) != one(other)
        assert one(quiet) == one(quiet.clone())

    def test_dtype_and_shape_tell(self):
        zeros = [torch.zeros(6), torch.zeros(2, 3), torch.zeros(7), torch.zeros(6, dtype=torch.int32), torch.zeros(())]
        empty = [torch.zeros(0), torch.zeros(0, 2), torch.zeros(0, dtype=torch.bool)]
        assert len({*digests(*zeros, *empty)}) == len(zeros) + len(empty)

    def test_the_place_in_memory_does_not_tell(self):
        image = torch.randn(2, 3, 4, 5)
        assert one(image.to(memory_format=torch.channels_last)) == one(image)
        assert one(image.transpose(1, 3)) == one(image.transpose(1, 3).contiguous()) != one(image)
        assert one(torch.arange(10.0)[::2]) == one(torch.tensor([0.0, 2, 4, 6, 8]))

    def test_company_does_not_tell(self):
        sizes = [3, 1000, 0, 3, 300_000, 100_000, 100_000, 100_000, 1]
        tensors = [torch.randn(size, dtype=dtype) for size in sizes for dtype in (torch.float32, torch.float64)]
        assert digests(*tensors) == [one(tensor) for tensor in tensors]
        many = [torch.full((2,), float(i)) for i in range(700)]
        assert digests(*many, None) == [*(one(tensor) for tensor in many), None]

    def test_complex_and_bool(self):
        z = torch.tensor([1 + 2j, 3 - 4j])
        assert one(z.conj()) == one(z.conj().resolve_conj()) != one(z)
        assert one(torch.tensor([True, False])) != one(torch.tensor([False, True]))

    @pytest.mark.filterwarnings("ignore:Sparse")
    def test_sparse_tensors_by_what_they_mean(self):
        def sparse(places, values):
            return torch.sparse_coo_tensor(torch.tensor([places]), torch.tensor(values), (5,), check_invariants=True)

        assert one(sparse([3, 1], [1.0, 2.0])) == one(sparse([1, 3], [2.0, 1.0]))
        assert one(sparse([1, 1, 3], [1.0, 1.0, 1.0])) == one(sparse([1, 3], [2.0, 1.0]))
        assert one(sparse([1, 3], [2.0, 1.0])) != one(sparse([1, 4], [2.0, 1.0]))
        rows = torch.eye(3).to_sparse_csr()
        assert one(rows) == one(rows.clone()) != one(rows * 2)

    def test_a_missing_tensor_and_one_without_data(self):
        missing, meta, whole = digests(None, torch.empty(3, device="meta"), torch.ones(3))
        assert missing is None
        assert meta.startswith("? torch.float32 (3,): ")
        assert whole == one(torch.ones(3))

    def test_the_generator_does_not_move(self):
        before = torch.get_rng_state()
        digests(torch.ones(5000))
        digest.Sketches([torch.ones(5000)])
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_value_at_the_time_of_the_call(self):
        tensor = torch.ones(3)
        pending, number = digest.Digests([tensor]), digest.Number(tensor[0])
        tensor.zero_()
        assert pending.result() == [one(torch.ones(3))]
        assert number.result() == 1.0


def sketches(*tensors):
    found = digest.Sketches(tensors)
    numbers = torch.frombuffer(bytearray(found.result()), dtype=torch.float32)
    return found.sizes, torch.split(numbers, [max(0, size) for size in found.sizes])


class TestSketches:
    def test_sizes_and_small_tensors(self):
        sizes, (first, none, second) = sketches(torch.arange(5.0), None, torch.ones(3000))
        assert sizes == [5, -1, 1024]
        assert first.abs().tolist() == [0, 1, 2, 3, 4]
        assert len(none) == 0
        assert len(second) == 1024

    @pytest.mark.parametrize("count", [700, 5_000, 600_000])
    def test_the_distance_of_two_sketches_is_that_of_the_tensors(self, count):
        generator = torch.Generator().manual_seed(0)
        a = torch.randn(count, generator=generator)
        b = a + 0.01 * torch.randn(count, generator=generator)
        _, (x, y) = sketches(a, b)
        assert (x - y).norm().item() == pytest.approx((a - b).norm().item(), rel=0.1)

    def test_equal_elements_of_two_chunks_do_not_add_up(self):
        places = digest._CHUNK["cpu"]
        part = torch.randn(places, generator=torch.Generator().manual_seed(1))
        _, (x,) = sketches(torch.cat([part, part]))
        assert x.norm().item() == pytest.approx(math.sqrt(2) * part.norm().item(), rel=0.1)


class TestCompare:
    def difference(self, tmp_path, a, b):
        for name, tensor in (("a", a), ("b", b)):
            keep.save(tensor, str(tmp_path), name)
        (found,) = keep.compare({"pairs": [[str(tmp_path / "a"), str(tmp_path / "b")]]})["pairs"]
        return found

    def test_equal_ones(self, tmp_path):
        found = self.difference(tmp_path, torch.ones(2, 3), torch.ones(2, 3))
        assert found == {
            "same": True, "shape": [[2, 3], [2, 3]], "dtype": ["float32", "float32"], "elements": 6, "differ": 0,
        }  # fmt: skip

    def test_where_and_how_much(self, tmp_path):
        a = torch.zeros(2, 3)
        b = a.clone()
        b[0, 2], b[1, 1] = 0.5, -2.0
        found = self.difference(tmp_path, a, b)
        assert (found["differ"], found["largest"], found["tiny"]) == (2, 2.0, False)
        assert found["first"] == {"index": [0, 2], "values": [0.0, 0.5]}
        assert found["worst"] == {"index": [1, 1], "values": [0.0, -2.0]}

    def test_only_subnormal_differences_are_tiny(self, tmp_path):
        a, tiny, small = torch.ones(3) * 2**-130, torch.ones(3) * 2**-131, torch.ones(3) * 2**-124
        assert self.difference(tmp_path, a, tiny)["tiny"] is True
        assert self.difference(tmp_path, a, small)["tiny"] is False

    def test_signs_of_zero_and_what_is_not_finite(self, tmp_path):
        a, b = torch.tensor([0.0, math.inf, 1.0]), torch.tensor([-0.0, math.inf, math.nan])
        found = self.difference(tmp_path, a, b)
        assert (found["differ"], found["largest"], found["tiny"]) == (2, "nan", False)
        assert found["worst"]["values"] == [1.0, "nan"]

    def test_missing_and_other_shapes(self, tmp_path):
        assert self.difference(tmp_path, None, None)["same"] is True
        assert self.difference(tmp_path, None, torch.ones(1))["shape"] == [None, [1]]
        assert "differ" not in self.difference(tmp_path, torch.ones(2), torch.ones(3))


@pytest.fixture(scope="module")
def workers():
    with Workers() as found:
        yield found


@pytest.fixture
def play(workers, tmp_path):
    """Run a script; returns its outcome."""

    def run(text, **job):
        script = tmp_path / "train.py"
        script.write_text(PREAMBLE + textwrap.dedent(text), "utf-8")
        given = {"steps": 4, "timeout": 60.0, "threads": 1, "device": "cpu", **job}
        out = workers.arm("test")
        return workers.run(Job(out=out, script=script, cwd=tmp_path, roots=(tmp_path,), **given))

    return run


PREAMBLE = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
"""

PLAIN = """
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(20):
        loss = F.cross_entropy(model(torch.randn(16, 4)), torch.randint(3, (16,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item())
"""

SCALED = """
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=torch.cuda.is_available())
    for step in range(20):
        with torch.autocast("cuda", enabled=torch.cuda.is_available()):
            loss = F.cross_entropy(model(torch.randn(16, 4)), torch.randint(3, (16,)))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        print(loss.item())
"""

FORCED = {"scaler": "walk", "autocast": "off", "unfused": True}


def recorded(outcome):
    """The record of a run that was stopped in order."""
    assert outcome.record.end is not None, outcome.output
    assert outcome.record.end.status == "stopped", outcome.output
    assert not outcome.record.named("fault")
    return outcome.record


def states(found):
    """Gradients and parameters at each attempt."""
    grads = {(event.o, event.n): (event.d, event.lr) for event in found.of(record.Grads)}
    return grads, [(event.o, event.n, event.d, event.b, event.skipped) for event in found.of(record.Params)]


class TestSteps:
    def test_what_is_recorded_of_one_iteration(self, play):
        found = recorded(play(PLAIN, steps=1))
        kinds = [event.kind for event in found.events]
        first, last = kinds[:7], kinds[7:]
        assert first == ["start", "optimizer", "backward", "grads", "params", "value", "backward"]
        assert {*last} >= {"names", "end"}
        assert {event.at[1] for event in found.of(record.Backward)} == {12}

    def test_a_scaler_that_is_off_changes_no_bit_and_one_that_walks_neither(self, play):
        plain = recorded(play(PLAIN))
        off = recorded(play(SCALED, scaler="off", autocast="off"))
        walk = recorded(play(SCALED, **FORCED))
        assert states(plain) == states(off) == states(walk)
        roots = [[(event.d, event.x) for event in found.of(record.Backward)] for found in (plain, off, walk)]
        assert roots[0] == roots[1] == roots[2]
        values = [[event.x for event in found.of(record.Value)] for found in (plain, off, walk)]
        assert values[0] == values[1] == values[2]
        assert len(values[0]) == 4
        assert {event.via for event in walk.of(record.Grads)} == {"scaler"}

    def test_the_run_stops_where_the_next_attempt_would_begin(self, play):
        outcome = play(PLAIN, steps=3)
        assert len(recorded(outcome).of(record.Params)) == 3
        assert len(outcome.output.splitlines()) == 3  # the tail of the third iteration ran
        assert dict(recorded(outcome).end.attempts) == {0: 3}

    def test_the_optimizer_that_is_first_to_have_made_all_attempts_stops_the_run(self, play):
        found = recorded(
            play(
                """
                a, b = (nn.Linear(2, 2) for _ in range(2))
                one, two = torch.optim.Adam(a.parameters()), torch.optim.SGD(b.parameters(), lr=1.0)
                for step in range(50):
                    (a(torch.ones(1, 2)).sum() + b(torch.ones(1, 2)).sum()).backward()
                    if step % 3 == 0:
                        one.step()
                    two.step()
                """,
                steps=5,
            )
        )
        assert dict(found.end.attempts) == {0: 2, 1: 5}
        assert [(event.type, event.params) for event in found.of(record.Optimizer)] == [("Adam", 2), ("SGD", 2)]
        assert [event.o for event in found.of(record.Params)] == [0, 1, 1, 1, 0, 1, 1]

    def test_a_suppressed_step_leaves_parameters_and_state_alone(self, play):
        names = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"]
        outcome = play(
            """
            import hashlib, io

            def bits(parameters, optimizer):
                file = io.BytesIO()
                torch.save([[p.detach().clone() for p in parameters], optimizer.state_dict()["state"]], file)
                return hashlib.md5(file.getvalue()).hexdigest()

            loops = []
            for name in ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"]:
                more = {"momentum": 0.9} if name == "SGD" else {}
                layer = nn.Linear(3, 2)
                loops.append((layer, getattr(torch.optim, name)(layer.parameters(), lr=0.1, **more)))
            for step in range(3):
                for layer, optimizer in loops:
                    optimizer.zero_grad()
                    layer(torch.randn(5, 3)).square().sum().backward()
                    before = bits(layer.parameters(), optimizer)
                    optimizer.step()
                    print("same" if bits(layer.parameters(), optimizer) == before else "other")
            """,
            steps=3,
            skip=tuple({"optimizer": o, "attempt": 2} for o in range(len(names))),
        )
        assert outcome.output.split() == ["other"] * 6 + ["same"] * 6 + ["other"] * 6
        assert [event.skipped for event in outcome.record.of(record.Params)] == [False] * 6 + [True] * 6 + [False] * 6

    def test_an_overflow_is_skipped_and_equals_a_suppressed_step(self, play):
        skip = ({"optimizer": 0, "attempt": 2},)
        control = recorded(play(PLAIN, skip=skip))
        found = recorded(play(SCALED, skip=skip, skip_by="overflow", **FORCED))
        assert states(found) == states(control)
        assert [event.stepped for event in found.of(record.Step)] == [True, False, True, True]
        assert [event.after for event in found.of(record.Update)] == [2**13, 2**12, 2**13, 2**14]
        assert states(found) != states(recorded(play(PLAIN)))

    def test_an_overflow_is_there_when_the_script_unscales(self, play):
        found = play(UNSCALED, skip=({"optimizer": 0, "attempt": 3},), skip_by="overflow", **FORCED)
        assert [line == "inf" for line in found.output.split()] == [False, False, True, False]
        assert [event.skipped for event in recorded(found).of(record.Params)] == [False, False, True, False]
        scales = [event.v for event in recorded(found).of(record.Unscale)]
        assert scales == [2**12, 2**13, 2**14, 2**13, 2**14]  # the run stops at the fifth step, behind its `unscale_`

    def test_steps_inside_of_a_step_belong_to_it(self, play):
        found = recorded(play(NESTED, steps=2))
        types = {event.o: event.type for event in found.of(record.Optimizer)}
        assert [types[event.o] for event in found.of(record.Params)] == ["Mine", "Outer", "Mine", "Outer"]
        rates = [event.lr[0] for event in found.of(record.Grads) if types[event.o] == "Mine"]
        assert rates == pytest.approx([0.1, 0.01])

    def test_a_closure_is_evaluated_before_its_attempt_begins(self, play):
        plain = recorded(play(CLOSED.replace("CALL", "closure(); optimizer.step()")))
        closed = recorded(play(CLOSED.replace("CALL", "optimizer.step(closure)")))
        named = recorded(play(CLOSED.replace("CALL", "optimizer.step(closure=closure)")))
        assert states(plain) == states(closed) == states(named)
        assert [len(found.of(record.Backward)) for found in (plain, closed, named)] == [5, 5, 5]

    def test_a_suppressed_step_still_evaluates_its_closure(self, play):
        skip = ({"optimizer": 0, "attempt": 2},)
        plain = recorded(play(CLOSED.replace("CALL", "closure(); optimizer.step()"), skip=skip))
        closed = recorded(play(CLOSED.replace("CALL", "optimizer.step(closure)"), skip=skip))
        assert states(plain) == states(closed)
        assert [event.skipped for event in closed.of(record.Params)] == [False, True, False, False]

    def test_lbfgs_is_one_attempt_a_step(self, play):
        text = CLOSED.replace("SGD(model.parameters(), lr=0.1)", "LBFGS(model.parameters())")
        found = recorded(play(text.replace("CALL", "optimizer.step(closure)")))
        assert [(event.o, event.n) for event in found.of(record.Grads)] == [(0, 1), (0, 2), (0, 3), (0, 4)]
        assert len(found.of(record.Backward)) > 8

    def test_fused_steps_are_recorded_unscaled_and_run_unfused_on_demand(self, play):
        fused = SCALED.replace("momentum=0.9", "momentum=0.9, fused=True")
        skip = {"skip": ({"optimizer": 0, "attempt": 2},), "skip_by": "overflow"}
        plain = states(recorded(play(SCALED, **FORCED)))
        walk = recorded(play(fused, **{**FORCED, "unfused": False}, **skip))
        assert states(walk)[0][0, 1] == plain[0][0, 1]
        assert [event.stepped for event in walk.of(record.Step)] == [True, False, True, True]
        assert [event.skipped for event in walk.of(record.Params)] == [False, True, False, False]
        assert states(recorded(play(fused, **FORCED))) == plain

    def test_names_of_parameters_and_buffers(self, play):
        (found,) = recorded(play(PLAIN, steps=1)).of(record.Names)
        assert found.params == ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias")
        assert found.buffers == ("1.running_mean", "1.running_var", "1.num_batches_tracked")

    def test_names_of_two_models_and_of_a_lone_parameter(self, play):
        (found,) = recorded(play(LONERS, steps=1)).of(record.Names)
        assert found.params == ("Linear.weight", "Linear.bias", "Other.inner.weight", "Other.inner.bias", "parameter 4")
        assert found.buffers == ("Other.mean",)

    def test_sketches_and_kept_tensors(self, play):
        wanted = (("grads", 0, 1, 0), ("params", 0, 2, 3), ("buffers", 0, 1, 2), ("backward", None, 1, 0))
        found = recorded(play(PLAIN, steps=2, sketch=True, keep=wanted))
        events = found.of(record.Sketch)
        assert [(event.what, event.n) for event in events] == [
            ("start", 0), ("grads", 1), ("params", 1), ("grads", 2), ("params", 2),
        ]  # fmt: skip
        assert [event.offset for event in events] == [4 * 83 * i for i in range(5)]
        assert (found.folder / events[0].file).stat().st_size == 5 * 4 * 83
        kept = {path.stem: torch.load(path) for path in (found.folder / "keep").iterdir()}
        names = [
            digests(kept[name])[0] for name in ("grads-0-1-0", "params-0-2-3", "buffers-0-1-2", "backward-None-1-0")
        ]
        grads, params = found.of(record.Grads), found.of(record.Params)
        assert names == [grads[0].d[0], params[1].d[3], params[0].b[2], found.of(record.Backward)[1].d]


UNSCALED = """
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    for step in range(20):
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(16, 4)).square().mean()).backward()
        scaler.unscale_(optimizer)
        largest = model.weight.grad.abs().max()
        scaler.step(optimizer)
        scaler.update()
        print(largest.item())
"""
NESTED = """
    class Mine(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    class Outer(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})
            self.inner = torch.optim.Adam(self.param_groups)

        def step(self, closure=None):
            return self.inner.step(closure)

    layer = nn.Linear(2, 2)
    mine, outer = Mine(layer.parameters(), lr=0.1), Outer(layer.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(mine, 1)
    for _ in range(9):
        layer(torch.ones(1, 2)).sum().backward()
        mine.step()
        outer.step()
        schedule.step()
"""
CLOSED = """
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(20):
        x = torch.randn(16, 4)

        def closure():
            optimizer.zero_grad()
            loss = (model(x).square() + model(x).sin()).mean()
            loss.backward()
            return loss

        CALL
"""
LONERS = """
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.register_buffer("mean", torch.zeros(2))

    first, other, lone = nn.Linear(2, 2), Other(), nn.Parameter(torch.ones(2))
    idle = nn.BatchNorm1d(2)
    optimizer = torch.optim.SGD([*first.parameters(), *other.parameters(), lone], lr=0.1)
    for _ in range(9):
        (other.inner(first(torch.ones(1, 2))) * lone).sum().backward()
        optimizer.step()
"""


class TestEnds:
    def test_finally_blocks_run_and_are_not_recorded(self, play):
        body = textwrap.indent(textwrap.dedent(PLAIN), "    ")
        outcome = play(f"try:\n{body}\nfinally:\n    print('cleaned', loss.item())\n", steps=2)
        assert "cleaned" in outcome.output
        assert not recorded(outcome).end.swallowed
        assert len(outcome.record.of(record.Value)) == 2

    @pytest.mark.parametrize("clause", ["except BaseException", "except"])
    def test_who_goes_on_after_the_stop_is_ended(self, play, clause):
        body = textwrap.indent(textwrap.dedent(PLAIN), "    ")
        outcome = play(f"try:\n{body}\n{clause}:\n    print('caught')\nprint(loss.item())\nprint('went on')", steps=2)
        assert "caught" in outcome.output
        assert "went on" not in outcome.output
        assert recorded(outcome).end.swallowed
        assert len(outcome.record.of(record.Value)) == 2

    def test_exit_handlers_may_read_values(self, play):
        outcome = play(
            "import atexit\natexit.register(lambda: print('last', loss.item(), 'words'))\n" + textwrap.dedent(PLAIN)
        )
        assert "words" in outcome.output
        assert not recorded(outcome).end.swallowed
        assert len(outcome.record.of(record.Value)) == 4

    def test_a_process_that_the_script_forks_records_nothing(self, play):
        outcome = play(textwrap.dedent(PLAIN).replace("    print(loss", FORKED + "    print(loss"))
        assert len(recorded(outcome).of(record.Value)) == 4

    def test_odd_company(self, play):
        found = recorded(play(ODD_COMPANY, **FORCED))
        types = [(event.type, event.params) for event in found.of(record.Optimizer)]
        assert types == [("Adam", 2), ("SGD", 1), ("Adam", 2)]  # a copy is known from its first step on
        (sharded,) = [event for event in found.of(record.Grads) if event.o == 1]
        plain, local = torch.full((4, 4), 2.0), "torch.float32 (4, 4) of (4, 4)"
        assert sharded.d[0] == oracle(plain.numpy().tobytes(), 4, local, 1024)
        assert found.of(record.Names)[0].buffers == ("count",)

    def test_a_fault_of_the_recorder_is_an_event_and_no_exception(self, play):
        outcome = play(
            PLAIN.replace("optimizer.step()", "optimizer.step(); optimizer.param_groups[0]['lr'] = Odd(0.1)").replace(
                "model =", ODD + "    model =", 1
            )
        )
        (fault,) = outcome.record.named("fault")
        assert fault["where"] == "grads"
        assert outcome.record.end.status == "stopped", outcome.output
        assert len(outcome.record.of(record.Params)) == 4


FORKED = """\
    if step == 1:
        import os
        pid = os.fork()
        if not pid:
            loss.item()
            os._exit(0)
        os.waitpid(pid, 0)
"""
ODD_COMPANY = """
    import copy, os
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    os.closerange(3, 200)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.linear(x).sum()

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model = torch.compile(torch.jit.script(Model()))
    optimizer = torch.optim.Adam(model.parameters())
    weight = nn.Parameter(distribute_tensor(torch.ones(4, 4), init_device_mesh("cpu", (1,)), [Shard(0)]))
    sharded = torch.optim.SGD([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    copied, _ = copy.deepcopy(optimizer), copy.deepcopy(scaler)
    (weight * 2).sum().backward()
    sharded.step()
    for step in range(9):
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(2, 4))).backward()
        scaler.step(optimizer)
        scaler.update()
        copied.step()
"""
ODD = """class Odd(float):
        def __float__(self):
            raise ValueError("no number")
"""


class TestScalers:
    def test_the_walk_doubles_whatever_the_script_says(self, play):
        text = SCALED.replace("is_available())", "is_available(), init_scale=1000.0, growth_interval=100)", 1)
        found = recorded(play(text, steps=3, **FORCED))
        (scaler,) = found.of(record.Scaler)
        assert (scaler.asked, scaler.enabled, scaler.device) == (False, True, "cpu")
        assert [(event.before, event.after) for event in found.of(record.Update)] == [
            (2**12, 2**13), (2**13, 2**14), (2**14, 2**15),
        ]  # fmt: skip

    def test_a_long_run_walks_slower(self, play):
        text = SCALED.replace("range(20)", "range(100)")
        found = recorded(play(text, steps=70, **FORCED))
        assert found.of(record.Update)[-1].after == 2 ** (12 + 70 // 2)

    @pytest.mark.parametrize(
        "made", ["torch.amp.GradScaler('cuda')", "torch.cuda.amp.GradScaler()", "torch.amp.GradScaler('cpu')", "Mine()"]
    )
    def test_every_way_to_make_a_scaler(self, play, made):
        text = SCALED.replace('torch.amp.GradScaler("cuda", enabled=torch.cuda.is_available())', made)
        text = text.replace("model =", SUBCLASS + "model =", 1)
        walk, off = recorded(play(text, **FORCED)), recorded(play(text, scaler="off", autocast="off"))
        assert [event.enabled for event in walk.of(record.Scaler)] == [True]
        assert [event.stepped for event in walk.of(record.Step)] == [True] * 4
        assert [event.enabled for event in off.of(record.Scaler)] == [False]
        assert [event.via for event in off.of(record.Grads)] == ["direct"] * 4

    def test_a_resumed_checkpoint_does_not_move_the_walk(self, play):
        state = {
            "scale": 1000.0,
            "growth_factor": 3.0,
            "backoff_factor": 0.1,
            "growth_interval": 7,
            "_growth_tracker": 0,
        }
        text = SCALED.replace("    for step", f"    scaler.load_state_dict({state})\n    for step")
        assert [event.v for event in recorded(play(text, **FORCED)).of(record.Scale)][:3] == [2**12, 2**13, 2**14]
        text = SCALED.replace("    for step", "    scaler.load_state_dict({})\n    for step")
        assert [event.v for event in recorded(play(text, **FORCED)).of(record.Scale)][:3] == [2**12, 2**13, 2**14]

    def test_a_state_that_is_put_back_again_and_again_shows(self, play):
        text = SCALED.replace("    for step", "    state = scaler.state_dict()\n    for step")
        text = text.replace("        print(loss", "        scaler.load_state_dict(state)\n        print(loss")
        found = recorded(play(text, **FORCED))
        assert [(event.before, event.after) for event in found.of(record.Update)] == [(2**12, 2**13)] * 4

    def test_two_scalers_are_told_apart(self, play):
        text = SCALED.replace("for step", "other = torch.amp.GradScaler('cpu')\n    for step", 1)
        found = recorded(play(text.replace("scaler.update()", "scaler.update(); other.scale(loss)"), **FORCED))
        assert [event.s for event in found.of(record.Scale)][:4] == [0, 1, 0, 1]
        assert [event.s for event in found.of(record.Update)] == [0] * 4

    def test_only_roots_that_were_scaled_are_divided(self, play):
        found = recorded(play(PENALTY, steps=2, **FORCED))
        assert [event.scale for event in found.of(record.Backward)][:4] == [1.0, 2**12, 1.0, 2**13]
        plain = recorded(play(PENALTY, steps=2, scaler="off", autocast="off"))
        assert [event.d for event in plain.of(record.Backward)] == [event.d for event in found.of(record.Backward)]

    def test_a_wrapper_that_behaves_like_an_optimizer(self, play):
        text = SCALED.replace("for step", WRAPPER + "    for step", 1).replace(
            "scaler.step(optimizer)", "scaler.step(wrapper)"
        )
        skip = {"skip": ({"optimizer": 0, "attempt": 2},), "skip_by": "overflow"}
        found = recorded(play(text, **FORCED, **skip))
        assert [(event.o, event.n, event.skipped) for event in found.of(record.Params)] == [
            (0, 1, False), (0, 2, True), (0, 3, False), (0, 4, False),
        ]  # fmt: skip


SUBCLASS = """class Mine(torch.cuda.amp.GradScaler):
        def step(self, optimizer, *args):
            return super().step(optimizer, *args)

    """
PENALTY = """
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    for step in range(9):
        x = torch.randn(5, 3, requires_grad=True)
        y = model(x).square()
        (slope,) = torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)
        loss = y.mean() + (slope.norm(dim=1) - 1).square().mean()
        optimizer.zero_grad()
        scaled = scaler.scale(loss / 2)
        (scaled + scaled).backward()
        scaler.step(optimizer)
        scaler.update()
"""
WRAPPER = """class Wrapper:
        def __init__(self, optimizer):
            self.wrapped = optimizer

        @property
        def param_groups(self):
            return self.wrapped.param_groups

        def step(self):
            self.wrapped.step()

    wrapper = Wrapper(optimizer)
"""


class TestAutocast:
    SCRIPT = """
        def switched_off():
            return False

        @torch.autocast("cuda", enabled=switched_off())
        def multiply(x):
            return (x @ x).dtype

        x = torch.ones(2, 2)
        print(multiply(x))
        with torch.autocast("cuda", enabled=switched_off()):
            print((x @ x).dtype)
            with torch.autocast("cuda", enabled=False):
                print((x @ x).dtype)
            with torch.cuda.amp.autocast(False):
                print((x @ x).dtype)
        with torch.cpu.amp.autocast(
            dtype=torch.bfloat16,
            enabled=True,
        ):
            print((x @ x).dtype)
    """

    def printed(self, outcome):
        lines = outcome.output.split()
        return [
            line.removeprefix("torch.")
            for line in lines
            if line in ("torch.float32", "torch.float16", "torch.bfloat16")
        ]

    def test_off_on_and_as_it_is(self, play):
        off, on, half = (
            play(self.SCRIPT, autocast="off"),
            play(self.SCRIPT, autocast="on"),
            play(self.SCRIPT, autocast="on", dtype="float16"),
        )
        plain = play(self.SCRIPT)
        assert self.printed(off) == ["float32"] * 5
        assert self.printed(plain) == ["float32"] * 4 + ["bfloat16"]
        assert self.printed(on) == ["bfloat16", "bfloat16", "float32", "float32", "bfloat16"]
        assert self.printed(half) == ["float16", "float16", "float32", "float32", "float16"]

    def test_regions_that_were_entered(self, play):
        (on,) = play(self.SCRIPT, autocast="on").record.named("autocast")
        assert on["entered"] == {"cpu:bfloat16": 3}
        (plain,) = play(self.SCRIPT).record.named("autocast")
        assert plain["entered"] == {"cpu:bfloat16": 1}

    def test_what_torch_itself_switches_off_stays_off(self, play):
        found = play(CHECKPOINTED, autocast="on", dtype="bfloat16")
        assert self.printed(found) == ["float32", "float32"], found.output


CHECKPOINTED = """
    from torch.utils.checkpoint import checkpoint

    def multiply(x):
        print((x @ x).dtype)
        return x @ x

    x = torch.ones(2, 2, requires_grad=True)
    checkpoint(multiply, x, use_reentrant=False).sum().backward()
"""


class TestValues:
    def test_what_a_script_reads(self, play):
        found = play(
            """
            x = torch.tensor(1.5)
            x.item(), float(x), x.tolist(), f"{x:.1f}", x.numpy(), str(x), torch.tensor([1.0, 2.0]).tolist()
            torch.tensor(3).item(), (x > 1).item(), int(x), torch.ones(3).numpy(), torch.ones(3, 3)
            torch.ones(100).tolist()
            print(torch.ones(3), x.double().half())
            """
        )
        values = [(event.x, event.how) for event in found.record.of(record.Value)]
        assert values == [
            (1.5, "item"), (1.5, "float"), (1.5, "tolist"), (1.5, "format"), (1.5, "numpy"), (1.5, "format"),
            (1.0, "tolist"), (2.0, "tolist"), (100.0, "tolist"), (1.5, "format"),
        ]  # fmt: skip

    def test_what_torch_reads_and_what_other_threads_read_does_not_count(self, play):
        found = play(
            """
            import threading
            from torch.nn.utils import clip_grad_norm_

            x = torch.tensor(1.5)
            thread = threading.Thread(target=lambda: x.item())
            thread.start()
            thread.join()
            layer = nn.Linear(2, 1)
            optimizer = torch.optim.Adam(layer.parameters(), lr=torch.tensor(0.1), capturable=False, foreach=False)
            layer(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            torch.linspace(x, 2.0, 3)
            """
        )
        assert not found.record.of(record.Value)
        assert len(found.record.of(record.Params)) == 1

    def test_what_a_library_of_the_project_reads_counts_where_the_project_is(self, play):
        found = play("import statistics\nx = torch.tensor([1.5])\nstatistics.fmean(x)\n")
        assert [event.at[1] for event in found.record.of(record.Value)] == [8]

    def test_backward_in_all_its_forms(self, play):
        found = play(
            """
            w = torch.ones(2, requires_grad=True)
            (w * 2).sum().backward()
            torch.autograd.backward([w[0], (w * 3).sum()])
            torch.autograd.grad((w * 4).sum(), w)
            torch.autograd.grad(outputs=((w * 5).sum(),), inputs=w)
            torch.autograd.functional.jacobian(lambda x: x * 2, w)
            (w * 6).double().backward(torch.ones(2, dtype=torch.float64))
            """
        )
        roots = [(event.i, event.x, event.dtype) for event in found.record.of(record.Backward)]
        floats = [1.0, 6.0, 8.0, 10.0]
        assert roots == [
            (0, 4.0, "float32"),
            *((i, x, "float32") for i, x in enumerate(floats, 1)),
            (5, 12.0, "float64"),
        ]


class TestClipping:
    SCRIPT = """
        from torch.nn.utils import clip_grad_norm_, clip_grad_value_
        import torch.nn.utils.clip_grad

        w = nn.Parameter(torch.ones(4))
        same = torch.nn.utils.clip_grad.clip_grad_norm_
        for clip, limit in ((clip_grad_norm_, 5.0), (same, 1.0), (clip_grad_value_, 7.0)):
            w.grad = torch.full((4,), 2.0)
            clip((p for p in [w]), limit)
            print(w.grad[0].item())
    """

    def test_limits_and_sizes(self, play):
        found = play(self.SCRIPT)
        clips = [(event.clipped, event.limit, event.size) for event in found.record.of(record.Clip)]
        assert clips == [("norm", 5.0, 4.0), ("norm", 1.0, 4.0), ("value", 7.0, 2.0)]
        assert [float(line) for line in found.output.split()] == pytest.approx([2.0, 0.5, 2.0])

    def test_a_bite_lowers_limits_and_raises_none(self, play):
        found = play(self.SCRIPT, bite={"norm": 2.0, "value": 0.25})
        assert [event.limit for event in found.record.of(record.Clip)] == [5.0, 1.0, 7.0]
        assert [float(line) for line in found.output.split()] == pytest.approx([1.0, 0.5, 0.25])
