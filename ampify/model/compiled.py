"""Modules that `torch.compile` compiles where float16 autocast is on: their backward is compiled under it, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.casts import makers
from ampify.model.enclosed import under_autocast
from ampify.model.half_choices import Half
from ampify.model.loss_regions import computes_in, regions_of
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.walk import walk

_SETTING = "backward_pass_autocast"


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """``made`` compiles a module that ``region`` runs in float16."""

    made: cst.Call
    region: cst.With


def compiled(step: TrainingStep) -> Iterator[Compiled]:
    """The compiled modules of a scaled step whose backward stands outside of autocast, once each."""
    code, seen = step.code, set[cst.Call]()
    if ".compile" not in code.tree.source.text or _SETTING in code.tree.source.text:
        return
    outside = [act for act in step.every(Backward) if act.scaler is not None and not under_autocast(code, act.node)]
    for region in dict.fromkeys(r for act in outside for r in regions_of(code, act)):
        made = _compiles(code, region) if computes_in(code, region) is Half.FLOAT16 else None
        if made is not None and made not in seen:
            seen.add(made)
            yield Compiled(made, region)


def _compiles(code: Code, region: cst.With) -> cst.Call | None:
    """The call that compiles a module which a region runs, or compiles it in its place."""
    for call in (n for n in walk(region.body) if isinstance(n, cst.Call) and code.roles.of(n.func) is Role.MODULE):
        place = code.flow.place(call.func)
        statement = blocks.small_statement_of(code.tree, call)
        given = [d.value for d in code.flow.reaching(place, statement)] if place is not None else []
        for made in (*makers(code, call.func), *(v for v in given if isinstance(v, cst.Call))):
            if "torch.compile" in code.flow.names.imported(made.func):
                return made
        for each in code.flow.calls:
            match each.func:
                case cst.Attribute(value=owner, attr=cst.Name(value="compile")) if place is not None:
                    if code.flow.place(owner) == place:
                        return each
    return None
