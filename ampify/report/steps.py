"""The training steps found, what takes part in them and what is decided."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TextIO

from ampify.engine import StepReport
from ampify.report import dot
from ampify.report.paint import Line, paint


def render(steps: Sequence[StepReport], out: TextIO, form: str) -> None:
    if form == "dot":
        dot.render(steps, out)
    elif form == "json":
        json.dump([asdict(step) for step in steps], out, indent=2)
        out.write("\n")
    else:
        paint((line for step in steps for line in _lines(step)), out)
        out.write(f"{len(steps)} training step{'s' * (len(steps) != 1)}\n")


def _lines(step: StepReport) -> Iterator[Line]:
    code = f" ({step.code})" if step.code else ""
    yield [(f"{step.path}:{step.row}", "bold"), (f" {step.where}: ", ""), (step.decision + code, "bold cyan")]
    if step.reason:
        yield [(f"    {step.reason}", "")]
    for title, names in (("model", step.models), ("optimizer", step.optimizers), ("loss", step.losses)):
        if names:
            yield [(f"    {title:<10} ", "blue"), (", ".join(names), "")]
    if step.scaler:
        yield [(f"    {'scaler':<10} ", "blue"), (step.scaler, "")]
