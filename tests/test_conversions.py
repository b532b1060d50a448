"""The loops of fixtures/loops: each `.amp.py` is the same program as its `.py`, and is what the converter writes.

Where there is more to do that only `--unsafe-fixes` does, an `.unsafe.py` has the result, the conversion included.

A comment line at the head of a fixture says what is special about it: `# fixture: dtype=bfloat16` and `device=cpu` are
settings of the conversion, `refused=AMP010` means that the step is left alone with that code, `unchanged` that no rule
of the default fix applies.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest
import torch
from execution import Trace, assert_same, run

from ampify.config import Settings
from ampify.diagnostic import Severity

LOOPS = Path(__file__).parents[1] / "fixtures" / "loops"

# CPU autocast has no float16 kernel for LSTM; CUDA has
BFLOAT16_ON_CPU = {"c28_recurrent_state"}

# Without the plan, erasing cannot tell that a loss was inline, that a `.float()` belongs to an island or to a mean, or
# that an import was added: there it gives back the same program in another text.
SAME_PROGRAM_ONLY = {
    "c06b_input_penalty",
    "c06b_penalty_helper",
    "c06b_penalty_method",
    "c08_dcgan_parallel",
    "c08_gan_bce_inline",
    "c08_gan_bce_named",
    "c08_wgan_n_critic",
    "c20_divided_or_inline",
    "c20_inline_loss",
    "c20_multiline_backward",
    "c27_actor_critic",
    "c27_policy_gradient",
    "c27_policy_gradient_inline",
    "c34_cuda_option",
    "c35_flag_out_of_reach",
    "c35_flag_read",
    "gram_matrix",
    "import_without_torch",
    "policy_logits_stored",
    "siamese_bce_squeeze",
    "sparse_product",
    "vae_helper_loss",
}


@dataclasses.dataclass(frozen=True)
class Loop:
    """One fixture: the script, what the converter makes of it, and what its head says."""

    name: str
    before: str
    after: str
    head: dict[str, str]

    @property
    def converted(self) -> bool:
        return self.before != self.after


@cache
def _loop(name: str) -> Loop:
    before = _read(LOOPS / f"{name}.py")
    expected = LOOPS / f"{name}.amp.py"
    marks = (mark.partition("=") for mark in re.findall(r"^# fixture: (\S+)$", before, re.MULTILINE))
    return Loop(name, before, _read(expected) if expected.exists() else before, {key: value for key, _, value in marks})


def _read(path: Path) -> str:
    return path.read_bytes().decode()


LOOP_NAMES = sorted(path.stem for path in LOOPS.glob("*.py") if not path.stem.endswith((".amp", ".unsafe")))
PAIRS = [name for name in LOOP_NAMES if _loop(name).converted]
REFUSED = [name for name in LOOP_NAMES if "refused" in _loop(name).head]
UNSAFE = [name for name in LOOP_NAMES if (LOOPS / f"{name}.unsafe.py").exists()]
LEFT_ALONE = [name for name in LOOP_NAMES if not _loop(name).converted]


@cache
def _original(name: str) -> Trace:
    return run(_loop(name).before)


def _convert(name: str, text: str, **settings: bool):
    from ampify.engine import fix_text  # needed by half of the tests only: the pairs stand without the converter

    head = _loop(name).head
    chosen = {key: head[key] for key in ("dtype", "device") if key in head}
    return fix_text(text, dataclasses.replace(Settings(), **chosen, **settings))


def _unsafe(name: str) -> str:
    return _read(LOOPS / f"{name}.unsafe.py")


# The pairs are the same program


@pytest.mark.parametrize("name", LOOP_NAMES)
def test_fixture_is_a_repeatable_script(name: str):
    trace = _original(name)
    assert trace.log
    assert trace.finite
    assert_same(trace, run(_loop(name).before))


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_fixture_without_a_pair_says_why(name: str):
    head = _loop(name).head
    assert ("refused" in head) != ("unchanged" in head)


@pytest.mark.parametrize("name", [name for name in PAIRS if _loop(name).head.get("device") != "cpu"])
def test_switched_off_it_is_the_same_program(name: str):
    trace = run(_loop(name).after, "off")
    assert_same(_original(name), trace)
    assert trace.warnings <= _original(name).warnings


@pytest.mark.parametrize("name", PAIRS)
def test_scaled_it_is_the_same_program(name: str):
    assert_same(_original(name), run(_loop(name).after, "scaled"))


@pytest.mark.parametrize("name", PAIRS)
def test_switched_on_it_still_trains(name: str):
    trace = run(_loop(name).after, "full", torch.bfloat16 if name in BFLOAT16_ON_CPU else None)
    assert trace.finite
    assert trace.steps
    assert trace.regions


# The converter writes them


@pytest.mark.parametrize("name", PAIRS)
def test_converts(name: str):
    loop = _loop(name)
    assert _convert(name, loop.before)[0] == loop.after


@pytest.mark.parametrize("name", PAIRS)
def test_converts_once(name: str):
    text, diagnostics = _convert(name, _loop(name).after)
    assert text == _loop(name).after
    assert [diagnostic for diagnostic in diagnostics if diagnostic.severity is Severity.ERROR] == []


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_leaves_alone(name: str):
    assert _convert(name, _loop(name).before)[0] == _loop(name).before


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_in_words(name: str):
    diagnostics = _convert(name, _loop(name).before)[1]
    assert [diagnostic.code for diagnostic in diagnostics] == [_loop(name).head["refused"]]


@pytest.mark.parametrize("name", PAIRS)
def test_erasing_gives_back_the_original(name: str):
    from ampify.rewrite.erase import erase_text

    loop = _loop(name)
    original = erase_text(loop.before) if "autocast(" in loop.before else loop.before
    erased = erase_text(loop.after)
    assert ".autocast(" not in erased
    assert "GradScaler(" not in erased
    if name in SAME_PROGRAM_ONLY:
        assert_same(run(original), run(erased))
    else:
        assert _program(erased) == _program(original)


def _program(text: str) -> str:
    return ast.dump(ast.parse(text), indent=1)


@pytest.mark.parametrize("mode", ["off", "scaled"])
def test_quickstart_stays_the_same_program(mode: str):
    from ampify.engine import fix_text

    text = _read(LOOPS.parent / "quickstart" / "train.py")
    converted, _ = fix_text(text, Settings())
    assert converted != text
    assert_same(run(text), run(converted, mode))


# Unsafe fixes


@pytest.mark.parametrize("start", ["before", "after"])
@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_fixes_go_further(name: str, start: str):
    text, diagnostics = _convert(name, getattr(_loop(name), start), unsafe_fixes=True)
    assert text == _unsafe(name)
    assert text != _loop(name).after
    assert diagnostics == []


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_fixes_go_once(name: str):
    assert _convert(name, _unsafe(name), unsafe_fixes=True) == (_unsafe(name), [])


@pytest.mark.parametrize("mode", ["off", "scaled"])
@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_it_is_the_same_program(name: str, mode: str):
    trace = run(_unsafe(name), mode)
    assert_same(_original(name), trace)
    assert mode == "scaled" or trace.warnings <= _original(name).warnings


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_it_still_trains(name: str):
    trace, safe = run(_unsafe(name), "full"), run(_loop(name).after, "full")
    assert trace.finite
    assert len(trace.steps) == len(safe.steps)
    assert trace.regions > safe.regions or "get_scale()" in _unsafe(name)


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_fixes_are_erased(name: str):
    from ampify.rewrite.erase import erase_text

    assert _program(erase_text(_unsafe(name))) == _program(_loop(name).before)


def test_scheduler_waits_for_a_step_that_was_skipped():
    def rates(text: str) -> list[object]:
        overflowing = text.replace("criterion(model(x), y)", "criterion(model(x), y) * (1e40 if step == 0 else 1)")
        assert overflowing != text
        return [rate for _, rate in run(overflowing, "scaled").log]

    original = [rate for _, rate in _original("c14_scheduler_per_batch").log]
    assert rates(_loop("c14_scheduler_per_batch").after) == original
    assert rates(_unsafe("c14_scheduler_per_batch"))[1:] == original[:-1]


# However the file is written down


@pytest.mark.parametrize("name", PAIRS)
def test_converts_with_crlf(name: str):
    loop = _loop(name)
    assert _convert(name, loop.before.replace("\n", "\r\n"))[0] == loop.after.replace("\n", "\r\n")


@pytest.mark.parametrize("name", PAIRS)
def test_converts_with_byte_order_mark(name: str):
    from ampify.source.python import decode

    loop = _loop(name)
    mark = b"\xef\xbb\xbf"
    document = decode(Path("train.py"), mark + loop.before.encode())
    assert document.encode([_convert(name, document.text)[0]]) == mark + loop.after.encode()


@pytest.mark.parametrize("unit", ["\t", "  "], ids=["tabs", "two-spaces"])
@pytest.mark.parametrize("name", PAIRS)
def test_converts_with_other_indentation(name: str, unit: str):
    loop = _loop(name)
    converted = _convert(name, _reindent(loop.before, unit))[0]
    assert _joined(converted) == _joined(_reindent(loop.after, unit))


def _reindent(text: str, unit: str) -> str:
    """The text with another unit of indentation in the place of four columns; lines inside strings stay."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    in_string = {
        row for token in tokens if token.type == tokenize.STRING for row in range(token.start[0] + 1, token.end[0] + 1)
    }
    lines = text.splitlines(keepends=True)
    return "".join(line if row in in_string else _reindent_line(line, unit) for row, line in enumerate(lines, 1))


def _reindent_line(line: str, unit: str) -> str:
    code = line.lstrip(" \t")
    columns = len(line[: len(line) - len(code)].expandtabs(4))
    return unit * (columns // 4) + " " * (columns % 4) + code


def _joined(text: str) -> str:
    """The text with every `with torch.autocast(...)` on one line: where it is broken depends on the indentation."""

    def on_one_line(match: re.Match[str]) -> str:
        arguments = re.split(r",?\s*\n\s*", match[1].strip().rstrip(","))
        return f"autocast({', '.join(arguments)}):"

    return re.sub(r"autocast\(\n(.*?)\n\s*\):", on_one_line, text, flags=re.DOTALL)


# The harness sees what it is there to see: mistakes that run without an error, and one that does not


@pytest.mark.parametrize(
    ("name", "written", "mistaken"),
    [
        pytest.param("c03_clip_norm", "scaler.unscale_(optimizer)\n", "pass\n", id="clip-before-unscale"),
        pytest.param("c01_typical", "scaler.step(optimizer)", "optimizer.step()", id="plain-step"),
        pytest.param("c01_typical", "scaler.scale(loss).backward()", "loss.backward()", id="unscaled-backward"),
        pytest.param("c01_typical", "loss.item()", "scaler.scale(loss).item()", id="scaled-loss-logged"),
        pytest.param("c03_clip_norm", "scaler.update()\n", "pass\n", id="missing-update"),
        pytest.param("c06b_input_penalty", "grad = grad * (1.0 / scaler.get_scale())\n", "pass\n", id="scaled-penalty"),
        pytest.param(
            "c07_two_optimizers_retain_graph",
            "scaler.step(opt_encoder)\n",
            "scaler.step(opt_encoder); scaler.update()\n",
            id="update-between-optimizers",
        ),
    ],
)
def test_scaled_run_shows_the_mistake(name: str, written: str, mistaken: str):
    text = _loop(name).after
    assert text.count(written) == 1
    with pytest.raises((AssertionError, RuntimeError)):
        assert_same(_original(name), run(text.replace(written, mistaken), "scaled"))


def test_full_run_forbids_bce_in_autocast():
    after = _loop("c08_gan_bce_named").after
    inside = after.replace("    err_g = criterion(output, label)", "        err_g = criterion(output, label)")
    assert inside != after
    with pytest.raises(AssertionError, match="binary_cross_entropy inside"):
        run(inside, "full")


def test_every_replacement_is_taken_back():
    before = torch.autocast, torch.amp.GradScaler, torch.get_rng_state().tolist()
    run(_loop("c01_typical").after, "full")
    assert before == (torch.autocast, torch.amp.GradScaler, torch.get_rng_state().tolist())


@pytest.mark.parametrize(("long_lines", "broken"), [(3, True), (12, False)])
def test_lines_are_as_long_as_others_of_the_file(long_lines: int, broken: bool):
    deep = (
        "def train(model, loader, opt):\n    for x in loader:\n        if x is not None:\n            opt.zero_grad()\n"
    )
    body = "            loss = model(x.cuda()).mean()\n            loss.backward()\n            opt.step()\n"
    setup = "model = torch.nn.Linear(4, 4).cuda()\nopt = torch.optim.SGD(model.parameters(), lr=0.1)\n"
    note = f"print({'x' * 95!r})\n" * long_lines
    text, _ = _convert("c01_inline_model_call", f"import torch\n{deep}{body}{setup}train(model, [], opt)\n{note}")
    line = "            with torch.autocast(device_type='cuda', dtype=torch.float16, enabled=scaler.is_enabled()):\n"
    assert (line in text) is not broken
