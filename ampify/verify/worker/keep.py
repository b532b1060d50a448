"""Saves tensors of a run as they are, and tells how two of them differ."""

from __future__ import annotations

import io
import math
import os
from typing import Any

import torch

from .digest import local

_NORMAL = 2.0**-126
"""The smallest normal float32."""


def save(tensor: torch.Tensor | None, folder: str, name: str) -> None:
    """Write a copy of the tensor on the CPU; None, too, can be saved."""
    content = io.BytesIO()
    torch.save(None if tensor is None else local(tensor.detach()).cpu().clone(), content)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content.getvalue())


def compare(spec: dict[str, Any]) -> dict[str, Any]:
    """How kept tensors differ: `{"pairs": [[path, path], ...]}` gives `{"pairs": [difference, ...]}`.

    A difference has `same` (bit for bit, in value, dtype and shape) and `shape` and `dtype` of both sides; where these
    are equal `elements` and how many of them `differ`; where any does `largest` (absolute; "nan" for NaN), `tiny` (all
    are below 2**-126), and `first` and `worst`: index and both values of the first and of the largest difference.
    """
    with torch.no_grad():
        return {"pairs": [_difference(_load(a), _load(b)) for a, b in spec["pairs"]]}


def _load(path: str) -> torch.Tensor | None:
    tensor: torch.Tensor | None = torch.load(path, map_location="cpu", weights_only=True)
    return tensor if tensor is None or tensor.layout == torch.strided else tensor.to_dense()


def _difference(a: torch.Tensor | None, b: torch.Tensor | None) -> dict[str, Any]:
    sides = [None if each is None else list(each.shape) for each in (a, b)]
    dtypes = [None if each is None else str(each.dtype).partition(".")[2] for each in (a, b)]
    found: dict[str, Any] = {"same": a is None and b is None, "shape": sides, "dtype": dtypes}
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
        return found
    return {**found, **_elements(a.reshape(-1), b.reshape(-1), list(a.shape))}


def _elements(a: torch.Tensor, b: torch.Tensor, shape: list[int]) -> dict[str, Any]:
    apart = (_bytes(a) != _bytes(b)).any(1).nonzero().reshape(-1)
    found = {"same": not len(apart), "elements": len(a), "differ": len(apart)}
    if not len(apart):
        return found
    distance = (a[apart].to(_wide(a)) - b[apart].to(_wide(a))).abs()
    distance = distance.masked_fill(a[apart] == b[apart], 0.0)  # two infinities
    worst = int(distance.nan_to_num(nan=float("inf")).argmax())
    places = {"first": int(apart[0]), "worst": int(apart[worst])}
    return {
        **found,
        "largest": _number(distance[worst]),
        "tiny": bool((distance < _NORMAL).all()),
        **{name: {"index": _index(i, shape), "values": [_number(a[i]), _number(b[i])]} for name, i in places.items()},
    }


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.complex128 if tensor.is_complex() else torch.float64


def _bytes(flat: torch.Tensor) -> torch.Tensor:
    """One row of bytes an element."""
    return flat.contiguous().view(torch.uint8).view(len(flat), flat.element_size())


def _index(i: int, shape: list[int]) -> list[int]:
    index: list[int] = []
    for size in reversed(shape):
        i, place = divmod(i, size)
        index.insert(0, place)
    return index


def _number(element: torch.Tensor) -> Any:
    """A float JSON can hold; other numbers as Python writes them."""
    value: Any = element.item()
    return str(value) if isinstance(value, complex) or not math.isfinite(value) else value
