"""What PyTorch does, on the CPU, in the cases that AMP502 to AMP515, AMP603 to AMP606 and AMP709 report."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
import torch._functorch.config as config
from torch import nn
from torch.utils.checkpoint import checkpoint

F = nn.functional
HALF = torch.bfloat16


Contexts = Callable[[], AbstractContextManager[object]]


def region(**options: bool) -> torch.autocast:
    return torch.autocast("cpu", dtype=HALF, **options)


def losses(around: Contexts, inside: Contexts) -> list[float]:
    """The losses of five iterations with one region around all of them, and one for each."""
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 1), torch.randn(16, 4), torch.randn(16, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    with around():
        for _ in range(5):
            optimizer.zero_grad()
            with inside():
                loss = F.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
    return found


def test_a_region_around_the_loop_freezes_training() -> None:  # AMP506
    assert len(set(losses(nullcontext, region))) == 5
    assert len(set(losses(region, nullcontext))) == 1
    assert len(set(losses(region, region))) == 1, "regions inside do not help"
    assert len(set(losses(lambda: region(cache_enabled=False), nullcontext))) == 5


@pytest.mark.parametrize(("cached", "stale"), [(True, True), (False, False)])
def test_a_forward_after_the_step_uses_old_weights(cached: bool, stale: bool) -> None:  # AMP502
    torch.manual_seed(0)
    model, x = nn.Linear(4, 1), torch.randn(16, 4)
    with region(cache_enabled=cached):
        before = model(x)
        before.sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        assert torch.equal(model(x), before) is stale


def test_losses_outside_are_computed_in_half_precision() -> None:  # AMP503
    model, x = nn.Linear(4, 3), torch.randn(8, 4)
    classes, values = torch.zeros(8, dtype=torch.long), torch.randn(8, 3)
    with region():
        output = model(x)
        assert F.cross_entropy(output, classes).dtype is torch.float32
    assert F.cross_entropy(output, classes).dtype is HALF
    assert F.mse_loss(output, output.detach()).dtype is HALF
    assert F.mse_loss(output, values).dtype is torch.float32


def test_autocast_of_another_device_does_nothing() -> None:  # AMP505
    with torch.autocast("cuda", enabled=torch.cuda.is_available()):
        assert nn.Linear(4, 1)(torch.randn(2, 4)).dtype is torch.float32


def test_a_suspended_generator_leaves_autocast_on() -> None:  # AMP507
    def inside() -> Iterator[int]:
        with region():
            yield 1

    generator = inside()
    next(generator)
    assert torch.is_autocast_enabled("cpu")
    generator.close()
    assert not torch.is_autocast_enabled("cpu")


def test_a_decorated_generator_runs_without_autocast() -> None:  # AMP507
    @region()
    def decorated() -> Iterator[bool]:
        yield torch.is_autocast_enabled("cpu")

    assert [*decorated()] == [False]


def test_a_thread_begins_without_autocast() -> None:  # AMP508
    with region(), ThreadPoolExecutor() as pool:
        assert pool.submit(torch.is_autocast_enabled, "cpu").result() is False
        assert pool.submit(nn.Linear(4, 1), torch.randn(2, 4)).result().dtype is torch.float32


def test_a_scaled_loss_in_float32_changes_nothing() -> None:  # AMP504
    grads = []
    for on in (False, True):
        torch.manual_seed(0)
        model, scale = nn.Linear(4, 1), scaler(enabled=on)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scale.scale(model(torch.randn(8, 4)).square().mean()).backward()
        scale.step(optimizer)
        scale.update()
        grads.append(model.weight.detach())
    assert torch.equal(*grads)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_tracing_needs_a_region_without_cache() -> None:  # AMP513
    model, x = nn.Linear(4, 1), torch.randn(2, 4)
    with pytest.raises(RuntimeError, match="Cannot insert a Tensor that requires grad as a constant"), region():
        torch.jit.trace(model, x)
    with region(cache_enabled=False):
        assert torch.jit.trace(model, x)(x).dtype is HALF


def test_an_inner_region_with_the_same_arguments_changes_nothing() -> None:  # AMP515
    model, x = nn.Linear(4, 1), torch.randn(2, 4)
    with region():
        outer = model(x)
        with region():
            assert torch.equal(model(x), outer)
        assert torch.is_autocast_enabled("cpu")


def scaler(enabled: bool = True) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", enabled=enabled)


def test_a_saved_scaler_is_not_read_back() -> None:  # AMP603
    file = io.BytesIO()
    torch.save({"scaler": scaler()}, file)
    file.seek(0)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(file)


def test_a_scaler_cannot_be_saved_within_an_iteration() -> None:  # AMP603
    model, scale = nn.Linear(4, 1), scaler()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scale.scale(model(torch.randn(2, 4)).sum()).backward()
    scale.step(optimizer)
    with pytest.raises(AssertionError, match="may only be pickled at the beginning of an iteration"):
        torch.save(scale, io.BytesIO())


def test_the_state_of_a_disabled_scaler_is_empty() -> None:  # AMP604
    state = scaler(enabled=False).state_dict()
    assert state == {}
    with pytest.raises(RuntimeError, match="The source state dict is empty, possibly because it was saved"):
        scaler().load_state_dict(state)
    scaler(enabled=False).load_state_dict(scaler().state_dict())


@pytest.mark.parametrize("detached", [False, True])
def test_a_sum_of_losses_keeps_their_graphs(detached: bool) -> None:  # AMP606
    total, model = torch.zeros(()), nn.Linear(4, 1)
    for _ in range(3):
        loss = model(torch.randn(2, 4)).sum()
        loss.backward()
        total = total + (loss.detach() if detached else loss)
    assert total.requires_grad is not detached


def test_half_weights_stop_the_scaler() -> None:  # AMP605
    model, scale = nn.Linear(4, 1), scaler()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert model.half() is model
    scale.scale(model(torch.randn(2, 4).half()).sum()).backward()
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scale.step(optimizer)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_recompute_under_autocast(reentrant: bool) -> None:  # AMP511
    seen, layer = [], nn.Linear(4, 4)

    def block(x: torch.Tensor) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return layer(x)

    with region():
        output = checkpoint(block, torch.randn(2, 4, requires_grad=True), use_reentrant=reentrant)
    output.float().sum().backward()
    assert seen == [True, True]


@pytest.mark.parametrize("kind", ["xpu", "mps"])
def test_other_devices_have_no_amp(kind: str) -> None:  # AMP709
    assert not hasattr(getattr(torch, kind), "amp")


def in_float32(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        return x.float() @ weight


def scaled_gradient(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    weight = torch.ones(2, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.float16):
        out = product(torch.ones(1, 2), weight)
    (out.sum() * 2.0**17).backward()
    assert weight.grad is not None
    return weight.grad


@pytest.mark.parametrize(("setting", "finite"), [("same_as_forward", False), ("off", True)])
def test_a_compiled_backward_runs_under_the_autocast_of_its_forward(setting: str, finite: bool) -> None:
    assert scaled_gradient(in_float32).isfinite().all()
    torch.compiler.reset()
    with config.patch(backward_pass_autocast=setting):
        gradient = scaled_gradient(torch.compile(in_float32, backend="aot_eager"))
    assert bool(gradient.isfinite().all()) is finite
