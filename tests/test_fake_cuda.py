"""`--fake-cuda`: scripts for CUDA run on a machine without it, and see what they expect to see."""

import json
from textwrap import dedent

import pytest
import torch

from ampify.verify.arms import Arm, Runs
from ampify.verify.request import Request
from ampify.verify.workers import Workers

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="nothing is imitated where there is CUDA")


@pytest.fixture(scope="module")
def workers():
    with Workers(env={"OMP_NUM_THREADS": "1"}) as shared:
        yield shared


@pytest.fixture
def run(workers, tmp_path):
    """`run(code, **fields of the job)`: the outcome of a script on the imitated device."""

    def make(code, *, fake_cuda=True, **fields):
        script = tmp_path / "train.py"
        script.write_text("import json\nimport torch\nfrom torch import nn\n" + dedent(code), "utf-8")
        request = Request(script=script, cwd=tmp_path, fake_cuda=fake_cuda)
        return Runs(request, workers, lambda name: None).run(Arm("script", "reference", fields))

    return make


@pytest.fixture
def told(run):
    """`told(*expressions, before=code)`: the values that a script gives to expressions."""

    def tell(*expressions, before="0"):
        outcome = run(f"{dedent(before)}\nprint(json.dumps([{', '.join(expressions)}]))")
        assert outcome.record.end.error is None, outcome.record.end.error
        return json.loads(outcome.output.splitlines()[-1])

    return tell


def test_without_it_a_script_for_cuda_fails(run):
    assert run("torch.zeros(3).cuda()", fake_cuda=False).record.end.error.type in ("AssertionError", "RuntimeError")


def test_the_device_is_there(told):
    assert told(
        "torch.cuda.is_available()",
        "torch.cuda.device_count()",
        "torch.cuda.current_device()",
        "torch.cuda.get_device_properties(0).total_memory > 0",
        "torch.cuda.get_device_capability()",
        "torch.cuda.memory_allocated(), torch.cuda.max_memory_reserved('cuda:0')",
        "torch.cuda.memory_stats()['active_bytes.all.peak']",
        "torch.cuda.is_bf16_supported()",
        "torch.cuda.synchronize(), torch.cuda.empty_cache(), torch.cuda.manual_seed_all(3), torch.cuda.set_device(0)",
        "torch.device('cuda', torch.cuda.current_device()).type",
        "torch.backends.cudnn.is_available()",
    ) == [True, 1, 0, True, [8, 0], 0, 0, 0, True, None, None, None, None, "cuda", True]


def test_tensors_say_where_they_are(told):
    before = """
        here = torch.zeros(3)
        there = here.cuda()
        model = nn.Linear(3, 3).to("cuda")
        made = [torch.zeros(3, device=device) for device in ("cuda", "cuda:0", 0, torch.device("cuda"))]
    """
    assert told(
        "[here.is_cuda, there.is_cuda, (there + 1).is_cuda, torch.cat([there, there]).is_cuda]",
        "[each.is_cuda for each in made]",
        "[str(here.device), str(there.device), there.device.type, there.get_device(), here.get_device()]",
        "[there.cpu().is_cuda, there.to('cpu').is_cuda, there.to(here).is_cuda, here.to(there).is_cuda]",
        "[here.type(), there.type(), there.half().type()]",
        "[next(model.parameters()).is_cuda, model(there).is_cuda, torch.zeros(2, device=there.device).is_cuda]",
        "[each.is_cuda for each in (torch.zeros_like(there), there.new_ones(2), there.detach(), nn.Parameter(there))]",
        before=before,
    ) == [
        [False, True, True, True],
        [True] * 4,
        ["cpu", "cuda:0", "cuda", 0, -1],
        [False, False, False, True],
        ["torch.FloatTensor", "torch.cuda.FloatTensor", "torch.cuda.HalfTensor"],
        [True] * 3,
        [True] * 4,
    ]


def test_a_move_copies_and_staying_does_not(told):
    before = """
        here = torch.zeros(2)
        there = here.cuda()
        there.add_(1)
        back = there.cpu()
        back.add_(1)
        leaf = torch.ones(2, requires_grad=True)
        moved = leaf.to("cuda")
    """
    assert told(
        "here.tolist()", "there.tolist()", "back.tolist()",
        "there.cuda() is there", "there.to(torch.device('cuda')) is there",
        "here.cpu() is here", "[leaf.is_leaf, moved.is_leaf]", before=before,
    ) == [[0, 0], [1, 1], [2, 2], True, True, True, [True, False]]  # fmt: skip


def test_a_module_moves_in_place(told):
    before = """
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        weight, mean = model[0].weight, model[1].running_mean
        model.cuda()
        twin = __import__("copy").deepcopy(model)
        optimizer = torch.optim.Adam([each.to("cuda") for each in model.parameters()])
        model.to(0), model.to(device=0), model.to("cuda", torch.float32, non_blocking=True)
    """
    assert told(
        "weight is model[0].weight", "weight.is_cuda", "model[1].running_mean.is_cuda",
        "all(each.is_cuda for each in twin.parameters())", "weight.is_leaf", "model.cpu()[0].weight.is_cuda",
        before=before,
    ) == [True, True, True, True, True, False]  # fmt: skip


def test_tensor_types(told):
    before = """
        Tensor = torch.cuda.FloatTensor if torch.cuda.is_available() else torch.FloatTensor
        made, image = Tensor(2, 3).fill_(1.0), torch.zeros(2)
    """
    assert told(
        "[made.is_cuda, image.type(Tensor).is_cuda, image.type('torch.cuda.LongTensor').type()]",
        "[isinstance(made, Tensor), isinstance(image, Tensor), isinstance(made, torch.cuda.LongTensor)]",
        "Tensor([[1, 2]]).tolist()",
        "image.type(Tensor).type(torch.FloatTensor).is_cuda",
        "torch.cuda.ByteTensor(4).dtype == torch.uint8",
        before=before,
    ) == [[True, True, "torch.cuda.LongTensor"], [True, False, False], [[1, 2]], False, True]


def test_streams_events_and_contexts(told):
    before = """
        stream, event, other = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True), torch.cuda.Event(True)
        with torch.cuda.stream(stream), torch.cuda.device(0), torch.cuda.nvtx.range("step"):
            event.record(), other.record(stream)
        stream.wait_stream(torch.cuda.current_stream())
        torch.zeros(2).cuda(non_blocking=True).record_stream(stream)
    """
    assert told("event.query()", "event.elapsed_time(other) > 0", "event.synchronize()", before=before) == [
        True,
        True,
        None,
    ]


def test_random_numbers_come_from_the_one_generator(told):
    before = """
        generator = torch.Generator(device="cuda").manual_seed(3)
        torch.manual_seed(3)
    """
    given, plain = told(
        "torch.randn(3, device='cuda', generator=generator).tolist()", "torch.randn(3, device='cuda').tolist()",
        before=before,
    )  # fmt: skip
    assert given == plain == torch.randn(3, generator=torch.Generator().manual_seed(3)).tolist()


def test_checkpoints_are_loaded_on_it(told):
    before = """
        import io

        def load(where):
            file.seek(0)
            return torch.load(file, map_location=where)["weight"].tolist()

        file = io.BytesIO()
        torch.save(nn.Linear(2, 1, bias=False).cuda().state_dict(), file)
        places = "cuda:0", torch.device("cuda"), {"cuda:0": "cuda:0"}, lambda storage, place: storage.cuda(0), None
    """
    loaded, *_ = told("[load(each) for each in places]", before=before)
    assert len(loaded) == 5
    assert all(each == loaded[0] for each in loaded)


def test_default_devices(told):
    before = """
        with torch.device("cuda"):
            inside = nn.Linear(2, 2)(torch.ones(1, 2))
        torch.set_default_device("cuda")
    """
    assert told("list(inside.shape)", "torch.zeros(2).tolist()", before=before) == [[1, 2], [0, 0]]


def test_wrappers(told):
    before = """
        import torch.distributed as dist
        model = nn.DataParallel(nn.Linear(3, 1), device_ids=[0]).cuda()
        x = torch.ones(2, 3).cuda()
        parallel = model(x)
        dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
        replicas = [nn.parallel.DistributedDataParallel(model.module, device_ids=[0], output_device=0),
                    nn.parallel.DistributedDataParallel(model.module, [0], 0)]
        for replica in replicas:
            replica(x).sum().backward()
        backend = dist.get_backend()
        dist.destroy_process_group()
    """
    assert told("parallel.is_cuda", "list(parallel.shape)", "backend", before=before) == [True, [2, 1], "gloo"]


def test_loaders_pin_nothing(told):
    before = """
        from torch.utils.data import DataLoader, TensorDataset
        data = TensorDataset(torch.arange(8.0), torch.zeros(8))
        seen = [x.cuda(non_blocking=True) for x, _ in DataLoader(data, 4, pin_memory=True, num_workers=2)]
        pinned = torch.zeros(2, pin_memory=True).pin_memory()
    """
    assert told("[x.is_cuda for x in seen]", "seen[1].tolist()", "pinned.tolist()", before=before) == [
        [True, True],
        [4, 5, 6, 7],
        [0, 0],
    ]


def test_the_backward_of_the_script_is_on_it(told):
    before = """
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(context, x):
                return x * 2

            @staticmethod
            def backward(context, gradient):
                return gradient * torch.full((1,), 2.0, device="cuda")

        x = torch.ones(2, requires_grad=True)
        seen = []
        x.register_hook(lambda gradient: seen.append(gradient + torch.ones(1, device="cuda")))
        Double.apply(x.cuda()).sum().backward()
    """
    assert told("x.grad.tolist()", "seen[0].tolist()", before=before) == [[2, 2], [3, 3]]


LOOP = """
torch.manual_seed(0)
device = torch.device("{device}")
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scaler = torch.amp.GradScaler(device.type)
for _ in range(6):
    x, y = torch.randn(8, 4), torch.randint(0, 2, (8,))
    optimizer.zero_grad()
    with torch.autocast(device.type):
        loss = nn.functional.cross_entropy(model(x.to(device)), y.to(device))
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    print(loss.item())
"""


@pytest.mark.parametrize("scaler", ["off", "walk"])
def test_the_bits_are_those_of_the_cpu(run, scaler):
    """Losses, gradients, parameters of a loop with AMP, its scaler off and walking."""
    fields = {"autocast": "off", "scaler": scaler, "steps": 4}
    there, here = (run(LOOP.format(device=device), **fields).record for device in ("cuda", "cpu"))
    kinds = ("backward", "grads", "params", "value", "step", "update")

    def seen(record):
        return [each for each in record.events if each.kind in kinds]

    assert seen(there) == seen(here)
    assert {each.kind for each in seen(there)} == set(kinds if scaler == "walk" else kinds[:4])
    assert there.end.attempts == {0: 4}
