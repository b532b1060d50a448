"""What the rules on casts and numerics (AMP3xx, AMP4xx, AMP510, AMP514) say of PyTorch is what it does, on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

LINEAR = nn.Linear(4, 4)
WIDE = torch.ones(4, 4)
HALF = WIDE.half()
ROWS = torch.tensor([0, 1, 2, 3])
MASK = torch.eye(4, dtype=torch.bool)


def low(run: Callable[[], object]) -> object:
    with torch.autocast("cpu", dtype=torch.float16):
        return run()


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(a, b)
        return a.mm(b)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        a, b = ctx.saved_tensors
        return grad.mm(b.t()), a.t().mm(grad)


class Decorated(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx, a, b):  # type: ignore[no-untyped-def]
        return Product.forward(ctx, a, b)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return Product.backward(ctx, grad)


def put(index: object, value: torch.Tensor) -> torch.Tensor:
    buffer = torch.zeros(4, 4)
    buffer[index] = value
    return buffer


def cast_while_trained() -> None:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.Adam(model.parameters(), foreach=False)
    for dtype in (torch.float32, torch.float16):
        model.to(dtype)(WIDE.to(dtype)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def unscaled_half_gradients() -> None:
    torch.set_default_dtype(torch.float16)
    try:
        model = nn.Linear(4, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(HALF).sum()).backward()
    scaler.unscale_(optimizer)


RAISED: dict[str, tuple[Callable[[], object], str]] = {
    "AMP302 loss": (
        lambda: functional.cross_entropy(WIDE, ROWS.half()),
        "expected target dtype to be Long or Byte, but got Half",
    ),
    "AMP302 one_hot": (
        lambda: functional.one_hot(ROWS.half()),
        "one_hot is only applicable to index tensor of type LongTensor.",
    ),
    "AMP302 embedding": (lambda: nn.Embedding(4, 2)(ROWS.half()), "one of the following scalar types: Long, Int"),
    "AMP304 input": (lambda: LINEAR(HALF), "mat1 and mat2 must have the same dtype, but got Half and Float"),
    "AMP307 scaler": (unscaled_half_gradients, "Attempting to unscale FP16 gradients."),
    "AMP308 numpy": (lambda: WIDE.bfloat16().numpy(), "Got unsupported ScalarType BFloat16"),
    "AMP309 double": (
        lambda: low(lambda: LINEAR(WIDE.double())),
        "mat1 and mat2 must have the same dtype, but got Double and Half",
    ),
    "AMP310 indices": (lambda: low(lambda: put(ROWS, LINEAR(WIDE))), "got Float for the destination and Half for the"),
    "AMP310 mask": (
        lambda: put(MASK, torch.ones(4).half()),
        "Index put requires the source and destination dtypes match",
    ),
    "AMP310 scatter": (
        lambda: WIDE.clone().scatter_(0, ROWS[None], HALF),
        "scatter(): Expected self.dtype to be equal to src.dtype",
    ),
    "AMP310 index_add": (
        lambda: WIDE.clone().index_add_(0, ROWS, HALF),
        "self (Float) and source (Half) must have the same scalar type",
    ),
    "AMP310 index_copy": (lambda: WIDE.clone().index_copy_(0, ROWS, HALF), "self and source expected to have the same"),
    "AMP310 masked_scatter": (
        lambda: WIDE.clone().masked_scatter_(MASK, HALF),
        "expected self and source to have same",
    ),
    "AMP310 lerp": (lambda: WIDE.clone().lerp_(HALF, 0.5), "expected dtype float for `end` but got dtype c10::Half"),
    "AMP311 layer": (
        lambda: LINEAR(low(lambda: LINEAR(WIDE))),
        "mat1 and mat2 must have the same dtype, but got Half and Float",
    ),
    "AMP311 product": (lambda: HALF @ WIDE, "expected m1 and m2 to have the same dtype, but got: c10::Half != float"),
    "AMP311 probabilities": (
        lambda: functional.binary_cross_entropy(HALF, WIDE),
        "Found dtype Float but expected Half",
    ),
    "AMP312 state": (cast_while_trained, "expected dtype float for `end` but got dtype c10::Half"),
    **{
        f"AMP403 {name}": (run, "value cannot be converted to type c10::Half without overflow")
        for name, run in {
            "masked_fill": lambda: HALF.masked_fill(MASK, -1e9),
            "fill_": lambda: HALF.clone().fill_(65505),
            "full_like": lambda: torch.full_like(HALF, -65505),
            "pad": lambda: functional.pad(HALF, (1, 1), value=1e5),
            "clamp": lambda: HALF.clamp(min=-1e9),
        }.items()
    },
    "AMP403 limits of float32": (
        lambda: HALF.bfloat16().masked_fill(MASK, torch.finfo(torch.float32).min),
        "value cannot be converted to type c10::BFloat16 without overflow",
    ),
    "AMP407 svd": (lambda: torch.linalg.svd(HALF), "not implemented for 'Half'"),
    "AMP407 det": (lambda: HALF.det(), "not implemented for 'Half'"),
    "AMP407 inv": (lambda: torch.linalg.inv(HALF), "Low precision dtypes not supported. Got Half"),
    "AMP407 fft": (lambda: torch.fft.rfft(HALF), "Unsupported dtype Half"),
    "AMP407 quantile": (lambda: torch.quantile(HALF, 0.5), "input tensor must be either float or double dtype"),
    "AMP408 in place": (
        lambda: low(lambda: WIDE.clone().addmm_(HALF, WIDE)),
        "mat1 and mat2 must have the same dtype, but got Half and Float",
    ),
    "AMP408 out": (
        lambda: low(lambda: torch.mm(HALF, HALF, out=torch.zeros(4, 4))),
        "Expected out tensor to have dtype c10::Half, but got float instead",
    ),
    "AMP409 complex": (
        lambda: low(lambda: torch.mm(torch.fft.fft(WIDE), LINEAR(WIDE))),
        "expected m1 and m2 to have the same dtype, but got: c10::complex<float> != c10::Half",
    ),
    "AMP510 backward": (
        lambda: low(lambda: Product.apply(WIDE.clone().requires_grad_(), WIDE)).sum().backward(),  # type: ignore[attr-defined]
        "expected m1 and m2 to have the same dtype",
    ),
    "AMP514 string": (
        lambda: torch.autocast("cpu", dtype="float16").__enter__(),  # type: ignore[arg-type]
        "argument 'dtype' (position 2) must be torch.dtype, not str",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fact", RAISED)
def test_what_a_rule_says_is_raised_is_raised(fact: str) -> None:
    run, text = RAISED[fact]
    with pytest.raises((RuntimeError, TypeError, ValueError, NotImplementedError)) as raised:
        run()
    assert text in str(raised.value)


@pytest.mark.parametrize(
    "run",
    [
        lambda: put(slice(2), HALF[:2]),
        lambda: WIDE.clone().copy_(HALF),
        lambda: torch.cat([HALF, WIDE]),
        lambda: torch.where(MASK, HALF, WIDE),
        lambda: functional.mse_loss(HALF, WIDE),
        lambda: HALF.masked_fill(MASK, -65504),
        lambda: HALF.bfloat16().masked_fill(MASK, -1e9),
        lambda: low(lambda: torch.mm(torch.fft.fft(WIDE), torch.fft.fft(WIDE))),
        lambda: low(lambda: WIDE.clone().add_(LINEAR(WIDE))),
    ],
)
def test_what_is_not_reported_runs(run: Callable[[], torch.Tensor]) -> None:
    assert torch.isfinite(torch.view_as_real(out) if (out := run()).is_complex() else out).all()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (torch.tensor(2049.0).half(), 2048),
        (torch.tensor(60001.0).half(), 60000),
        (torch.tensor(70000.0).half(), torch.inf),
        (functional.mse_loss(torch.tensor(300.0).half(), torch.tensor(0.0).half()), torch.inf),
        (torch.log(functional.softmax(torch.tensor([0.0, 20.0]).half(), dim=0))[0], -torch.inf),
        (functional.log_softmax(torch.tensor([0.0, 20.0]).half(), dim=0)[0], -20),
        (torch.where(torch.tensor(True), torch.tensor(-1e9).half(), 0.0), -torch.inf),
        (torch.tensor(1e-8).half(), 0),
        (torch.tensor(2.0**-25).half(), 0),
        (torch.tensor(2.0**-25 * 1.01).half(), 2.0**-24),
        ((torch.zeros(1).half() + 1e-8).log()[0], -torch.inf),
        (torch.zeros(1).half().clamp(min=1e-8).log()[0], -torch.inf),
        (torch.tensor(300.0).half() ** 2, torch.inf),
        (torch.tensor(12.0).half().exp(), torch.inf),
        (torch.ones(100_000).half().sum(), torch.inf),
    ],
)
def test_float16_loses_what_the_pages_say(value: torch.Tensor, wanted: float) -> None:
    assert value.item() == wanted


def test_a_row_that_is_masked_by_an_assignment_has_no_softmax() -> None:
    scores = HALF.clone()
    scores[MASK.any(0)] = -1e9
    assert scores.isinf().all()
    assert scores.softmax(-1).isnan().all()


def trained(optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer], grad: float, steps: int) -> float:
    """A weight of 1 in float16 after some steps with one gradient."""
    weight = torch.ones(1).half()
    made = optimizer([weight])
    for _ in range(steps):
        weight.grad = torch.full((1,), grad).half()
        made.step()
    return weight.item()


def test_small_updates_of_half_weights_are_lost() -> None:
    assert trained(lambda weights: torch.optim.SGD(weights, lr=1e-4), 1.0, 100) == 1.0


@pytest.mark.parametrize("grad", [1e-4, 0.0])
def test_adam_divides_by_zero_on_half_weights(grad: float) -> None:
    assert not np.isfinite(trained(torch.optim.Adam, grad, 1))
    assert np.isfinite(trained(lambda weights: torch.optim.Adam(weights, eps=1e-4), grad, 1))
    assert np.isfinite(trained(lambda weights: torch.optim.Adam(weights, fused=True), grad, 1))


def test_a_loss_without_weights_is_not_changed_by_a_cast() -> None:
    assert functional.cross_entropy(WIDE, ROWS) == nn.CrossEntropyLoss().to("cpu", torch.float16)(WIDE, ROWS)
    assert nn.CrossEntropyLoss(weight=torch.ones(4)).half().weight.dtype is torch.float16  # type: ignore[union-attr]


def test_a_half_tensor_becomes_a_half_array() -> None:
    assert HALF.numpy().dtype == np.float16


def test_a_decorated_function_runs_backward_as_it_runs_forward() -> None:
    weight = WIDE.clone().requires_grad_()
    low(lambda: Decorated.apply(weight, WIDE)).sum().backward()  # type: ignore[attr-defined]
    assert weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_autocast_on_the_cpu_is_switched_off_by_other_dtypes(dtype: torch.dtype) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torch.autocast("cpu", dtype=dtype):
            assert LINEAR(WIDE).dtype is torch.float32
    assert "In CPU autocast, but the target dtype is not supported. Disabling autocast." in str(caught[0].message)
