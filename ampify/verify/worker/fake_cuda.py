"""A CUDA device that is none: a script written for CUDA runs on the CPU and believes that its tensors are elsewhere.

Tensors know whether the script moved them: copies are made where CUDA makes copies, and `is_cuda`, `device`,
`get_device()` and `type()` tell the script, and it alone, what it would see there. Random numbers are those of the CPU.

Not imitated: numbers (kernels, TF32, fused and nondeterministic algorithms), asynchrony, memory and its limits, more
than one device, CUDA graphs, custom kernels, `torch.jit.script` with names of devices, NCCL (gloo takes its place),
`SyncBatchNorm` over several processes, threads that the script starts itself, the refusal of `numpy()` on CUDA,
`torch.device(0)`, which torch refuses without a device (`"cuda:0"` is fine). Tensors made under a default device of
CUDA look as if they were on the CPU.
"""

from __future__ import annotations

import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable

import torch
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils.weak import WeakIdKeyDictionary

from .recorder import wrap

if TYPE_CHECKING:
    from .job import Job
    from .recorder import Recorder

NAME = "CUDA imitated on the CPU"
DEVICE = torch.device("cuda", 0)
MEMORY = 16 << 30

ANSWERS: dict[str, Any] = {
    **dict.fromkeys(("is_available", "is_initialized", "is_bf16_supported"), True),
    **dict.fromkeys(("current_device", "utilization", "temperature", "power_draw", "clock_rate"), 0),
    **dict.fromkeys(("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"), 0),
    **dict.fromkeys(("memory_cached", "max_memory_cached"), 0),
    **dict.fromkeys(("init", "synchronize", "set_device", "set_stream", "empty_cache", "ipc_collect"), None),
    **dict.fromkeys(("reset_peak_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached"), None),
    **dict.fromkeys(("reset_accumulated_memory_stats", "set_per_process_memory_fraction"), None),
    **dict.fromkeys(("manual_seed", "manual_seed_all", "seed", "seed_all", "set_rng_state", "set_rng_state_all"), None),
    "is_current_stream_capturing": False,
    "device_count": 1,
    "get_device_name": NAME,
    "get_device_capability": (8, 0),
    "get_arch_list": ["sm_80"],
    "get_device_properties": SimpleNamespace(
        name=NAME, major=8, minor=0, total_memory=MEMORY, multi_processor_count=1, is_integrated=False
    ),
    "mem_get_info": (MEMORY, MEMORY),
    "memory_stats": defaultdict(int),
    "memory_summary": NAME,
    "memory_snapshot": [],
}
"""What the functions of `torch.cuda` give, whatever they are asked."""

ACCELERATOR: dict[str, Any] = {
    "is_available": True,
    "current_accelerator": torch.device("cuda"),
    "device_count": 1,
    **dict.fromkeys(("current_device_index", "current_device_idx"), 0),
    **dict.fromkeys(("set_device_index", "set_device_idx", "synchronize", "set_stream"), None),
}
"""The same for `torch.accelerator`, which torch has since 2.6."""

KINDS = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")


def install(job: Job, recorder: Recorder) -> None:
    """For the rest of the process; does nothing where there is a CUDA device."""
    if torch.cuda.is_available():
        return
    fake = FakeCuda()
    _answer(torch.cuda, ANSWERS)
    if hasattr(torch, "accelerator"):
        _answer(torch.accelerator, ACCELERATOR)
        torch.accelerator.current_stream = _Idle  # type: ignore[assignment]
    _replace_classes(fake)
    _redirect(fake)
    _redirect_parallel()
    fake.__enter__()  # type: ignore[no-untyped-call]


class FakeCuda(TorchFunctionMode):
    """Keeps tensors on the CPU and remembers which of them the script has on CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self._moved: Any = WeakIdKeyDictionary()
        kind: Any = torch.Tensor
        self._special: dict[Any, Callable[..., Any]] = {
            kind.cuda: lambda func, tensor, *_, **__: self.place(tensor, "cuda", [tensor]),
            kind.cpu: lambda func, tensor, *_, **__: self.place(tensor, "cpu", [tensor]),
            kind.type: self._type,
            kind.pin_memory: lambda func, tensor, *_, **__: tensor,
            kind.is_pinned: lambda func, tensor, *_, **__: False,
            kind.get_device: lambda func, tensor: 0 if self.has(tensor) else -1,
            kind.is_cuda.__get__: self._is_cuda,
            kind.device.__get__: self._device,
            kind.data.__set__: self._set_data,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        special = self._special.get(func)
        if special is not None:
            return special(func, *args, **(kwargs or {}))
        return self._call(func, args, kwargs or {})

    def has(self, value: object) -> bool:
        """Whether the script has this tensor on CUDA."""
        return isinstance(value, torch.Tensor) and value in self._moved

    def place(self, result: Any, where: str, given: list[torch.Tensor]) -> Any:
        """``result`` on that device; a copy if it is one of the ``given`` tensors and was on the other one."""
        if not isinstance(result, torch.Tensor) or self.has(result) == (where == "cuda"):
            return result
        if any(result is tensor for tensor in given):
            result = result.clone()
        if where == "cuda":
            self._moved[result] = True
        return result

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An operation on the CPU; its results are on CUDA if that was asked for, or else if an argument is."""
        given = list(_tensors((args, kwargs)))
        where = self._asked(func, args, kwargs)
        result = func(*_on_cpu(func, args), **{name: _plain(name, value) for name, value in kwargs.items()})
        if where is not None:
            return self.place(result, where, given)
        if any(map(self.has, given)):
            for tensor in _tensors(result):
                if all(tensor is not other for other in given):
                    self._moved[tensor] = True
        return result

    def _asked(self, func: Any, args: Any, kwargs: Any) -> str | None:
        """The device that the call names."""
        named = kwargs.get("device")
        if named is None and func is torch.Tensor.to:
            named = args[1] if len(args) > 1 else kwargs.get("other")
            if isinstance(named, torch.Tensor):
                return "cuda" if self.has(named) else "cpu"
        elif named is None:
            named = next((value for value in args if isinstance(value, torch.device)), None)
        return _kind(named)

    def _is_cuda(self, func: Any, tensor: torch.Tensor, *_: Any) -> bool:
        return self.has(tensor) and _asked_by_script()

    def _device(self, func: Any, tensor: torch.Tensor, *_: Any) -> torch.device:
        if self.has(tensor) and _asked_by_script():
            return DEVICE
        device: torch.device = func(tensor, *_)
        return device

    def _set_data(self, func: Any, tensor: torch.Tensor, data: torch.Tensor) -> None:
        func(tensor, data)
        if self.has(data):
            self._moved[tensor] = True
        else:
            self._moved.pop(tensor, None)

    def _type(self, func: Any, tensor: torch.Tensor, dtype: Any = None, *_: Any, **__: Any) -> Any:
        """`Tensor.type`, whose argument may be a tensor type of `torch.cuda`, or its name."""
        if dtype is None:
            name: str = func(tensor)
            return name.replace("torch.", "torch.cuda.") if self.has(tensor) and _asked_by_script() else name
        if isinstance(dtype, torch.dtype):
            return self._call(torch.Tensor.to, (tensor, dtype), {})
        where = "cuda" if "cuda" in str(dtype) else "cpu"
        return self.place(func(tensor, _plain_type(dtype)), where, [tensor])


def _asked_by_script() -> bool:
    """Whether the code that asks is outside of torch and of the worker, three calls further out."""
    asking = sys._getframe(3).f_globals.get("__name__", "")
    return asking.split(".")[0] not in ("torch", str(__package__).split(".", maxsplit=1)[0])


def _kind(device: object) -> str | None:
    """`cuda`, `cpu`, ... for what names a device; None for anything else."""
    if isinstance(device, torch.device):
        return device.type
    if isinstance(device, str):
        return device.split(":")[0]
    return "cuda" if isinstance(device, int) and not isinstance(device, bool) else None


def _plain(name: str, value: Any) -> Any:
    """An argument as the CPU takes it."""
    if name == "pin_memory":
        return False
    if isinstance(value, torch.device) or name == "device":
        return "cpu" if _kind(value) == "cuda" else value
    return value


def _on_cpu(func: Any, args: Any) -> Any:
    if func is torch.Tensor.to and len(args) > 1:
        return (
            args[0],
            _plain("" if isinstance(args[1], (torch.Tensor, torch.dtype)) else "device", args[1]),
            *args[2:],
        )
    return tuple(_plain("", value) for value in args)


def _plain_type(kind: Any) -> Any:
    """The tensor type of the CPU for one of CUDA: a type or a name."""
    return str(kind).replace("torch.cuda.", "torch.") if isinstance(kind, (str, _TensorType)) else kind


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


class _TensorType(type):
    """`torch.cuda.FloatTensor` and the like: makes tensors, and is what tensors are instances of."""

    fake: FakeCuda

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        plain = getattr(torch, cls.__name__)
        return cls.fake.place(plain(*args, **{name: _plain(name, value) for name, value in kwargs.items()}), "cuda", [])

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, getattr(torch, cls.__name__)) and cls.fake.has(value)

    def __str__(cls) -> str:
        return f"torch.cuda.{cls.__name__}"


class _Idle:
    """A stream or an event on a device whose work is done at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = DEVICE

    def __enter__(self) -> _Idle:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return False

    def elapsed_time(self, other: object) -> float:
        """Milliseconds; not 0, by which scripts divide."""
        return 1.0

    def record_event(self, event: _Idle | None = None) -> _Idle:
        return event or _Idle()

    def wait(self, *_: object) -> None:
        """Nothing to wait for."""

    record = synchronize = wait_event = wait_stream = wait


def _answer(module: Any, answers: dict[str, Any]) -> None:
    for name, value in answers.items():
        setattr(module, name, lambda *_, _value=value, **__: _value)


def _replace_classes(fake: FakeCuda) -> None:
    cuda: Any = torch.cuda
    for kind in KINDS:
        tensor_type = _TensorType(f"{kind}Tensor", (), {"__module__": "torch.cuda", "fake": fake})
        setattr(cuda, f"{kind}Tensor", tensor_type)
    cuda.Stream = cuda.Event = cuda.ExternalStream = _Idle
    cuda.current_stream = cuda.default_stream = _Idle
    cuda.stream = cuda.StreamContext = cuda.device = cuda.device_of = _Idle
    cuda.nvtx.range = _Idle
    _answer(torch.Tensor, {"record_stream": None})  # torch's own takes no stand-in for a stream
    _answer(cuda.nvtx, dict.fromkeys(("range_push", "range_pop", "mark"), 0))
    cuda.get_rng_state = lambda *_: torch.get_rng_state()
    cuda.get_rng_state_all = lambda: [torch.get_rng_state()]
    cuda.initial_seed = torch.initial_seed
    cuda.default_generators = (torch.default_generator,)
    _answer(torch.backends.cudnn, {"is_available": True, "version": 90000})

    class Generator(torch._C.Generator):
        """Whatever its device, one of the CPU."""

        def __new__(cls, device: Any = "cpu") -> Any:
            return super().__new__(cls, "cpu")  # type: ignore[call-arg]

    torch.Generator = Generator  # type: ignore[misc]
    new = torch.nn.Parameter.__new__

    def parameter(cls: Any, data: Any = None, *args: Any, **kwargs: Any) -> Any:
        made = new(cls, data, *args, **kwargs)
        return fake.place(made, "cuda", []) if fake.has(data) else made

    torch.nn.Parameter.__new__ = parameter  # type: ignore[method-assign]


def _redirect(fake: FakeCuda) -> None:
    """What takes a device without passing a function mode."""

    def run_backward(original: Any, *args: Any, **kwargs: Any) -> Any:
        """Hooks and `Function.backward` of the script run in the mode, although `backward` has left it."""
        inside = fake in _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
        with contextlib.nullcontext() if inside else fake:
            return original(*args, **kwargs)

    def to(original: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        named = {name: f"cuda:{value}" if _is_index(value) else value for name, value in kwargs.items()}
        return original(
            module, *(f"cuda:{value}" if _is_index(value) else value for value in args[:1]), *args[1:], **named
        )

    def load(original: Any, file: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        return original(file, map_location if callable(map_location) else "cpu", *args, **kwargs)

    def unpinned(original: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
        original(loader, *args, **kwargs)
        loader.pin_memory = False

    def default(original: Any, context: Any, device: Any) -> None:
        original(context, "cpu" if _kind(device) == "cuda" else device)

    wrap(torch.autograd, "_engine_run_backward", run_backward)
    wrap(torch.nn.Module, "to", to)
    wrap(torch, "load", load)
    wrap(torch.utils.data.DataLoader, "__init__", unpinned)
    wrap(DeviceContext, "__init__", default)
    wrap(torch, "set_default_tensor_type", lambda original, kind: original(_plain_type(kind)))
    for storage in (torch.UntypedStorage, torch.storage.TypedStorage):
        wrap(storage, "cuda", lambda original, stored, *_, **__: stored)


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _redirect_parallel() -> None:
    """`DataParallel` over one device is the module itself; processes talk through gloo."""
    _answer(sys.modules[torch.nn.DataParallel.__module__], {"_get_available_device_type": None})
    if not torch.distributed.is_available():
        return

    def initialized(original: Any, backend: Any = None, *args: Any, **kwargs: Any) -> Any:
        kwargs.pop("device_id", None)
        return original("gloo" if backend is None or "nccl" in backend else backend, *args, **kwargs)

    def replicated(original: Any, parallel: Any, module: Any, *args: Any, **kwargs: Any) -> None:
        devices = dict.fromkeys(("device_ids", "output_device")[len(args) :])
        original(parallel, module, *(None for _ in args[:2]), *args[2:], **{**kwargs, **devices})

    wrap(torch.distributed, "init_process_group", initialized)
    wrap(torch.distributed.distributed_c10d, "init_process_group", initialized)
    wrap(torch.nn.parallel.DistributedDataParallel, "__init__", replicated)
