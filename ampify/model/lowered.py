"""What runs under the autocast that is there already, in which dtype, and which values it leaves in half precision.

Code is under autocast in a region, in a function that enters one by its decorator, and in what these call; where a
text holds several files, across them. Where a module runs there that is cast as a whole, nothing is looked at:
its weights are not float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model import operators
from ampify.model.casts import casts, makers
from ampify.model.definitions import Definition, How, Place
from ampify.model.dtypes import Dtype, Dtypes
from ampify.model.forward import Forward
from ampify.model.literals import number
from ampify.model.roles import Role
from ampify.model.step import Code
from ampify.syntax import blocks
from ampify.syntax.walk import arguments, children, keyword

if TYPE_CHECKING:
    from ampify.model.acts import Acts

_DTYPES = {"torch.float16": "float16", "torch.half": "float16", "torch.bfloat16": "bfloat16"}
_USUAL = {"cuda": "float16", "cpu": "bfloat16"}
_DEEP = 6
"""So many names and calls are looked through for one value."""


@dataclass(frozen=True, slots=True, eq=False)
class Autocast:
    """A ``with`` statement that enters autocast, or a function that does so by its decorator."""

    node: cst.With | cst.FunctionDef
    device: str
    """``cuda`` where it cannot be told: that is what autocast is used for."""
    dtype: str | None
    """None where it cannot be told."""


class Lowered:
    """The autocast of one text."""

    def __init__(self, acts: Acts) -> None:
        self.acts, self.code = acts, acts.code

    @cached_property
    def float16(self) -> Under:
        """What runs in float16 on CUDA."""
        return self._under("cuda", [r for r in self._regions if r.device == "cuda" and r.dtype == "float16"])

    @cached_property
    def bfloat16(self) -> Under:
        """What runs in bfloat16 on CUDA."""
        return self._under("cuda", [r for r in self._regions if r.device == "cuda" and r.dtype == "bfloat16"])

    @cached_property
    def cuda(self) -> Under:
        """What runs in either on CUDA."""
        return self._under("cuda", [r for r in self._regions if r.device == "cuda"])

    @cached_property
    def cpu(self) -> Under:
        """What runs in either on the CPU, whose operators have other policies."""
        return self._under("cpu", [r for r in self._regions if r.device == "cpu"])

    @cached_property
    def _forward(self) -> Forward:
        return Forward(self.acts, [])

    def _under(self, device: str, regions: list[Autocast]) -> Under:
        others = [r for r in self._all if r not in regions]
        off, elsewhere = ([r.node for r in others if (r.dtype == "off") == ends] for ends in (True, False))
        return Under(self._forward if regions else None, self.code, device, [r.node for r in regions], elsewhere, off)

    @cached_property
    def _regions(self) -> list[Autocast]:
        on = [r for r in self._all if r.dtype != "off"]
        cast = {origin for c in casts(self.code) for node in (c.value, c.call) for origin in self._origins(node)}
        return on if not cast or cast.isdisjoint(self._run("cuda", on)) else []

    def _run(self, device: str, on: list[Autocast]) -> Iterator[cst.Call | Place]:
        """The modules that run under autocast."""
        for call in (n for n in self._under(device, on).nodes if isinstance(n, cst.Call)):
            receiver = [call.func.value] if isinstance(call.func, cst.Attribute) else []
            for node in (call.func, *receiver):
                yield from self._origins(node)

    def _origins(self, node: cst.BaseExpression) -> Iterator[cst.Call | Place]:
        """What tells one module from another: what made it, and where it is kept."""
        if self.code.roles.of(node) is Role.MODULE:
            yield from makers(self.code, node)
            place = self.code.roles.instances.place(node)
            yield from [place] if place is not None else []

    @cached_property
    def _all(self) -> list[Autocast]:
        found = []
        for node in self.code.amp.regions:
            if isinstance(node, cst.With):
                made = [call for item in node.items for call in _calls(self.code, item.item)]
                found.append(_autocast(self.code, node, made))
            elif isinstance(function := self.code.tree.names.parent[node], cst.FunctionDef):
                made = [node.decorator] if isinstance(node.decorator, cst.Call) else []
                found.append(_autocast(self.code, function, made))
        return found


class Under:
    """What runs under some regions, and the dtypes that values have because of that."""

    def __init__(
        self,
        forward: Forward | None,
        code: Code,
        device: str,
        on: list[cst.With | cst.FunctionDef],
        elsewhere: list[cst.With | cst.FunctionDef],
        off: list[cst.With | cst.FunctionDef],
    ) -> None:
        """``on`` are the regions meant, ``elsewhere`` those of other dtypes and devices, ``off`` disabled ones."""
        self.code, self.flow = code, code.flow
        self._functions: dict[cst.FunctionDef, None] = {}
        self._decorated_off = {node for node in off if isinstance(node, cst.FunctionDef)}
        regions = {*on, *elsewhere, *off}
        owned = {region: [*_owned(region, regions)] for region in regions}
        self._inside = [n for region in on for n in owned[region]]
        self._elsewhere = {n for region in elsewhere for n in owned[region]}
        self._islands = {n for region in off for n in owned[region]}
        self._shielded = self._elsewhere | self._islands
        if forward is not None:
            self.dtypes = Dtypes(forward, device, self._inside, self._functions, self._shielded)
            self._reach()
        self._numbers: dict[cst.CSTNode, bool] = {}

    def _reach(self) -> None:
        calls = [n for n in self._inside if isinstance(n, cst.Call)]
        while calls:
            for function in self.dtypes.functions(calls.pop()):
                if function not in self._functions and function not in self._decorated_off:
                    self._functions[function] = None
                    body = (n for n in self.flow.body[function] if n not in self._shielded)
                    calls += [n for n in body if isinstance(n, cst.Call)]

    @cached_property
    def nodes(self) -> tuple[cst.CSTNode, ...]:
        """The nodes that run under autocast."""
        reached = (n for f in self._functions for n in self.flow.body[f] if n not in self._shielded)
        return tuple(dict.fromkeys([*self._inside, *reached]))

    @cached_property
    def outside(self) -> tuple[cst.CSTNode, ...]:
        """The nodes that run without, where there is any autocast at all: in functions that it does not reach, and in
        islands."""
        if not self._inside:
            return ()
        taken = self._elsewhere.union(self.nodes)
        functions = (f for f in self.flow.functions if f not in self._functions)
        found = dict.fromkeys(n for f in functions for n in self.flow.body[f])
        return tuple(n for n in found | dict.fromkeys(self._islands) if n not in taken)

    def half(self, node: cst.BaseExpression) -> bool:
        """Whether a value is surely in half precision because of autocast."""
        return bool(self._inside) and self._half(node, _DEEP)

    def full(self, node: cst.BaseExpression) -> bool:
        """Whether a value surely is a tensor that autocast has no hand in."""
        if not self._inside or self.dtypes.of(node) != {Dtype.FLOAT} or self.is_number(node):
            return False
        named = self.flow.named(node) is not None or bool(self.flow.names.imported(node))
        return not named and self.code.roles.of(node) is None

    def _half(self, node: cst.BaseExpression, depth: int) -> bool:
        """By what is known of dtypes; where that knows nothing of an operand, a number of Python does not matter."""
        if self.dtypes.of(node) == {Dtype.HALF}:
            return True
        match node:
            case _ if depth == 0:
                return False
            case cst.BinaryOperation(left=left, right=right) if isinstance(node.operator, _ARITHMETIC):
                sides = [self._half(side, depth - 1) for side in (left, right)]
                others = [s for s, half in zip((left, right), sides, strict=True) if not half]
                return any(sides) and all(self.is_number(other) for other in others)
            case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in operators.KEEPING:
                given = inner if not self.flow.names.imported(node.func) else node.args[0].value if node.args else inner
                return self._half(given, depth - 1)
            case cst.Name() if (place := self.flow.place(node)) is not None:
                found = self.flow.reaching(place, blocks.small_statement_of(self.code.tree, node))
                return bool(found) and all(self._kept_half(d, depth) for d in found)
        return False

    def _kept_half(self, d: Definition, depth: int) -> bool:
        if d.how is How.CHANGE:
            return isinstance(d.node, cst.AugAssign) and d.value is not None and self.is_number(d.value)
        return d.how is How.ASSIGN and d.value is not None and self._half(d.value, depth - 1)

    def is_number(self, node: cst.CSTNode) -> bool:
        """Whether a value surely is a number of Python, which leaves the dtypes of tensors as they are."""
        if node not in self._numbers:
            self._numbers[node] = False  # what is made of itself ends here
            self._numbers[node] = self._is_number(node)
        return self._numbers[node]

    def _is_number(self, node: cst.CSTNode) -> bool:
        if number(self.flow, node) is not None:
            return True
        match node:
            case cst.BinaryOperation(left=left, right=right):
                return self.is_number(left) and self.is_number(right)
            case cst.UnaryOperation(expression=inner):
                return self.is_number(inner)
            case cst.Subscript(value=cst.Attribute(attr=cst.Name(value="shape"))):
                return True
            case cst.Call(func=cst.Attribute(attr=cst.Name(value="size" | "dim" | "item" | "numel"))):
                return not isinstance(node.func, cst.Attribute) or not self.flow.names.imported(node.func)
            case cst.Call(func=cst.Name(value="len" | "float" | "int" | "round")):
                return True
            case cst.Call(func=func) if paths := self.flow.names.imported(func):
                root = all(p in _ROOTS for p in paths)
                return all(p.startswith("math.") for p in paths) or (root and all(map(self.is_number, arguments(node))))
            case cst.Name() | cst.Attribute() if (place := self.flow.place(node)) is not None:
                found = [*self.flow.assigned(place)]
                return bool(found) and all(self._gives_number(d) for d in found)
        return False

    def _gives_number(self, d: Definition) -> bool:
        match d.node:
            case cst.Param(annotation=cst.Annotation(annotation=cst.Name(value="int" | "float"))):
                return True
        values = [*self.flow.passed(d)] if d.how is How.PARAM else []
        values += [d.value] if d.value is not None else []
        return d.how in (How.ASSIGN, How.PARAM) and bool(values) and all(map(self.is_number, values))


_ARITHMETIC = (cst.Add, cst.Subtract, cst.Multiply, cst.Divide)
_ROOTS = {"numpy.sqrt", "numpy.power"}


# ---------------------------------------------------------------------- regions


def _calls(code: Code, context: cst.BaseExpression) -> list[cst.Call]:
    """The calls that may have made a context."""
    found: list[cst.Call] = []
    stack: list[cst.BaseExpression | None] = [context] if isinstance(context, cst.Call) else code.amp.arriving(context)
    while stack:
        match stack.pop():
            case cst.IfExp(body=body, orelse=orelse):
                stack += [body, orelse]
            case cst.Call(func=func) as call if code.amp.makes_autocast(func):
                found.append(call)
    return found


def _owned(region: cst.With | cst.FunctionDef, regions: Collection[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    """The nodes of a region; those of regions and of functions inside it left out."""
    stack: list[cst.CSTNode] = [region.body]
    while stack:
        yield (node := stack.pop())
        if isinstance(node, cst.FunctionDef | cst.Lambda):
            continue
        entered = node.body if isinstance(node, cst.With) and node in regions else None
        stack += [child for child in children(node) if child is not entered]


def _autocast(code: Code, node: cst.With | cst.FunctionDef, made: list[cst.Call]) -> Autocast:
    """``off`` stands for a dtype where autocast is switched off."""
    if made and all(_is_off(code, call) for call in made):
        return Autocast(node, "cuda", "off")
    devices, dtypes = {_device(code, call) for call in made}, {_dtype(code, call) for call in made}
    device = devices.pop() if len(devices) == 1 else "cuda"
    return Autocast(node, device, dtypes.pop() if len(dtypes) == 1 else None)


def _is_off(code: Code, call: cst.Call) -> bool:
    plain = [a.value for a in call.args if a.keyword is None]
    enabled = keyword(call, "enabled") or (plain[0] if plain and _old(code, call) is not None else None)
    return isinstance(enabled, cst.Name) and enabled.value == "False"


def _old(code: Code, call: cst.Call) -> str | None:
    """The device of ``torch.cuda.amp.autocast`` and its like."""
    paths = code.amp.paths(call.func)
    return next((device for device in _USUAL if any(p.startswith(f"torch.{device}.") for p in paths)), None)


def _device(code: Code, call: cst.Call) -> str:
    if (old := _old(code, call)) is not None:
        return old
    plain = [a.value for a in call.args if a.keyword is None]
    match keyword(call, "device_type") or next(iter(plain), None):
        case cst.SimpleString(evaluated_value=str(name)):
            return name.partition(":")[0]
    return "cuda"


def _dtype(code: Code, call: cst.Call) -> str | None:
    plain = [a.value for a in call.args if a.keyword is None]
    given = keyword(call, "dtype") or (plain[1] if len(plain) > 1 else None)
    known = bool(code.tree.names.imported(call.func)) and not any(a.star for a in call.args)
    if given is None:
        return _USUAL.get(_device(code, call)) if known else None
    return _named(code, given)


def _named(code: Code, dtype: cst.BaseExpression) -> str | None:
    """The dtype that an expression surely names, one name looked through."""
    paths = code.flow.names.imported(dtype)
    if not paths and (place := code.flow.place(dtype)) is not None:
        values = [d.value for d in code.flow.assigned(place)]
        paths = frozenset().union(*(code.flow.names.imported(v) if v is not None else {""} for v in values))
    names = {_DTYPES.get(path) for path in paths}
    return names.pop() if len(names) == 1 else None
