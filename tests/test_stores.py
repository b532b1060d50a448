"""Half-precision results that float32 tensors are filled with by index, and that are cast to float32 for it."""

from __future__ import annotations

import pytest
from execution import assert_same, run
from test_traps import HEAD

from ampify.config import Settings
from ampify.engine import fix_text

MEMORY = """\
memory = {made}
rows = torch.arange(6, device=device)
for x, y in data:
    opt.zero_grad()
    {before}
    out = model(x)
    loss = F.cross_entropy(out, y)
    hidden = {hidden}
    memory[rows] = {value}
    loss.backward()
    opt.step()
    log.append((str(memory.dtype), memory.sum().item()))
"""


def program(made: str = "torch.zeros(6, 4, device=device)", value: str = "hidden", **parts: str) -> str:
    return HEAD + MEMORY.format(made=made, value=value, **{"before": "pass", "hidden": "out.detach()", **parts})


@pytest.mark.parametrize("value", ["hidden", "out.detach()", "torch.relu(out).detach()"])
def test_a_value_is_cast_to_the_dtype_of_the_tensor(value: str):
    before = program(value=value)
    after, left = fix_text(before, Settings())
    assert left == []
    assert f"memory[rows] = {value}.float()\n" in after
    original = run(before, "original")
    assert_same(original, run(after, "off"))
    assert_same(original, run(after, "scaled"))
    assert run(after, "full").log[0][0] == "torch.float32"
    with pytest.raises(RuntimeError, match="Index put requires the source and destination dtypes match"):
        run(after.replace(f"{value}.float()", value), "full")


REFUSED = {
    "a tensor like one in half precision": program(
        made="torch.zeros_like(model(data[0][0]))", before="memory = out * 0"
    ).replace("    memory = out * 0\n    out = model(x)", "    out = model(x)\n    memory = torch.empty_like(out)"),
    "arithmetic": program(value="hidden + 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_cast_is_refused_or_has_the_same_dtype(name: str):
    after, left = fix_text(REFUSED[name], Settings())
    if not left:
        assert ".float()" not in after
        assert run(after, "full").finite
        return
    assert after == REFUSED[name]
    assert [d.code for d in left] == ["AMP021"]
