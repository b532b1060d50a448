"""What torch does with the states and the names of Apex, as the rules on old AMP code say."""

import re
import textwrap
from pathlib import Path

import pytest
import torch
import torch.cuda.amp

OLD = {"loss_scaler0": {"loss_scale": 1024.0, "unskipped": 7}}
PAGE = Path(__file__).parents[1] / "rules" / "apex_amp_state_dict.md"


def test_the_state_of_apex_is_none_of_a_scaler():
    with pytest.raises(KeyError, match=r"^'scale'$"):
        torch.amp.GradScaler("cpu").load_state_dict(OLD)


@pytest.mark.parametrize(("checkpoint", "scale", "tracked"), [({"amp": OLD}, 1024.0, 7), ({}, 65536.0, 0)])
def test_the_page_says_how_its_scale_is_taken_over(checkpoint: dict[str, object], scale: float, tracked: int):
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "old =" in block)
    scaler = torch.amp.GradScaler("cpu")
    exec(textwrap.dedent(code), {"checkpoint": checkpoint, "scaler": scaler})
    assert scaler.state_dict() == {
        **torch.amp.GradScaler("cpu").state_dict(),
        "scale": scale,
        "_growth_tracker": tracked,
    }


@pytest.mark.parametrize("name", ["scale_loss", "initialize", "master_params", "half_function", "backward"])
def test_names_of_apex_are_not_in_torch(name: str):
    with pytest.raises(AttributeError, match=rf"module 'torch\.cuda\.amp' has no attribute '{name}'"):
        getattr(torch.cuda.amp, name)
