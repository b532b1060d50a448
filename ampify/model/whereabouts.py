"""On which kinds of devices modules can be, and which autocast regions are for none of these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from ampify.model.contexts import casts, disabled, makers
from ampify.model.definitions import Definition, How
from ampify.model.roles import Role
from ampify.model.step import Code, FileModel
from ampify.syntax.walk import keyword

_DEVICES = {"torch.device"}


@dataclass(frozen=True, slots=True, eq=False)
class Elsewhere:
    """A region for ``wanted``, where all modules are on ``there``; ``literal`` says the former."""

    call: cst.Call
    wanted: str
    there: frozenset[str]
    moved: cst.Call
    literal: cst.SimpleString | None


def elsewhere(model: FileModel) -> Iterator[Elsewhere]:
    """The regions for devices that no module of the program is ever on."""
    code = model.code
    regions = [r for r in code.amp.regions if not disabled(code, r)]
    calls = dict.fromkeys(call for r in regions for cast in casts(code, r) for call in makers(code, cast))
    moves = {call: kinds(code, device) for call, device in _moves(code)} if calls else {}
    there = frozenset(kind for found in moves.values() if found is not None for kind in found)
    if moves and None not in moves.values():
        for call in calls:
            wanted, literal = _wanted(code, call)
            if wanted is not None and wanted not in there:
                yield Elsewhere(call, wanted, there, next(iter(moves)), literal)


def idle_on_mps(model: FileModel) -> Iterator[tuple[cst.Call, cst.Call]]:
    """The scalers for CUDA where modules are on Apple's GPU and never on CUDA, with a call that moves one."""
    code = model.code
    made = [call for call in code.flow.calls if code.amp.is_scaler_call(call)] if code.amp.touched else []
    moves = {call: kinds(code, device) for call, device in _moves(code)} if made else {}
    there = frozenset(kind for found in moves.values() if found is not None for kind in found)
    if "mps" in there and "cuda" not in there and None not in moves.values():
        for call in made:
            given = _wanted(code, call, "device")[0]
            said = keyword(call, "device") is not None or any(a.keyword is None for a in call.args)
            if keyword(call, "enabled") is None and (given == "cuda" or not said):
                yield call, next(iter(moves))


def never_on_cuda(code: Code) -> frozenset[str]:
    """The kinds of device that all modules of a program are on, where another accelerator is one and CUDA is none."""
    moves = [kinds(code, device) for _, device in _moves(code)]
    there = frozenset(kind for found in moves if found is not None for kind in found)
    return there if None not in moves and "cuda" not in there and there - {"cpu", "meta"} else frozenset()


def _wanted(code: Code, call: cst.Call, name: str = "device_type") -> tuple[str | None, cst.SimpleString | None]:
    """The device type of a call that makes an autocast context or a scaler, and the string that says it."""
    for path in code.amp.paths(call.func):
        if path.startswith(("torch.cuda.", "torch.cpu.")):
            return path.split(".")[1], None
    given = keyword(call, name) or next((a.value for a in call.args if a.keyword is None and not a.star), None)
    text = given.evaluated_value if isinstance(given, cst.SimpleString) else None
    return (text, given) if isinstance(text, str) and isinstance(given, cst.SimpleString) else (None, None)


def _moves(code: Code) -> Iterator[tuple[cst.Call, cst.BaseExpression | None]]:
    """The calls that move a module, with the device; None: to CUDA."""
    for call in code.flow.calls:
        match call.func:
            case cst.Attribute(value=owner, attr=cst.Name(value="cuda")) if code.roles.of(owner) is Role.MODULE:
                yield call, None
            case cst.Attribute(value=owner, attr=cst.Name(value="to")) if code.roles.of(owner) is Role.MODULE:
                given = keyword(call, "device") or next((a.value for a in call.args if a.keyword is None), None)
                if given is not None and not _is_dtype(code, given) and not _puts_away(given):
                    yield call, given


def _puts_away(device: cst.BaseExpression) -> bool:
    """``model.to("cpu")``: so models are put away, or saved, after they have run elsewhere."""
    return isinstance(device, cst.SimpleString) and device.evaluated_value == "cpu"


def _is_dtype(code: Code, node: cst.BaseExpression) -> bool:
    paths = code.tree.names.imported(node)
    return bool(paths) and not isinstance(node, cst.Call)


def kinds(code: Code, node: cst.BaseExpression | None, depth: int = 5) -> frozenset[str] | None:
    """The kinds of device that an expression can stand for (None: `.cuda()`); None where that cannot be seen."""
    match node:
        case None:
            return frozenset({"cuda"})
        case cst.SimpleString() if isinstance(text := node.evaluated_value, str):
            return frozenset({text.partition(":")[0]})
        case cst.FormattedString(parts=[cst.FormattedStringText(value=text), *_]) if ":" in text:
            return frozenset({text.partition(":")[0]})
        case cst.Call(func=func, args=[first, *_]) if code.tree.names.imported(func) & _DEVICES:
            return kinds(code, first.value, depth)
        case cst.IfExp(body=one, orelse=other) | cst.BooleanOperation(left=one, right=other):
            return _all(kinds(code, part, depth) for part in (one, other))
        case cst.Name() | cst.Attribute() if depth and (place := code.flow.place(node)) is not None:
            return _all(_kept(code, d, depth - 1) for d in code.flow.assigned(place))
    return None


def _kept(code: Code, d: Definition, depth: int) -> frozenset[str] | None:
    """The kinds of device that a definition gives its place."""
    match d.how:
        case How.PARAM:
            return _all(kinds(code, value, depth) for value in code.flow.passed(d))
        case How.ASSIGN if d.value is not None:
            return kinds(code, d.value, depth)
    return None


def _all(found: Iterator[frozenset[str] | None]) -> frozenset[str] | None:
    parts = [*found]
    known = [part for part in parts if part is not None]
    return frozenset().union(*known) if known and len(known) == len(parts) else None
