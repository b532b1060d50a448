"""Writes ``ampify/model/autocast_ops.toml`` from the installed torch; ``--check`` only compares.

The policies stand in the header that declares autocast for CUDA. Of the CPU, torch tells which operators it has a
policy for; where it has one for an operator of CUDA's lists, it is the same one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch

TABLE = Path(__file__).parents[1] / "ampify" / "model" / "autocast_ops.toml"
HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
LISTS = {"half": ("LOWER_PRECISION_FP",), "float32": ("FP32", "FP32_SET_OPT_DTYPE"), "widest": ("PROMOTE",)}
NORM = "norm.Scalar"
"""The header lists it apart, for its signature."""
LATER = re.compile(r"huber_loss|linalg_\w+|logsumexp|rms_norm|upsample_\w+")
"""Not in the lists of torch 1.10, the oldest that has `torch.autocast`: what holds from some version on is no fact."""
HEAD = """\
# Written by `python scripts/autocast_ops.py`; do not edit by hand.
# What autocast does with an operator: in half precision, in float32, in the widest dtype of its operands.
"""


def table() -> str:
    lines = [HEAD, f'torch = "{torch.__version__.partition("+")[0]}"\n']
    for device, key in (("cuda", "AutocastCUDA"), ("cpu", "AutocastCPU")):
        lines.append(f"\n[{device}]\n")
        for name, macros in LISTS.items():
            operators = sorted({op.partition(".")[0] for macro in macros for op in listed(macro) if has(op, key)})
            lines += [f"{name} = [\n", *(f'    "{op}",\n' for op in operators if not LATER.fullmatch(op)), "]\n"]
    return "".join(lines)


def listed(macro: str) -> list[str]:
    """The public operators of a list of the header, with their overloads: ``pow.Tensor_Scalar``."""
    body = re.search(rf"#define AT_FORALL_{macro}\(_\)((?:.*\\\n)*.*)", HEADER.read_text("utf-8"))
    assert body, macro
    found = re.findall(r"_\(([a-z]\w*)(?:, (\w+))?\)", body[1])
    operators = [f"{name}.{overload}" if overload else name for name, overload in found]
    return [*operators, NORM] if macro == "FP32" else operators


def has(operator: str, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{operator}", key)


def main() -> None:
    if "--check" not in sys.argv:
        TABLE.write_text(table(), "utf-8")
    elif TABLE.read_text("utf-8") != table():
        sys.exit(f"{TABLE} is out of date; run `python scripts/autocast_ops.py`")


if __name__ == "__main__":
    main()
