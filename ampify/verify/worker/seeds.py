"""The same numbers in every run: seeds, deterministic algorithms, threads; what the script seeds itself wins."""

from __future__ import annotations

import functools
import random
import re
import warnings
from typing import Any, Callable

import torch

from .hooks import after_import
from .job import Job

_MESSAGE = re.compile(r"(\S+) does not have a deterministic implementation")


def install(job: Job, recorder: Any) -> None:
    """Seed every generator, fix the number of threads, choose deterministic algorithms."""
    _seed(job.seed)
    after_import("numpy", functools.partial(_seed_numpy, seed=job.seed))
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    if job.device == "cpu":
        torch.backends.mps.is_available = lambda: False  # type: ignore[assignment]
    if job.tf32 is not None:
        _choose_tf32(job.tf32)
    if job.deterministic:
        _choose_deterministic(job.strict)
        _report(recorder)


def _seed(seed: int) -> None:
    """Also where the script asks for a seed of the system."""
    random.seed(seed)
    torch.manual_seed(seed)
    real = random.seed
    random.seed = lambda a=None, version=2: real(seed if a is None else a, version)

    def fixed() -> int:
        torch.manual_seed(seed)
        return seed

    torch.seed = torch.random.seed = fixed


def _seed_numpy(numpy: Any, seed: int) -> None:
    numpy.random.seed(seed)
    for name in ("default_rng", "seed"):
        setattr(numpy.random, name, _with_default(getattr(numpy.random, name), seed))


def _with_default(real: Callable[..., Any], seed: int) -> Callable[..., Any]:
    default = seed

    @functools.wraps(real)
    def call(seed: Any = None) -> Any:
        return real(default if seed is None else seed)

    return call


def _choose_deterministic(strict: bool) -> None:
    """As far as there are such algorithms, and for the whole run: the script cannot take it back."""
    torch.use_deterministic_algorithms(mode=True, warn_only=not strict)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    _freeze(torch._C, "_set_cudnn_benchmark", "_set_cudnn_deterministic", "_set_deterministic_algorithms")
    _freeze_property("benchmark")
    _freeze_property("deterministic")


def _choose_tf32(allowed: bool) -> None:
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    _freeze(torch._C, "_set_cublas_allow_tf32", "_set_cudnn_allow_tf32", "_set_float32_matmul_precision")
    _freeze_property("allow_tf32")


def _freeze(owner: Any, *names: str) -> None:
    for name in names:
        setattr(owner, name, lambda *_, **__: None)


def _freeze_property(name: str) -> None:
    vars(type(torch.backends.cudnn))[name].setter = lambda value: None


def _report(recorder: Any) -> None:
    """Record each operation of which torch warns that it is not deterministic."""
    warnings.filterwarnings("always", message=f".*{_MESSAGE.pattern[5:]}")
    show = warnings._showwarnmsg  # type: ignore[attr-defined]  # what C calls for every warning
    seen: set[str] = set()

    def showing(message: Any) -> None:
        found = _MESSAGE.match(str(message.message))
        if found is None:
            show(message)
        elif found[1] not in seen:
            seen.add(found[1])
            recorder.emit("nondeterministic", op=found[1])

    warnings._showwarnmsg = showing  # type: ignore[attr-defined]
