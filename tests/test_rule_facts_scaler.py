"""What the pages of the rules for scalers say of PyTorch, shown on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

Scaler = torch.amp.GradScaler


class Loop:
    """A model of one number with a scaler on the CPU."""

    def __init__(self, scale: float = 1024.0) -> None:
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.optimizer = torch.optim.SGD([self.weight], lr=1.0)
        self.scaler = Scaler("cpu", init_scale=scale)

    def loss(self) -> torch.Tensor:
        return self.weight.square().sum()

    def backward(self) -> None:
        self.scaler.scale(self.loss()).backward()

    def moved(self) -> float:
        return 1 - float(self.weight.detach())


def unscale_twice(loop: Loop) -> None:
    loop.backward()
    loop.scaler.unscale_(loop.optimizer)
    loop.scaler.unscale_(loop.optimizer)


def unscale_after_step(loop: Loop) -> None:
    loop.backward()
    loop.scaler.step(loop.optimizer)
    loop.scaler.unscale_(loop.optimizer)


def step_twice(loop: Loop) -> None:
    loop.backward()
    loop.scaler.step(loop.optimizer)
    loop.scaler.step(loop.optimizer)


def update_alone(loop: Loop) -> None:
    loop.backward()
    loop.scaler.update()


def cleared(loop: Loop) -> None:
    loop.backward()
    loop.optimizer.zero_grad()
    loop.scaler.step(loop.optimizer)


def backward_twice(loop: Loop) -> None:
    loss = loop.loss()
    loop.scaler.scale(loss).backward()
    loop.scaler.scale(loss).backward()


def strict(loop: Loop) -> None:
    loop.weight.grad = torch.full((1,), torch.inf)
    torch.nn.utils.clip_grad_norm_([loop.weight], 1.0, error_if_nonfinite=True)


def closure_by_name(loop: Loop) -> None:
    loop.backward()
    loop.scaler.step(loop.optimizer, closure=loop.loss)


def scaled_number(loop: Loop) -> None:
    loop.scaler.scale(loop.loss().item())  # type: ignore[call-overload]


def step_of_method(loop: Loop) -> None:
    loop.backward()
    loop.scaler.step(loop.optimizer.step)  # type: ignore[arg-type]


def step_of_list(loop: Loop) -> None:
    loop.backward()
    loop.scaler.step([loop.optimizer])  # type: ignore[arg-type]


def half_parameters(loop: Loop) -> None:
    loop.weight.data = loop.weight.data.half()
    loop.backward()
    loop.scaler.unscale_(loop.optimizer)


def set_to_int(loop: Loop) -> None:
    loop.backward()
    loop.scaler.step(loop.optimizer)
    loop.scaler.update(128)


RAISES = {
    "AMP205, AMP210": (step_twice, "step() has already been called since the last update()."),
    "AMP208, AMP213": (unscale_twice, "unscale_() has already been called on this optimizer since the last update()."),
    "AMP209": (unscale_after_step, "unscale_() is being called after step()."),
    "AMP211": (update_alone, "No inf checks were recorded prior to update."),
    "AMP216": (closure_by_name, "Closure use is not currently supported if GradScaler is enabled."),
    "AMP217": (half_parameters, "Attempting to unscale FP16 gradients."),
    "AMP220": (backward_twice, "Trying to backward through the graph a second time"),
    "AMP221": (cleared, "No inf checks were recorded for this optimizer."),
    "AMP223": (strict, "The total norm of order 2.0 for gradients from `parameters` is non-finite"),
    "AMP224": (scaled_number, "outputs must be a Tensor or an iterable of Tensors"),
    "AMP228, a method": (step_of_method, "has no attribute 'param_groups'"),
    "AMP228, a list": (step_of_list, "'list' object has no attribute 'param_groups'"),
    "AMP229, growth": (lambda _: Scaler("cpu", growth_factor=1.0), "The growth factor must be > 1.0."),
    "AMP229, backoff": (lambda _: Scaler("cpu", backoff_factor=1.0), "The backoff factor must be < 1.0."),
    "AMP229, update": (set_to_int, "'int' object has no attribute 'device'"),
}


@pytest.mark.parametrize(("mistake", "text"), RAISES.values(), ids=RAISES)
def test_it_raises(mistake: Callable[[Loop], object], text: str) -> None:
    with pytest.raises((RuntimeError, AssertionError, AttributeError, ValueError)) as error:
        mistake(Loop())
    assert text in str(error.value)


def right(loop: Loop) -> None:
    loop.backward()
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()


def discarded(loop: Loop) -> None:
    loss = loop.loss()
    loop.scaler.scale(loss)
    loss.backward()
    loop.scaler.step(loop.optimizer)


def double(loop: Loop) -> None:
    right(loop)
    loop.optimizer.step()


def unscaled_between(loop: Loop) -> None:
    loop.backward()
    loop.scaler.unscale_(loop.optimizer)
    loop.backward()
    loop.scaler.step(loop.optimizer)


def updated_between(loop: Loop) -> None:
    loop.backward()
    loop.scaler.unscale_(loop.optimizer)
    loop.scaler.update()
    loop.scaler.step(loop.optimizer)


def other_scaler(loop: Loop) -> None:
    other = Scaler("cpu", init_scale=4096.0)
    other.scale(torch.ones(()))
    loop.backward()
    other.step(loop.optimizer)


def rescaled(loop: Loop) -> None:
    loop.backward()
    loop.scaler.update(2048.0)
    loop.scaler.step(loop.optimizer)


def closure_by_position(loop: Loop) -> None:
    loop.backward()

    def closure() -> torch.Tensor:
        loop.optimizer.zero_grad()
        loop.backward()
        return loop.loss()

    loop.scaler.step(loop.optimizer, closure)


SILENT = {
    "AMP203": (discarded, 1 / 1024),
    "AMP205": (double, 2.0),
    "AMP208": (unscaled_between, 1025.0),
    "AMP212": (updated_between, 1 / 1024),
    "AMP215": (other_scaler, 1 / 4),
    "AMP216": (closure_by_position, 1024.0),
    "AMP226": (rescaled, 1 / 2),
}


@pytest.mark.parametrize(("mistake", "factor"), SILENT.values(), ids=SILENT)
def test_it_raises_nothing_and_moves_wrongly(mistake: Callable[[Loop], object], factor: float) -> None:
    good, bad = Loop(), Loop()
    right(good)
    mistake(bad)
    assert bad.moved() == pytest.approx(factor * good.moved())


def test_a_norm_of_scaled_gradients_is_too_large_by_the_scale() -> None:
    loop = Loop()
    loop.backward()
    assert loop.weight.grad is not None
    scaled = float(loop.weight.grad.norm())
    loop.scaler.unscale_(loop.optimizer)
    assert scaled == 1024 * float(loop.weight.grad.norm())


def test_a_dict_is_not_refused() -> None:
    assert not isinstance(Loop().scaler.scale({"loss": torch.ones(())}), (dict, torch.Tensor))  # type: ignore[call-overload]


def test_a_scaler_that_is_off_checks_no_numbers() -> None:
    assert not Scaler("cpu", growth_factor=1.0, enabled=False).is_enabled()


def test_a_vector_in_float16_overflows_where_a_single_loss_does_not() -> None:
    losses = torch.full((2,), 2.0, dtype=torch.float16)
    scaler = Scaler("cpu", init_scale=65536.0)
    assert scaler.scale(losses).dtype == torch.float16
    assert scaler.scale(losses).mean().isinf()
    assert float(scaler.scale(losses.mean())) == 131072.0


def test_a_scaler_for_cuda_is_off_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="enabled, but CUDA is not available"):
        assert not Scaler("cuda").is_enabled()


def test_a_scaler_that_was_not_made_is_not_bound() -> None:  # AMP232
    def train(*, use_amp: bool) -> None:
        if use_amp:
            scaler = Scaler("cpu")
        scaler.update()

    with pytest.raises(UnboundLocalError, match="cannot access local variable 'scaler' where it is not associated"):
        train(use_amp=False)


def test_a_stand_in_without_parameters_takes_no_switch() -> None:  # AMP233
    class GradScaler:
        def __init__(self) -> None:
            pass

    make: Callable[..., object] = GradScaler
    with pytest.raises(TypeError, match=r"GradScaler\.__init__\(\) got an unexpected keyword argument 'enabled'"):
        make(enabled=True)
    Scaler("cpu", enabled=True)
