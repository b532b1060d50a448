"""A package `apex` that means float32: what the real one does, without half precision and without scaling."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

from torch import nn


def _initialize(models, optimizers=None, enabled=True, opt_level="O1", **options):
    assert opt_level in ("O0", "O1", "O2", "O3")
    return models if optimizers is None else (models, optimizers)


@contextlib.contextmanager
def _scale_loss(loss, optimizers, loss_id=0, model=None, delay_unscale=False):
    yield loss


def _master_params(optimizer):
    return (p for group in optimizer.param_groups for p in group["params"])


class _FP16Optimizer:
    def __init__(self, optimizer, static_loss_scale=1.0, dynamic_loss_scale=False):
        self.inner = optimizer
        self.param_groups = optimizer.param_groups
        self.step, self.zero_grad = optimizer.step, optimizer.zero_grad

    def backward(self, loss, update_master_grads=True):
        loss.backward()

    def update_master_grads(self):
        pass

    def clip_master_grads(self, max_norm, norm_type=2):
        return nn.utils.clip_grad_norm_(_master_params(self.inner), max_norm, norm_type)


class _Handle:
    """What `amp.init` gave in 2018."""

    def __init__(self, enabled=True):
        self.scale_loss = _scale_loss

    def wrap_optimizer(self, optimizer):
        optimizer.scale_loss = lambda loss: _scale_loss(loss, optimizer)
        return optimizer


def _module(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """`import apex` works inside."""
    state = {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 0}}
    amp = _module(
        "apex.amp", init=_Handle, initialize=_initialize, scale_loss=_scale_loss, master_params=_master_params,
        state_dict=lambda: dict(state), load_state_dict=lambda given: None,
    )  # fmt: skip
    parallel = _module(
        "apex.parallel",
        DistributedDataParallel=lambda model, **options: model,
        convert_syncbn_model=lambda model: model,
    )
    utils = _module("apex.fp16_utils", FP16_Optimizer=_FP16Optimizer, network_to_half=lambda model: model)
    apex = _module("apex", amp=amp, parallel=parallel, fp16_utils=utils)
    modules = {"apex": apex, "apex.amp": amp, "apex.parallel": parallel, "apex.fp16_utils": utils}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
