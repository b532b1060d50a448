"""Differences between two records, and how runs end in words."""

from pathlib import Path

import pytest
from records import SCRIPT, backward, end, error, grads, names, optimizer, outcome, params, start, value

from ampify.verify.compare import Pair, differences, same, unequal
from ampify.verify.endings import failure, innermost
from ampify.verify.record import Outcome
from ampify.verify.sources import Sources

BEFORE = "\n" * 9 + "loss.backward()\n\noptimizer.step()\n\nprint(loss.item())\n"
AFTER = "\n" * 9 + "scaler.scale(loss).backward()\n\nscaler.step(optimizer)\n\nprint(loss.item())\n"
SOURCES = Sources({Path(SCRIPT): BEFORE}, {Path(SCRIPT): AFTER}, "given")


def run(**changed):
    """Two steps; ``changed`` replaces events by name."""
    events = {
        "start": start(), "optimizer": optimizer(),
        "backward1": backward(0, "b0"), "grads1": grads(1), "params1": params(1, b=["m1"]), "value1": value(1.0),
        "backward2": backward(1, "b1"), "grads2": grads(2), "params2": params(2, b=["m2"]), "value2": value(2.0),
        "names": names(),
    } | changed  # fmt: skip
    return outcome(*(event for event in events.values() if event))


def pair(candidate, reference=None, skipped=None):
    return Pair("L2", reference or run(), candidate, SOURCES, skipped)


def found(candidate, **kwargs):
    return differences(pair(candidate, **kwargs))


def test_equal_runs_do_not_differ():
    assert found(run()) == []


def test_a_gradient_is_named_with_its_step_and_both_lines():
    (difference,) = found(run(grads2=grads(2, ["g0", "other"])))
    assert (difference.level, difference.channel, difference.step, difference.optimizer) == ("L2", "grads", 2, 0)
    assert difference.name == "layer.bias"
    assert difference.message == "The gradient of `layer.bias` at step 2 of optimizer 0: other bits"
    assert difference.reference_at.text == "optimizer.step()"
    assert difference.candidate_at.text == "scaler.step(optimizer)"


def test_the_first_difference_of_each_channel_in_the_order_of_the_run():
    candidate = run(
        params1=params(1, ["p0", "q"]), backward2=backward(1, "other"), grads2=grads(2, ["x", "y"]),
        params2=params(2, ["x", "y"], ["m"]),
    )  # fmt: skip
    assert [(d.channel, d.step) for d in found(candidate)] == [("params", 1), ("root", 2), ("grads", 2), ("buffers", 2)]


def test_a_missing_gradient_is_told():
    (difference,) = found(run(grads1=grads(1, [None, "g1"])))
    assert difference.message.endswith("a gradient is missing")
    assert (difference.reference, difference.candidate) == ("digest g0", "missing")


def test_learning_rates():
    (difference,) = found(run(grads2=grads(2, lr=0.05)))
    assert (difference.channel, difference.reference, difference.candidate) == ("lr", "0.1", "0.05")


def test_the_order_of_backward_calls_and_steps():
    (difference,) = found(run(params2=None, grads2=None))
    assert difference.channel == "order"
    assert difference.message == "The end of the run where the reference has a step of optimizer 0"


def test_one_backward_call_more():
    (difference,) = found(run(more=backward(2)))
    assert (difference.channel, difference.reference) == ("order", "the end of the run")


def test_a_value_that_the_script_reads():
    (difference,) = found(run(value2=value(2.5)))
    assert (difference.channel, difference.step, difference.reference, difference.candidate) == (
        "values",
        2,
        "2.0",
        "2.5",
    )


def test_the_number_of_values():
    (difference,) = found(run(more=value(3.0)))
    assert difference.message == "The candidate reads 3 values, the reference 2"


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [(1.0, 1.0, True), (0.0, -0.0, False), (float("nan"), float("nan"), True), (1.0, 1.0 + 2**-52, False)],
)
def test_values_are_the_same_bit_for_bit(left, right, expected):
    assert same(left, right) is expected


def test_after_an_overflow_values_that_are_not_finite_are_expected():
    candidate = run(value2=value("inf"))
    assert found(candidate, skipped=(0, 1)) == []
    assert [d.channel for d in found(candidate)] == ["values"]


def test_the_gradients_that_hold_the_overflow_are_not_compared():
    candidate = run(grads1=grads(1, ["inf", "nan"]))
    assert found(candidate, skipped=(0, 1)) == []
    assert unequal(pair(candidate, skipped=(0, 2))) == [("grads", 0, 1, 0), ("grads", 0, 1, 1)]


def test_only_the_candidate_raises():
    raising = outcome(start(), optimizer(), backward(0, "b0"), grads(1), params(1), end("error", 1, error()))
    first, *others = found(raising)
    assert first.channel == "raises"
    assert first.message == "The candidate ends with `ValueError: no` after 1 step"
    assert first.candidate_at.line == 9
    assert not any(other.channel in ("order", "values") for other in others)


def test_both_raise_the_same():
    raising = run(end=end("error", 1, error()))
    assert found(raising, reference=raising) == []
    assert [d.channel for d in found(run(end=end("error", 1, error("KeyError"))), reference=raising)] == ["raises"]


def test_every_rank_is_compared():
    reference, candidate = run(), run(grads2=grads(2, ["x", "g1"]))
    two = [Outcome({0: run().record, 1: each.record}, "exit", 0, 1.0, "", "") for each in (reference, candidate)]
    assert differences(Pair("L1", *two, SOURCES, rank=0)) == []
    (difference,) = differences(Pair("L1", *two, SOURCES, rank=1))
    assert difference.message.startswith("rank 1: ")


def test_a_rank_that_left_no_record():
    two = Outcome({0: run().record, 1: run().record}, "exit", 0, 1.0, "", "")
    assert differences(Pair("L1", two, run(), SOURCES, rank=1))[0].channel == "raises"


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (outcome(ends=False, ended="timeout"), "Timeout: not done after 1 s"),
        (outcome(ends=False, ended="signal", code=9), "Killed: the process died of SIGKILL"),
        (outcome(ends=False, code=3), "Ended: the process ended with status 3 and left no record"),
        (outcome(end("exit", 3)), "SystemExit: exit status 3"),
        (outcome(end("error", 1, error())), "ValueError: no"),
    ],
)
def test_endings(ended, words):
    flaw = failure(ended)
    assert f"{flaw.type}: {flaw.message}" == words


@pytest.mark.parametrize("status", ["stopped", "completed", "exit", "os._exit"])
def test_ends_that_are_no_failures(status):
    assert failure(outcome(end(status))) is None


def test_the_innermost_frame_of_the_project():
    stacks = (
        'Thread 0x1 (most recent call first):\n  File "/usr/lib/python3.11/time.py", line 3 in sleep\n'
        '  File "/project/.venv/lib/site-packages/x.py", line 4 in f\n  File "/project/train.py", line 7 in main\n'
        '  File "/project/train.py", line 20 in <module>\n'
    )
    assert innermost(stacks, [Path("/project")]) == ("/project/train.py", 7)
    assert innermost(stacks, [Path("/elsewhere")]) is None
