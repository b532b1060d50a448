"""Scalers of one's own inside training that a framework scales, or goes backward in, itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.frameworks import FRAMEWORKS, Framework
from ampify.model.step import Act, Backward, FileModel, OptimizerStep, TrainingStep
from ampify.source.text import Span

_ON = {"mixed_precision": {"fp16"}, "precision": {"16", "16-mixed"}, "fp16": {"True"}}
"""What asks a framework for float16, by argument."""


@dataclass(frozen=True, slots=True, eq=False)
class Doubled:
    """An act with a scaler in training that ``framework`` is in charge of, as ``reason`` at ``where`` says."""

    act: Act
    framework: Framework
    where: Span
    reason: str


def doubled(model: FileModel) -> Iterator[Doubled]:
    for step in model.steps:
        if step.scaled:
            yield from (*_asked(model, step), *_automatic(model, step))


def _asked(model: FileModel, step: TrainingStep) -> Iterator[Doubled]:
    """The framework goes backward with this loss, and is asked for float16."""
    for act in step.every(Backward):
        where = next((span for f, span in _mixed(model) if f is act.framework), None)
        if act.framework is not None and where is not None:
            yield Doubled(act, act.framework, where, "it is asked for float16 here")
            return


def _mixed(model: FileModel) -> Iterator[tuple[Framework, Span]]:
    for call in model.frameworks.calls:
        asked = {name: text.strip("'\"") for name, text in call.arguments.items()}
        if any(asked.get(name) in values for name, values in _ON.items()):
            yield from ((f, call.span) for f in FRAMEWORKS if f.names(call.paths) & {*f.makes})


def _automatic(model: FileModel, step: TrainingStep) -> Iterator[Doubled]:
    """A `training_step` that scales, where Lightning goes backward and steps after it."""
    for cls in model.frameworks.classes:
        framework = next((f for f in FRAMEWORKS if "LightningModule" in f.names(cls.bases) & {*f.derives}), None)
        node = next((c for c in model.code.flow.classes if model.code.tree.span(c.name) == cls.span), None)
        if framework is None or node is None or _by_hand(model):
            continue
        acts: list[Backward | OptimizerStep] = [*step.every(Backward), *step.every(OptimizerStep)]
        for act in acts:
            if act.scaler is not None and act.function in node.body.body and _trains(act.function):
                yield Doubled(act, framework, cls.span, "it goes backward and steps by itself after this class")
                return


def _trains(function: cst.CSTNode) -> bool:
    return isinstance(function, cst.FunctionDef) and function.name.value == "training_step"


def _by_hand(model: FileModel) -> bool:
    """Whether a class of the program, maybe a base of the one at hand, does its own optimization."""
    return any(isinstance(n, cst.Name) and n.value == "automatic_optimization" for n in model.code.amp.nodes)
