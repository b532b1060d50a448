"""The proof accepts what a conversion adds, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampify.rewrite.prove import Erases, ProofFailed, SameErasure, prove
from ampify.source.edits import Edit, Fix, landed, splice
from ampify.source.text import Span

LOOPS = Path(__file__).parent.parent / "fixtures" / "loops"
CONVERTED = sorted(LOOPS.glob("*.amp.py"))
CARRIERS = {"use_amp", "device_type", "scaler", "inv_scale", "scale_before"}


def conversion(before: str, after: str) -> Fix:
    """A fix that claims to be a conversion; its edits insert each `.float()` that is new by itself."""
    old = {line.strip() for line in before.splitlines()}
    new = {i for i, line in enumerate(after.splitlines()) if line.strip() not in old}
    added = [m for m in re.finditer(r"\.float\(\)", after) if after.count("\n", 0, m.start()) in new]
    edits, at = [], 0
    for match in added:
        edits += Edit(Span(0, 0), after[at : match.start()]), Edit(Span(0, 0), match[0])
        at = match.end()
    edits.append(Edit(Span(0, len(before)), after[at:]))
    fresh = assigned(after) - assigned(before) - CARRIERS
    new = {*after.splitlines()} - {*before.splitlines()}
    imports = frozenset((0, line) for line in new if line.startswith(("import ", "from ")))
    floats = tuple(e for e in edits if e.text == ".float()")
    return Fix("Convert", tuple(edits), proof=Erases(imports, tuple(sorted(fresh)), floats))


def assigned(text: str) -> set[str]:
    names = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name))
    return {n.id for n in names if isinstance(n.ctx, ast.Store)}


@pytest.mark.parametrize("path", CONVERTED, ids=lambda p: p.name.removesuffix(".amp.py"))
def test_every_conversion_can_be_proved(path: Path) -> None:
    before = path.with_name(path.name.replace(".amp.py", ".py")).read_text("utf-8")
    after = path.read_text("utf-8")
    assert prove(before, after, [conversion(before, after)]) is None


BEFORE = dedent("""
    import torch

    device = torch.device("cuda")
    model = Net().to(device)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = Schedule(opt)

    for x, y in loader:
        opt.zero_grad()
        # forward
        out = model(x)
        loss = crit(out, y)  # the loss
        loss.backward()
        if clip:
            norm(model.parameters(), 1.0)
        opt.step()
        scheduler.step()
    torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, "a.pt")
    """)

AFTER = dedent("""
    import torch

    device = torch.device("cuda")
    model = Net().to(device)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    use_amp = device.type == "cuda"
    scaler = torch.amp.GradScaler(device.type, enabled=use_amp)
    scheduler = Schedule(opt)

    for x, y in loader:
        opt.zero_grad()
        with torch.autocast(device_type=device.type, dtype=torch.float16, enabled=use_amp):
            # forward
            out = model(x)
            loss = crit(out, y)  # the loss
        scaler.scale(loss).backward()
        if clip:
            scaler.unscale_(opt)
            norm(model.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        scheduler.step()
    torch.save({"model": model.state_dict(), "opt": opt.state_dict(), "scaler": scaler.state_dict()}, "a.pt")
    """)

MUTATIONS = {
    "a dropped statement": ("    opt.zero_grad()\n", ""),
    "a dropped backward": ("    scaler.scale(loss).backward()\n", ""),
    "a dropped step": ("    scaler.step(opt)\n", ""),
    "a dropped scheduler": ("    scheduler.step()\n", ""),
    "a changed constant": ("lr=0.1", "lr=0.01"),
    "a changed string": ('"a.pt"', '"b.pt"'),
    "a lost comment": ("# the loss", ""),
    "a changed comment": ("# forward", "# Forward"),
    "a moved comment": ("        # forward\n        out = model(x)\n        loss = crit(out, y)  # the loss\n",
                        "        out = model(x)  # the loss\n        # forward\n        loss = crit(out, y)\n"),
    "an extra comment": ("    scaler.update()\n", "    scaler.update()  # new\n"),
    "an extra statement": ("    scaler.update()\n", "    scaler.update()\n    torch.cuda.empty_cache()\n"),
    "an extra step": ("    scaler.step(opt)\n", "    scaler.step(opt)\n    scaler.step(opt)\n"),
    "swapped lines": ("        out = model(x)\n        loss = crit(out, y)  # the loss\n",
                      "        loss = crit(out, y)  # the loss\n        out = model(x)\n"),
    "a step before backward": ("    scaler.scale(loss).backward()\n",
                               "    scaler.step(opt)\n    scaler.scale(loss).backward()\n"),
    "another loss": ("scaler.scale(loss)", "scaler.scale(out)"),
    "a kept graph": (".backward()", ".backward(retain_graph=True)"),
    "another optimizer": ("scaler.step(opt)", "scaler.step(optimizer)"),
    "a changed condition": ("if clip:", "if not clip:"),
    "a guard that was not there": ("    scheduler.step()\n", "    if use_amp:\n        scheduler.step()\n"),
    "another condition on a step": ("    scaler.step(opt)\n    scaler.update()\n",
                                    "    if use_amp:\n        scaler.step(opt)\n        scaler.update()\n"),
    "a lost entry": ('"opt": opt.state_dict(), ', ""),
    "an extra entry": ('"scaler": ', '"epoch": 1, "scaler": '),
    "an unused import": ("import torch\n", "import torch\nimport os\n"),
    "a call in a switch": ('use_amp = device.type == "cuda"', "use_amp = setup(device)"),
    "an inserted float": ("crit(out, y)", "crit(out.float(), y)"),
    "another context": ("with torch.autocast(", "with torch.no_grad(), torch.autocast("),
    "a named expression": ("        loss = crit(out, y)", "        z = out\n        loss = crit(z, y)"),
    "half weights": ("scheduler = Schedule(opt)", "scheduler = Schedule(opt)\nmodel.half()"),
    "broken syntax": ("scaler.update()", "scaler.update("),
}  # fmt: skip


def test_the_conversion_that_is_mutated_below_is_proved() -> None:
    assert prove(BEFORE, AFTER, [Fix("Convert", (), proof=Erases())]) is None


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_conversion_fails(name: str) -> None:
    old, new = MUTATIONS[name]
    assert old in AFTER
    with pytest.raises(ProofFailed):
        prove(BEFORE, AFTER.replace(old, new, 1), [Fix("Convert", (), proof=Erases())])


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_fix_of_mixed_precision_fails(name: str) -> None:
    old, new = MUTATIONS[name]
    with pytest.raises(ProofFailed):
        prove(AFTER, AFTER.replace(old, new, 1), [Fix("Mend", (), proof=SameErasure())])


def test_what_the_program_had_stays() -> None:
    before = (
        "import torch\nuse_amp = torch.cuda.is_available()\nif a:\n    loss.backward()\nelse:\n    loss.backward()\n"
    )
    after = before.replace("loss.", "scaler.scale(loss).").replace(
        "\nif", "\nscaler = torch.GradScaler(enabled=use_amp)\nif"
    )
    assert prove(before, after, [Fix("Convert", (), proof=Erases())]) is None


def test_a_conversion_beside_existing_amp() -> None:
    old = "with torch.autocast('cuda', enabled=use_amp):\n    evaluate()\n"
    head = "import torch\nuse_amp = torch.cuda.is_available()\n"
    assert prove(head + old + BEFORE, head + old + AFTER, [Fix("Convert", (), proof=Erases())]) is None


def test_a_fix_of_amp_may_move_amp_only() -> None:
    wrong = AFTER.replace("        scaler.unscale_(opt)\n", "")
    assert prove(wrong, AFTER, [Fix("Unscale", (), proof=SameErasure())]) is None
    assert prove(AFTER, wrong, [Fix("Unscale", (), proof=SameErasure())]) is None


def test_declared_spans() -> None:
    before = "import os\nx = old(1)  # one\n"
    at = before.index("old")
    fix = Fix("Rename", (Edit(Span(at, at + 3), "new"),))
    assert prove(before, splice(before, fix.edits), [fix]) is None
    for changed in ("import os\nx = new(2)  # one\n", "import os\nx = new(1)\n", "x = new(1)  # one\n", "x = (\n"):
        with pytest.raises(ProofFailed):
            prove(before, changed, [fix])


def test_fixes_of_several_kinds_in_one_go() -> None:
    at = BEFORE.index("Schedule")
    renames = Fix("Rename", (Edit(Span(at, at + 8), "Plan"),))
    after = AFTER.replace("Schedule", "Plan")
    converts = Fix("Convert", (), proof=Erases())
    assert prove(BEFORE, after, [renames, converts]) is None
    with pytest.raises(ProofFailed):
        prove(BEFORE, after, [converts])


def test_floats_are_found_behind_other_edits() -> None:
    before = "import torch\nout = model(x)\nloss = bce(out, y)\nloss.backward()\n"
    line, use = before.index("out"), before.index("out,")
    island = Edit(Span(use + 3, use + 3), ".float()")
    region = (Edit(Span(line, line), "with torch.autocast('cuda'):\n    "),)
    fix = Fix("Convert", (*region, island), proof=Erases(floats=(island,)))
    assert prove(before, splice(before, fix.edits), [fix]) is None
    with pytest.raises(ProofFailed):
        prove(before, splice(before, fix.edits), [Fix("Convert", fix.edits, proof=Erases())])


def test_a_proof_of_an_unknown_kind() -> None:
    with pytest.raises(ProofFailed):
        prove("x = 1\n", "x = 1\n", [Fix("?", (), proof=object())])


@given(st.data(), st.text("abc\n", max_size=30))
def test_edits_land_where_their_text_is(data: st.DataObject, text: str) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    words = data.draw(st.lists(st.text("xyz", max_size=4), min_size=4, max_size=4))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    edits = data.draw(st.permutations([Edit(Span(a, b), w) for (a, b), w in zip(pairs, words, strict=False)]))
    after = splice(text, edits)
    assert [after[span.start : span.end] for span in landed(edits)] == [edit.text for edit in edits]
