"""Fingerprints of tensors, made on their own device and not waited for: bit-exact digests, linear sketches, scalars."""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch

Tensor = torch.Tensor
T = TypeVar("T")

_WORD = (1 << 64) - 1
_FOLD = 0x9E3779B97F4A7C15
_CHUNK = {"cuda": 1 << 22, "cpu": 1 << 18}
"""Elements that are multiplied at once; a product takes 8 bytes each, on the CPU it stays in the cache."""
_BUCKETS = 1024
_SHIFT = 8191
"""How far the signs move on from chunk to chunk: elements a chunk apart share a bucket and must not share a sign."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int32}
"""8 bytes are read as two halves: the sign bit times any odd weight is 2**63, and two flips would cancel."""


class Pending:
    """A field of an event whose value is still on its way from the device."""

    def ready(self) -> bool:
        """Whether `result` would not wait."""
        raise NotImplementedError

    def result(self) -> Any:
        """The value, as JSON can hold it but for non-finite floats; waits."""
        raise NotImplementedError


class Transfer:
    """Flat tensors of one dtype that are copied to the host behind the work that makes them."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._sizes = [part.numel() for part in parts]
        self._homes: dict[torch.device, list[int]] = {}
        for i, part in enumerate(parts):
            self._homes.setdefault(part.device, []).append(i)
        self._copies = [_to_host(torch.cat([parts[i] for i in home])) for home in self._homes.values()]

    def ready(self) -> bool:
        return all(done is None or done.query() for _, done in self._copies)

    def result(self) -> list[Tensor]:
        """The parts on the host, in the order in which they were given."""
        found: dict[int, Tensor] = {}
        for home, (host, done) in zip(self._homes.values(), self._copies):
            if done is not None:
                done.synchronize()
            found.update(zip(home, torch.split(host, [self._sizes[i] for i in home])))
        return [found[i] for i in range(len(self._sizes))]


def _to_host(values: Tensor) -> tuple[Tensor, Any]:
    """A copy on the host, and the CUDA event after which it is whole; none elsewhere."""
    if values.device.type != "cuda":
        return values.cpu(), None
    host = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
    with torch.cuda.device(values.device):
        host.copy_(values, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
    return host, done


class Digests(Pending):
    """64 bits of each tensor as hex digits: bits in logical order, dtype and shape; None stays None.

    What cannot be digested (a tensor without data, say) is told as ``"? reason"``.
    """

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        self._labels: list[tuple[str | None, int]] = []
        flats: list[Tensor] = []
        for tensor in tensors:
            label, found = _read(tensor)
            self._labels.append((label, len(found)))
            flats += found
        self._places, sums = _weighed(flats)
        self._transfer = Transfer(sums)

    def ready(self) -> bool:
        return self._transfer.ready()

    def result(self) -> list[str | None]:
        return self._found

    @functools.cached_property
    def _found(self) -> list[str | None]:
        sums = [each.tolist() for each in self._transfer.result()]
        flats = iter(self._places)
        return [
            _fold(label, [sums[i][j] for _ in range(count) for i, j in next(flats)]) for label, count in self._labels
        ]


class Part(Pending):
    """Some of a list of values that are on their way, or one of them."""

    def __init__(self, whole: Pending, which: int | slice) -> None:
        self._whole, self._which = whole, which

    def ready(self) -> bool:
        return self._whole.ready()

    def result(self) -> Any:
        return self._whole.result()[self._which]


class Number(Pending):
    """A tensor of one element as a float."""

    def __init__(self, value: Tensor) -> None:
        self._transfer = Transfer([local(value.detach()).reshape(-1)[:1].double()])

    def ready(self) -> bool:
        return self._transfer.ready()

    def result(self) -> float:
        return float(self._transfer.result()[0])


class Flag(Number):
    """Whether a tensor of one element is (`nonzero`) or is not something else than 0."""

    def __init__(self, value: Tensor, *, nonzero: bool) -> None:
        super().__init__(value)
        self._nonzero = nonzero

    def result(self) -> bool:
        return (super().result() != 0) == self._nonzero


class Sketches(Pending):
    """A CountSketch of each tensor, float32: element i is added with its sign to bucket i mod 1024.

    Linear: the distance of two sketches estimates that of the tensors; a tensor of up to 1024 elements is kept whole
    but for its signs. `sizes` counts the numbers of each, -1 for a missing tensor.
    """

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        found = [None if tensor is None else _sketch(tensor) for tensor in tensors]
        self.sizes = [-1 if each is None else each.numel() for each in found]
        self._transfer = Transfer([each for each in found if each is not None])

    def ready(self) -> bool:
        return self._transfer.ready()

    def result(self) -> bytes:
        """All sketches one after the other, in the byte order of the machine."""
        return b"".join(ctypes.string_at(each.data_ptr(), 4 * each.numel()) for each in self._transfer.result())


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that may be sharded, where we can compute: on the CPU or on CUDA."""
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    return tensor if tensor.device.type in _CHUNK else tensor.cpu()


def _read(tensor: Tensor | None) -> tuple[str | None, list[Tensor]]:
    """What the host adds to a digest, and the bits it is made of, as flat whole numbers."""
    if tensor is None:
        return None, []
    try:
        if type(tensor) in _PLAIN and tensor.layout is torch.strided and tensor.device.type in _CHUNK:
            return _label(tensor.shape, (tensor.dtype,), (tensor.shape,)), [_bits(tensor.detach())]
        parts = _parts(local(tensor.detach()))
        label = _label(tensor.shape, tuple(part.dtype for part in parts), tuple(part.shape for part in parts))
        return label, [_bits(part) for part in parts]
    except Exception as error:  # noqa: BLE001 a tensor of a strange kind must not end the script
        return f"? {tensor.dtype} {tuple(tensor.shape)}: {type(error).__name__}: {error}", []


_PLAIN = (Tensor, torch.nn.Parameter)
"""Classes without surprises, which most tensors have: the rest of `_read` costs as much as the digest itself."""


@functools.lru_cache(maxsize=4096)
def _label(shape: torch.Size, dtypes: tuple[torch.dtype, ...], shapes: tuple[torch.Size, ...]) -> str:
    return " ".join(f"{dtype} {tuple(each)}" for dtype, each in zip(dtypes, shapes)) + f" of {tuple(shape)}"


def _parts(tensor: Tensor) -> list[Tensor]:
    """The dense tensors that a tensor consists of."""
    if tensor.layout == torch.strided:
        return [tensor]
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor.to_dense()]


def _bits(tensor: Tensor) -> Tensor:
    """The bits as a flat tensor of whole numbers."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    flat = tensor.contiguous().view(-1)
    return flat.view(_BITS[flat.element_size()])


def _weighed(flats: Sequence[Tensor]) -> tuple[list[list[tuple[int, int]]], list[Tensor]]:
    """The sum of each chunk of each flat tensor, every element times the weight of its place, modulo 2**64.

    For each tensor the places of its sums (which tensor of sums, which element), and the tensors of sums. Chunks of one
    size are summed together: a model has many small tensors of few sizes, and there launches cost more than the work.
    """
    chunks = [_chunks(flat) for flat in flats]
    alike: dict[tuple[torch.device, torch.dtype, int], list[tuple[int, int]]] = {}
    for i, some in enumerate(chunks):
        for j, chunk in enumerate(some):
            alike.setdefault((chunk.device, chunk.dtype, chunk.numel()), []).append((i, j))
    places: dict[tuple[int, int], tuple[int, int]] = {}
    sums: list[Tensor] = []
    for (device, _, size), members in alike.items():
        for part in _slices(members, max(1, _CHUNK[device.type] // size)):
            places.update((member, (len(sums), row)) for row, member in enumerate(part))
            rows = [chunks[i][j] for i, j in part]
            table = (rows[0] if len(rows) == 1 else torch.cat(rows)).view(len(rows), size)
            sums.append((table * _weights(device, size)).sum(1))
    return [[places[i, j] for j in range(len(some))] for i, some in enumerate(chunks)], sums


def _chunks(flat: Tensor) -> Sequence[Tensor]:
    size, most = flat.numel(), _CHUNK[flat.device.type]
    return torch.split(flat, most) if size > most else [flat] if size else []


def _slices(members: list[T], most: int) -> Iterator[list[T]]:
    for start in range(0, len(members), most):
        yield members[start : start + most]


def _fold(label: str | None, sums: list[int]) -> str | None:
    if label is None or label.startswith("?"):
        return label
    total = 0
    for each in sums:
        total = (total * _FOLD + each) & _WORD
    return hashlib.blake2b(f"{label} {total}".encode(), digest_size=8).hexdigest()


@functools.cache
def _noise(device: torch.device, places: int) -> Tensor:
    """Pseudo-random int64, one for each place: splitmix64, so that no generator of the script moves on."""
    z = (torch.arange(places, dtype=torch.int64, device=device) + 1) * _signed(_FOLD)
    z = (z ^ ((z >> 30) & (_WORD >> 30))) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ ((z >> 27) & (_WORD >> 27))) * _signed(0x94D049BB133111EB)
    return z ^ ((z >> 31) & (_WORD >> 31))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _room(device: torch.device, count: int) -> int:
    """Places of a table: a power of two, no more than are needed, so that small models have small tables."""
    return min(_CHUNK[device.type], 1 << max(10, (count - 1).bit_length()))


@functools.cache
def _odd(device: torch.device, places: int) -> Tensor:
    return _noise(device, places) | 1


@functools.lru_cache(maxsize=4096)
def _weights(device: torch.device, count: int) -> Tensor:
    """The weights of the first places; views of few tables."""
    return _odd(device, _room(device, count))[:count]


@functools.cache
def _signs(device: torch.device, places: int) -> Tensor:
    return (_noise(device, places) >> 63).float() * 2 + 1


def _sketch(tensor: Tensor) -> Tensor:
    """At most 1024 float32."""
    dense = local(tensor.detach())
    dense = dense if dense.layout == torch.strided else dense.to_dense()
    flat = (torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense).reshape(-1)
    signs = _signs(flat.device, _room(flat.device, flat.numel()))
    if flat.numel() <= _BUCKETS:
        return flat.float() * signs[: flat.numel()]
    total = flat.new_zeros(_BUCKETS, dtype=torch.float32)
    for i, chunk in enumerate(torch.split(flat, signs.numel())):
        signed = chunk.float() * (signs.roll(i * _SHIFT) if i else signs)[: chunk.numel()]
        total += torch.nn.functional.pad(signed, (0, -chunk.numel() % _BUCKETS)).view(-1, _BUCKETS).sum(0)
    return total
