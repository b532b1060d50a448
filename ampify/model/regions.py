"""Autocast regions that are there already, and what should not be inside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.acts import Acts
from ampify.model.contexts import casts, disabled, makers
from ampify.model.forward import Forward
from ampify.model.roles import Role
from ampify.model.step import Backward, Code, FileModel, TrainingStep
from ampify.syntax import blocks
from ampify.syntax.walk import keyword, walk_scope


@dataclass(frozen=True, slots=True, eq=False)
class Inside:
    """A backward in a region. ``tail`` is what can leave the region together with it; empty where nothing can."""

    backward: Backward
    region: cst.With
    tail: tuple[cst.CSTNode, ...]


@dataclass(frozen=True, slots=True, eq=False)
class UnsafeLoss:
    """A binary cross entropy of probabilities that runs under autocast, there or in a function called from there."""

    call: cst.Call
    region: cst.With
    inputs: tuple[cst.BaseExpression, ...]
    """What it is given, where the statement around it computes nothing else; empty otherwise."""


def region_of(code: Code, node: cst.CSTNode) -> cst.With | None:
    """The autocast region that ``node`` runs in, as far as its own function shows; None in a disabled one."""
    child = node
    for parent in code.tree.parents(node):
        match parent:
            case cst.FunctionDef() | cst.Lambda() | cst.ClassDef():
                return None
            case cst.With(items=items, body=body) if child is body:
                if any(code.amp.is_autocast(i.item) for i in items):
                    return parent if not disabled(code, parent) else None
        child = parent
    return None


# ---------------------------------------------------------------------- backward in a region


def backwards_inside(step: TrainingStep) -> Iterator[Inside]:
    """The backwards of a step that run inside an autocast region, the first one of each region."""
    seen: set[cst.CSTNode] = set()
    for act in step.every(Backward):
        region = region_of(step.code, act.node)
        if region is not None and region not in seen:
            seen.add(region)
            yield Inside(act, region, tuple(tail_of(step, act.node, region)))


def tail_of(step: TrainingStep, node: cst.CSTNode, region: cst.With) -> list[cst.CSTNode]:
    """The statements of a region from that of ``node`` on, where none of them needs autocast."""
    body = region.body
    if (
        not isinstance(body, cst.IndentedBlock)
        or len(region.items) > 1
        or not isinstance(step.code.tree.names.parent[region], blocks.Block)
    ):
        return []
    holder = blocks.stands_in(step.tree, node, body)
    index = next(i for i, statement in enumerate(body.body) if statement is holder)
    tail: list[cst.CSTNode] = [*body.body[index:]]
    forward = Forward(step.context, [])
    if index == 0 or any(_computes(step, forward, n) for s in tail for n in walk_scope(s)):
        return []
    return tail


def _computes(step: TrainingStep, forward: Forward, node: cst.CSTNode) -> bool:
    """Whether a node does what autocast is there for."""
    if not isinstance(node, cst.Call):
        return False
    functional = any(p.startswith("torch.nn.functional.") for p in step.code.flow.names.imported(node.func))
    return functional or forward.runs_module(node) or step.code.roles.of(node.func) is Role.LOSS


# ---------------------------------------------------------------------- losses that autocast forbids


def unsafe_losses(model: FileModel) -> Iterator[UnsafeLoss]:
    code = model.code
    regions = [n for n in code.amp.regions if isinstance(n, cst.With) and _may_be_cuda(code, n)]
    if not regions or not any(w in code.tree.source.text for w in ("BCELoss", "binary_cross_entropy")):
        return
    forward = Forward(Acts(code), [])
    found: set[cst.Call] = set()
    for region in regions:
        for call in _running(code, region):
            if call not in found and _is_unsafe(code, forward, call):
                found.add(call)
                yield UnsafeLoss(call, region, _inputs(code, forward, call))


def _may_be_cuda(code: Code, region: cst.With) -> bool:
    made = [call for cast in casts(code, region) for call in makers(code, cast)]
    if disabled(code, region):
        return False
    return not any(_elsewhere(code, call) for call in made)


def _elsewhere(code: Code, call: cst.Call) -> bool:
    """Whether a region is for another device: CPU autocast lets these losses run."""
    if any(path.startswith("torch.cpu") for path in code.amp.paths(call.func)):
        return True
    plain = [a.value for a in call.args if a.keyword is None]
    device = keyword(call, "device_type") or next(iter(plain), None)
    return isinstance(device, cst.SimpleString) and not str(device.evaluated_value).startswith("cuda")


def _running(code: Code, region: cst.With) -> Iterator[cst.Call]:
    """The calls that run in a region, in this function and in those called from it."""
    for node in walk_scope(region.body):
        if isinstance(node, cst.Call) and region_of(code, node) is region:
            yield node
            if (callee := code.flow.callee(node)) is not None:
                for function in (callee, *code.flow.reachable(callee)):
                    inner = (n for n in code.flow.body[function] if isinstance(n, cst.Call))
                    yield from (n for n in inner if not _has_region(code, n))


def _has_region(code: Code, node: cst.CSTNode) -> bool:
    """Whether a region of its own decides about ``node``."""
    withs = (p for p in code.tree.parents(node) if isinstance(p, cst.With))
    return any(code.amp.is_autocast(item.item) for w in withs for item in w.items)


def _is_unsafe(code: Code, forward: Forward, call: cst.Call) -> bool:
    direct = code.flow.names.imported(call.func) & words.BCE_FUNCTIONS
    return bool(direct) or bool(forward.islands.made_by(call.func) & words.BCE_MODULES)


def _inputs(code: Code, forward: Forward, call: cst.Call) -> tuple[cst.BaseExpression, ...]:
    statement = blocks.small_statement_of(code.tree, call)
    calls = [n for n in walk_scope(statement) if isinstance(n, cst.Call) and n is not call]
    given = [a.value for a in call.args if a.keyword is None or a.keyword.value in ("input", "target", "weight")]
    alone = isinstance(statement, cst.Assign | cst.Return) and isinstance(
        code.tree.names.parent[statement], cst.SimpleStatementLine
    )
    if (
        not alone
        or len(given) < 2
        or any(a.star for a in call.args)
        or any(not _light(code, forward, c) for c in calls)
    ):
        return ()
    return tuple(given[:2])


def _light(code: Code, forward: Forward, call: cst.Call) -> bool:
    """``x.view(-1)``: nothing that autocast would run in half precision."""
    local = isinstance(call.func, cst.Attribute) and not code.flow.names.imported(call.func)
    return (
        local and code.flow.callee(call) is None and not forward.runs_module(call) and code.roles.of(call.func) is None
    )
