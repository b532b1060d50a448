"""The books of the loss scale, on records of right and of wrong loops."""

import pytest
from records import backward, grads, optimizer, params, record, scale, scaler, start, step, unscale, update

from ampify.verify.ledger import INIT, audit, interval

STEPS = 8


def loop(steps=STEPS, overflow=()):
    """A right loop: every step without overflow doubles the scale, every overflow halves it."""
    events, v = [start(), optimizer(), scaler()], INIT
    for n in range(1, steps + 1):
        stepped = n not in overflow
        after = v * 2 if stepped else v / 2
        events += [scale(v), backward(n - 1, scale=v), unscale(v), grads(n, via="scaler")]
        events += [params(n, skipped=not stepped), step(n, stepped=stepped), update(v, after)]
        v = after
    return events


def said(events, steps=STEPS):
    return [entry.message.split(":")[0] for entry in audit(record(events), steps)]


@pytest.mark.parametrize("overflow", [(), (1,), (4,), (2, 3)])
def test_a_right_loop_balances(overflow):
    assert said(loop(overflow=overflow)) == []


def test_many_steps_grow_slowly():
    assert interval(8) == 1
    assert interval(64) == 2
    events, v = [start(), optimizer(), scaler()], INIT
    for n in range(1, 65):
        after = v if n % 2 else v * 2
        events += [scale(v), backward(n - 1, scale=v), unscale(v), grads(n, via="scaler"), step(n), update(v, after)]
        v = after
    assert said(events, 64) == []
    assert said(events, 8) == ["The scale goes from 4096 to 4096, not to 8192"]


def test_a_scaler_that_is_made_anew():
    assert said([*loop(1), scaler(1), *loop(1)[3:]])[0] == "A new `GradScaler` is made after training began"


def test_a_scaler_for_a_new_optimizer_is_right():
    second = [scaler(1), optimizer(1), scale(INIT), backward(9, scale=INIT)]
    assert said([*loop(1), *second]) == []
    assert said([*loop(1), optimizer(1), scaler(1), backward(9)]) == []


def test_a_scaled_loss_that_is_not_used():
    events = [start(), optimizer(), scaler(), backward(0), scale(INIT), unscale(INIT), step(1), update(INIT, INIT * 2)]
    assert said(events) == ["The scaled loss is not used"]


def test_gradients_divided_by_another_scale():
    events = [
        start(), optimizer(0), optimizer(1), scaler(), scale(INIT), backward(0, scale=INIT), scale(INIT),
        backward(1, scale=INIT), unscale(INIT), step(1), update(INIT, INIT * 2), unscale(INIT * 2, o=1),
        step(1, o=1), update(INIT * 2, INIT * 4),
    ]  # fmt: skip
    assert said(events) == ["Gradients are divided by 8192, their loss was multiplied by 4096"]


def test_alternating_optimizers_with_an_update_each_balance():
    events, v = [start(), optimizer(0), optimizer(1), scaler()], INIT
    for n in range(1, 4):
        for o in (0, 1):
            events += [scale(v), backward(0, scale=v), unscale(v, o), grads(n, o=o, via="scaler"), step(n, o=o)]
            events += [update(v, v * 2)]
            v *= 2
    assert said(events) == []


def test_a_scale_that_is_set_back():
    events = loop(2)
    assert said([*events, update(INIT, INIT * 2)]) == ["The scale was 16384 and is 4096 without an update"]


def test_an_overflow_that_does_not_halve_the_scale():
    events = loop(2)
    events[-2:] = [step(2, stepped=False), update(INIT * 2, INIT * 4)]
    assert said(events) == ["The scale goes from 8192 to 16384, not to 4096"]


def test_gradients_that_are_looked_at_and_not_stepped_with_may_halve_the_scale():
    events = [*loop(1), scale(INIT * 2), backward(1, scale=INIT * 2), unscale(INIT * 2), update(INIT * 2, INIT)]
    assert said(events) == []


def test_a_step_past_the_scaler():
    events = [*loop(1), scale(INIT * 2), backward(1, scale=INIT * 2), unscale(INIT * 2), grads(2), params(2)]
    assert said(events) == ["`step` is called on the optimizer itself while its gradients come from a scaled loss"]


def test_an_optimizer_without_scaler_beside_one_with():
    events = [
        start(), optimizer(0), optimizer(1), scaler(), scale(INIT), backward(0, scale=INIT), unscale(INIT),
        grads(1, via="scaler"), step(1), update(INIT, INIT * 2), backward(1), grads(1, o=1), params(1, o=1),
    ]  # fmt: skip
    assert said(events) == []
