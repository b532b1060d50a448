"""How long an iteration takes and how much memory it needs on CUDA; of the run it sees only when a step has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from .attempts import Stop

if TYPE_CHECKING:
    from .job import Job
    from .recorder import Recorder


def install(job: Job, recorder: Recorder) -> None:
    """At the end one `bench` event; the script is stopped after warm-up and iterations."""
    if job.bench is None:
        return
    timing = Timing(recorder, job.bench["warmup"], job.bench["iterations"], job.tf32)
    register_optimizer_step_post_hook(timing.stepped)
    recorder.closing.append(timing.report)


class Timing:
    """The ends of the steps of one optimizer, the first that steps, as events on the device: nothing waits for them.

    An iteration reaches from one such end to the next, so that one whose step a scaler skipped counts with the next.
    """

    def __init__(self, recorder: Recorder, warmup: int, iterations: int, tf32: bool | None) -> None:
        self.recorder = recorder
        self.warmup, self.last = max(1, warmup), max(1, warmup) + iterations
        self.tf32 = tf32
        self.optimizer: torch.optim.Optimizer | None = None
        self.ends: list[torch.cuda.Event] = []
        self.steps = 0
        self.reported = False

    def stepped(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """A step has ended; raises Stop after the last one."""
        if self.reported:
            self.recorder.hard_stop()  # the script caught `Stop` and goes on
        if self.optimizer is None:
            self.optimizer = optimizer
        if optimizer is not self.optimizer:
            return
        self.steps += 1
        if self._on_cuda():
            self._mark()
        if self.steps == self.last:
            self.report()
            raise Stop

    def report(self) -> None:
        """The `bench` event, once."""
        if self.reported:
            return
        self.reported = True
        times, peak = [], None
        if self.ends:
            torch.cuda.synchronize()
            times = [before.elapsed_time(after) for before, after in zip(self.ends, self.ends[1:])]
            peak = torch.cuda.max_memory_allocated()
        device = torch.cuda.get_device_name() if self.ends else None
        self.recorder.emit("bench", times_ms=times, peak_bytes=peak, device=device, tf32=self.tf32)

    def _mark(self) -> None:
        if self.steps >= self.warmup:
            self.ends.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            self.ends[-1].record()
        if self.steps == self.warmup:
            torch.cuda.reset_peak_memory_stats()

    def _on_cuda(self) -> bool:
        assert self.optimizer is not None
        return any(each.is_cuda for group in self.optimizer.param_groups for each in group["params"][:1])
