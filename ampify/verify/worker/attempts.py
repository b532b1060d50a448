"""Which optimizers there are and how often each came to its step: the clock of a run."""

from __future__ import annotations

import weakref
from typing import Any

from .job import Job


class Stop(BaseException):
    """Ends the script once its optimizer has made all attempts that were asked for; no `except Exception` holds it."""


class Attempts:
    """Optimizers in the order of their construction, and the number of attempts of each, from 1."""

    def __init__(self, job: Job) -> None:
        self._steps = job.steps
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._skip = {(each["optimizer"], each["attempt"]) for each in job.skip}
        self._by = job.skip_by
        self.counts: dict[int, int] = {}

    def number(self, optimizer: Any) -> int | None:
        """The number of an optimizer; None for one that was not added."""
        return self._numbers.get(optimizer)

    def add(self, optimizer: Any) -> int:
        """Give the next number."""
        self._numbers[optimizer] = len(self.counts)
        self.counts[len(self.counts)] = 0
        return len(self.counts) - 1

    def over(self, o: int) -> bool:
        """Whether the optimizer has made all its attempts."""
        return self.counts[o] >= self._steps

    def begin(self, o: int) -> int:
        """The number of the attempt that begins."""
        self.counts[o] += 1
        return self.counts[o]

    def suppressed(self, o: int, n: int) -> bool:
        """Whether the step of this attempt must not happen."""
        return self._by == "suppress" and (o, n) in self._skip

    def overflows(self, o: int, n: int) -> bool:
        """Whether a gradient of this attempt must become infinite before the scaler looks at it."""
        return self._by == "overflow" and (o, n) in self._skip
