"""Where the parameters of an optimizer live: the modules that hold them, found among all objects; names and buffers."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import torch

Module = torch.nn.Module


class Home:
    """The outermost modules that hold some parameters."""

    def __init__(self, params: Sequence[torch.Tensor], roots: Sequence[Module]) -> None:
        prefixes = [f"{type(root).__name__}." if len(roots) > 1 else "" for root in roots]
        known = {
            id(param): prefix + name
            for prefix, root in reversed([*zip(prefixes, roots)])
            for name, param in root.named_parameters()
        }
        self.names = [known.get(id(param), f"parameter {i}") for i, param in enumerate(params)]
        self._slots = {
            (id(module), key): (f"{prefix}{path}{'.' if path else ''}{key}", weakref.ref(module), key)
            for prefix, root in zip(prefixes, roots)
            for path, module in root.named_modules()
            for key in module._buffers
        }

    @property
    def buffer_names(self) -> list[str]:
        """In the order of `buffers`."""
        return [name for name, _, _ in self._slots.values()]

    def buffers(self) -> list[torch.Tensor | None]:
        """The buffers as they are now: a module may have put others in their place."""
        modules = [(module(), key) for _, module, key in self._slots.values()]
        return [None if module is None else module._buffers.get(key) for module, key in modules]


def find(params: Sequence[torch.Tensor]) -> Home:
    """The home of `params`; of two modules that hold the same ones, that which holds more.

    The order must be the same in two runs, and that of `gc` is not.
    """
    places = {id(param): i for i, param in reversed([*enumerate(params)])}
    held = [(root, {places[id(param)] for param in root.parameters() if id(param) in places}) for root in _roots()]
    held = [(root, own) for root, own in held if own]
    roots, missing = [], set(places.values())
    for root, own in sorted(held, key=lambda each: (-len(each[1]), min(each[1]), type(each[0]).__qualname__)):
        if own & missing:
            roots.append(root)
            missing -= own
    return Home(params, roots)


def _roots() -> list[Module]:
    """All modules that are in no other."""
    modules = [each for each in gc.get_objects() if issubclass(type(each), Module) and "_modules" in each.__dict__]
    inner = {id(child) for module in modules for child in module._modules.values()}
    return [module for module in modules if id(module) not in inner]
