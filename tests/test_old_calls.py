"""Old calls that a rewrite by name gets wrong: the fix gives the right code, and it does what the old code did."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import pytest
import torch

from ampify.config import Settings
from ampify.engine import check_text, fix_text

OLD = Settings(select=("AMP101", "AMP102", "AMP103", "AMP104", "AMP105", "AMP113"))

PROBES = """
### a flag by position
import torch
result = torch.cuda.amp.autocast(False)
### becomes
import torch
result = torch.autocast(device_type="cuda", enabled=False)
### a dtype by position
import torch
result = torch.cpu.amp.autocast(True, torch.bfloat16, False)
### becomes
import torch
result = torch.autocast(device_type="cpu", enabled=True, dtype=torch.bfloat16, cache_enabled=False)
### keywords in another order
import torch
result = torch.cpu.amp.autocast(cache_enabled=False, dtype=torch.float16, enabled=True)
### becomes
import torch
result = torch.autocast(device_type="cpu", cache_enabled=False, dtype=torch.float16, enabled=True)
### amp from torch.cuda
from torch.cuda import amp
result = amp.autocast()
### becomes
import torch
result = torch.autocast(device_type="cuda")
### torch.cuda.amp as amp
import torch.cuda.amp as amp
result = amp.autocast(enabled=False)
### becomes
import torch
result = torch.autocast(device_type="cuda", enabled=False)
### amp from torch.cpu
from torch.cpu import amp
result = [amp.autocast(False), amp.GradScaler(2.0**4)]
### becomes
import torch
result = [torch.autocast(device_type="cpu", enabled=False), torch.amp.GradScaler("cpu", init_scale=2.0**4)]
### torch as th
import torch as th
result = th.cpu.amp.autocast()
### becomes
import torch as th
result = th.autocast(device_type="cpu")
### a name of its own
from torch.cuda.amp import autocast as mixed
result = mixed(False, cache_enabled=False)
### becomes
import torch
result = torch.autocast(device_type="cuda", enabled=False, cache_enabled=False)
### the module inside
from torch.cuda.amp.autocast_mode import autocast
result = autocast(False)
### becomes
import torch
result = torch.autocast(device_type="cuda", enabled=False)
### a comment among the arguments
import torch
result = torch.cuda.amp.autocast(  # never
    False,  # on this machine
)
### becomes
import torch
result = torch.autocast(  # never
    device_type="cuda", enabled=False,  # on this machine
)
### a GradScaler and its check
from torch.cuda.amp import GradScaler
scaler = GradScaler(4.0, enabled=False)
result = [scaler, isinstance(scaler, GradScaler)]
### becomes
import torch
scaler = torch.amp.GradScaler("cuda", init_scale=4.0, enabled=False)
result = [scaler, isinstance(scaler, torch.amp.GradScaler)]
### a decorator
import torch
@torch.cpu.amp.autocast(True)
def square(x):
    return x @ x
result = square(torch.ones(2, 2)).dtype
### becomes
import torch
@torch.autocast(device_type="cpu", enabled=True)
def square(x):
    return x @ x
result = square(torch.ones(2, 2)).dtype
### a decorator that was not called
import torch
from torch.cuda.amp import custom_bwd
class Context:
    _fwd_used_autocast, _dtype = False, None
@custom_bwd
def backward(ctx, x):
    return torch.is_autocast_enabled('cuda')
result = backward(Context(), 1)
### becomes
import torch
class Context:
    _fwd_used_autocast, _dtype = False, None
@torch.amp.custom_bwd(device_type="cuda")
def backward(ctx, x):
    return torch.is_autocast_enabled('cuda')
result = backward(Context(), 1)
### an import inside a function
def make(on):
    from torch.cuda.amp import autocast
    with autocast(False) as region:
        return region
result = make(False)
### becomes
import torch
def make(on):
    with torch.autocast(device_type="cuda", enabled=False) as region:
        return region
result = make(False)
### the dtype of the GPU
import torch
result = torch.get_autocast_gpu_dtype()
### becomes
import torch
result = torch.get_autocast_dtype("cuda")
"""

LEFT = """
### a star
import torch
given = (False, torch.float16)
result = torch.cuda.amp.autocast(*given)
### a star import
from torch.cuda.amp import *
result = autocast(False)
### partial
import torch
from functools import partial
result = partial(torch.cuda.amp.autocast, False)()
### what is installed
try:
    from torch.cuda.amp import autocast
except ImportError:
    autocast = None
result = autocast and autocast(False)
"""

UNSAID = """
### a switch of versions
import torch
if hasattr(torch.amp, 'GradScaler'):
    result = torch.autocast('cuda', enabled=False)
else:
    result = torch.cuda.amp.autocast(False)
### a class of the same name
class autocast:
    pass
result = autocast()
### the package of someone else
from mine.cuda.amp import autocast
result = autocast(False)
"""


def probes(text: str) -> Iterator[object]:
    """The code under each title, and what it becomes where that is said."""
    titles_and_codes = re.split(r"^### (?!becomes)(.*)\n", text, flags=re.M)[1:]
    for title, code in zip(titles_and_codes[::2], titles_and_codes[1::2], strict=True):
        before, _, after = code.partition("### becomes\n")
        yield pytest.param(before, *filter(None, [after]), id=title)


def meaning(text: str) -> object:
    """What the code makes, as plain values."""
    space: dict[str, object] = {}
    with warnings.catch_warnings(action="ignore"):
        exec(compile(text, "probe.py", "exec"), space)
        return plain(space["result"])


def plain(value: object) -> object:
    match value:
        case torch.autocast():
            return value.device, value._enabled, value.fast_dtype, value._cache_enabled
        case torch.amp.GradScaler():
            return value._device, value.is_enabled(), value.get_scale()
        case list():
            return [plain(each) for each in value]
    assert isinstance(value, bool | torch.dtype)
    return value


@pytest.mark.parametrize(("before", "after"), [*probes(PROBES)])
def test_the_new_call_does_what_the_old_one_did(before: str, after: str) -> None:
    assert fix_text(before, OLD)[0] == after
    assert meaning(after) == meaning(before)


@pytest.mark.parametrize("text", [*probes(LEFT)])
def test_what_cannot_be_told_is_reported_and_stays(text: str) -> None:
    assert fix_text(text, OLD)[0] == text
    assert check_text(text, OLD, "probe.py")


def test_a_name_for_it_is_told_where_it_is_made_and_called() -> None:
    text = (
        "import torch\nfrom contextlib import suppress\nmixed = suppress\nif on:\n    mixed = torch.cuda.amp.autocast\n"
        "train(model, mixed)\nif mixed is not suppress: train(model, context=mixed)\nwith mixed(): pass\n"
    )
    found = check_text(text, OLD, "probe.py")
    assert [text.count("\n", 0, each.span.start) + 1 for each in found] == [5, 8]


@pytest.mark.parametrize("text", [*probes(UNSAID)])
def test_what_is_right_is_not_reported(text: str) -> None:
    assert not check_text(text, OLD, "probe.py")
