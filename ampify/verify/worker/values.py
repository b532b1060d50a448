"""What the script reads from tensors as Python numbers, and the roots from which it goes backward."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import torch

from .digest import Number, Part
from .job import Job
from .recorder import Recorder, wrap
from .scalers import scale_of

Tensor = torch.Tensor
_READS = {
    "item": "item", "__float__": "float", "tolist": "tolist", "numpy": "numpy", "__format__": "format",
    "__repr__": "format",
}  # fmt: skip
"""Methods of a tensor that give its numbers away, and what the record calls them."""
_MANY = 64
"""Numbers of one list that are recorded one by one; of a longer one only the sum."""


def install(job: Job, recorder: Recorder) -> None:
    """Take over the reading methods of `Tensor`, and `backward` in all its forms."""
    values, roots = Values(recorder), Roots(recorder)
    for name, how in _READS.items():
        wrap(Tensor, name, functools.partial(values.read, how))
    wrap(Tensor, "backward", functools.partial(roots.backward, "self"))
    wrap(torch.autograd, "backward", functools.partial(roots.backward, "tensors"))
    wrap(torch.autograd, "grad", functools.partial(roots.backward, "outputs"))


class Values:
    """Floats that code outside of torch reads in the script's own thread."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._reading = recorder, False

    def read(self, how: str, original: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        """A reading method; one that calls another of them is one reading."""
        recorder = self._recorder
        if self._reading or not recorder.in_main_thread() or not recorder.watching or not recorder.by_script():
            return original(tensor, *args, **kwargs)
        self._reading = True
        try:
            result = original(tensor, *args, **kwargs)
            with recorder.guard("value"):
                self._tell(how, tensor, result)
            return result
        finally:
            self._reading = False

    def _tell(self, how: str, tensor: Tensor, result: Any) -> None:
        if not tensor.is_floating_point() or (how in ("numpy", "format") and tensor.numel() != 1):
            return
        read = tensor.detach().item() if how in ("numpy", "format") else result
        numbers = list(_flat(read))
        for x in numbers if len(numbers) <= _MANY else [sum(numbers)]:
            self._recorder.emit("value", x=x, how=how)


def _flat(read: Any) -> Iterator[float]:
    if isinstance(read, list):
        for each in read:
            yield from _flat(each)
    else:
        yield float(read)


class Roots:
    """Calls of `backward` and `grad` by code outside of torch."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._local, self._count = recorder, threading.local(), 0

    def backward(self, name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One of the functions that go backward, from its first argument or from the one called `name`."""
        if getattr(self._local, "busy", False) or not self._recorder.watching or not self._recorder.by_script():
            return original(*args, **kwargs)
        self._local.busy = True
        try:
            with self._recorder.guard("backward"):
                given: Tensor | Sequence[Tensor] = args[0] if args else kwargs[name]
                for root in [given] if isinstance(given, Tensor) else given:
                    self._tell(root)
            return original(*args, **kwargs)
        finally:
            self._local.busy = False

    def _tell(self, root: Tensor) -> None:
        i, scale = self._count, scale_of(root)
        self._count += 1
        plain = root.detach() if scale is None else (root.double() / scale.to(root.device).double()).to(root.dtype)
        total = plain.double().sum()
        self._recorder.emit(
            "backward", i=i, d=Part(self._recorder.digest([plain]), 0), x=Number(total),
            dtype=str(root.dtype).partition(".")[2], size=root.numel(), scale=1.0 if scale is None else Number(scale),
        )  # fmt: skip
        self._recorder.keep("backward", None, i, [plain])
