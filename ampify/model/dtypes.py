"""Which dtypes values may have once regions run under autocast: in half precision, or what they were without it.

A value is followed backwards: through names, attributes, containers, calls of functions and modules of the project,
each call with its own arguments, and through the operators of PyTorch. What a library's unknown function gives is
unknown; but outside of regions, what is computed from values that autocast has not changed is not changed either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

import libcst as cst

from ampify.model import fills, operators, records
from ampify.model import vocabulary as words
from ampify.model.definitions import Definition, How
from ampify.model.flow import Flow
from ampify.model.makers import Makers, held
from ampify.model.operators import POLICIES
from ampify.model.roles import Role
from ampify.syntax import blocks
from ampify.syntax.walk import arguments, is_none, keyword

if TYPE_CHECKING:
    from ampify.model.forward import Forward


class Dtype(Enum):
    HALF = auto()
    """Half precision, because autocast made it so."""
    FLOAT = auto()
    """What it is without autocast: float32, as a rule."""
    WHOLE = auto()
    """Integers, booleans and numbers of Python, which give way to the floats that they meet."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A dtype that cannot be said; what comes from the same place has the same one."""

    origin: cst.CSTNode


Found = frozenset[Dtype | Unknown]

_NONE: Found = frozenset()
_HALF: Found = frozenset({Dtype.HALF})
_FLOAT: Found = frozenset({Dtype.FLOAT})
_WHOLE: Found = frozenset({Dtype.WHOLE})
_DEEP = 6
"""So many calls are followed into each other."""
_FAR = 50
"""So many values are evaluated within each other, about eight frames of Python each, of the 1,000 that it has."""
_ROUNDS = 60
"""So often are the values behind one value evaluated, until they settle."""
_WIDE = 300
"""So many calls are followed for one value: classes that override each other's methods multiply the ways."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A call that is followed into ``function``; without a call, with arguments that are not known."""

    call: cst.Call | None
    function: cst.FunctionDef
    outer: Frame | None
    low: bool
    """Whether it runs under autocast."""

    def chain(self) -> Iterator[cst.FunctionDef]:
        yield self.function
        if self.outer is not None:
            yield from self.outer.chain()


_Key = tuple[cst.CSTNode | Definition, Frame | None, int | None]


class Dtypes:
    """The dtypes of one forward, under the autocast of one kind of device.

    ``inside`` are the nodes of its regions, ``reached`` the functions that regions call, and ``shielded`` the nodes
    in there for which autocast is switched off again; ``exact`` is computed in float32.
    """

    def __init__(
        self,
        forward: Forward,
        device: str,
        inside: Iterable[cst.CSTNode],
        reached: Collection[cst.FunctionDef],
        shielded: Iterable[cst.CSTNode] = (),
        exact: Iterable[cst.CSTNode] = (),
    ) -> None:
        self.forward, self.flow, self.roles, self.tree = forward, forward.flow, forward.roles, forward.tree
        self._makers = Makers(forward.flow, forward.roles)
        self._policies, self._reached = POLICIES[device], reached
        self._inside, self._shielded = {id(n) for n in inside}, {id(n) for n in shielded}
        hoisted = (h.expression for r in forward.runs.found for h in r.hoists if h.to_float)
        self._floats = {id(n) for n in (*forward.islands.floats(), *hoisted, *exact)}
        self._opened: set[cst.Call] = set()
        self._known: dict[_Key, Found] = {}
        self._settled: set[_Key] = set()
        self._visited: set[_Key] = set()
        self._far: dict[_Key, None] = {}
        self._changed = False
        self._followed = self._depth = 0

    def of(self, node: cst.BaseExpression) -> Found:
        """The dtypes that the value of an expression may have where it stands; empty for what holds no value."""
        asked: list[_Key] = [(node, None, None)]
        for _ in range(_ROUNDS):
            self._changed, self._visited, self._followed, self._far = False, set(), 0, dict[_Key, None]()
            found = self._value(*asked[-1])
            if further := [key for key in self._far if key not in asked]:
                asked += further  # first what is far away, and then what hangs on it
            elif not self._changed:
                self._settled |= self._visited if not self._far else set()
                asked.pop()
                if not asked:
                    return found
        return _unknown(node)

    def unchanged(self, nodes: Iterable[cst.BaseExpression]) -> bool:
        """Whether autocast leaves all of these values as they are."""
        return all(found and found <= _FLOAT | _WHOLE for found in map(self.of, nodes))

    def agree(self, nodes: Iterable[cst.BaseExpression]) -> bool:
        """Whether values that had one dtype without autocast surely have one with it."""
        given = [*nodes]
        found = [self.of(node) for node in given]
        if all(found) and len(frozenset().union(*found) - _WHOLE) <= 1:
            return True
        sources = {self._source(node) for node in given}
        return len(sources) == 1 and None not in sources

    def _source(self, node: cst.CSTNode, depth: int = _DEEP) -> Definition | None:
        """The one definition of which a value has the dtype, whatever that is: of ``x.new_zeros(3)`` that of ``x``."""
        if (alike := self._alike(node)) is not None:
            return self._source(alike, depth - 1) if depth else None
        place = self.flow.place(node)
        reaching = [*self.flow.reaching(place, blocks.small_statement_of(self.tree, node))] if place is not None else []
        one = len({d.node for d in reaching}) == 1 and (len(reaching) == 1 or reaching[0].how is How.PARAM)
        made = reaching[0].value if one and reaching[0].how is How.ASSIGN and depth else None
        return (self._source(made, depth - 1) if isinstance(made, cst.Call) else None) or (reaching[0] if one else None)

    def _alike(self, node: cst.CSTNode) -> cst.BaseExpression | None:
        """The value whose dtype a call gives to what it makes: ``x`` of ``x.new_zeros(3)`` and ``zeros_like(x)``."""
        match node:
            case cst.Call(func=cst.Attribute(value=receiver, attr=cst.Name(value=name)) as func, args=given):
                if (dtype := keyword(node, "dtype")) is not None:
                    return dtype.value if isinstance(dtype, cst.Attribute) and dtype.attr.value == "dtype" else None
                if self.flow.names.imported(func):
                    return given[0].value if given and name.endswith("_like") else None
                kept = name.startswith("new_") or name in operators.KEEPING or _changing(name)
                return receiver if kept else None
        return None

    def low(self, node: cst.CSTNode) -> bool:
        """Whether a node may run under autocast."""
        return self._low(node, None)

    def functions(self, call: cst.Call) -> Iterator[cst.FunctionDef]:
        """The functions of the project that a call may run; of a container of modules the forwards of all of them."""
        if not isinstance(self.flow.named(call.func), cst.ClassDef):
            callee = self.flow.callee(call)
            for function in (callee,) if callee is not None else self._makers.forwards(call.func):
                yield from self.flow.overridden(function)

    # ------------------------------------------------------------------ values

    def _value(self, node: cst.CSTNode | Definition, frame: Frame | None = None, index: int | None = None) -> Found:
        """The dtypes of a value, of its element ``index`` if it is a tuple; a value under way is empty at first.

        So is one that is very far from the value that is asked for: it is asked for by itself, before the next round.
        """
        key = (node, frame, index)
        if self._depth == _FAR and key not in self._visited and key not in self._settled:
            self._far[key] = None
        elif key not in self._visited and key not in self._settled:
            self._visited.add(key)
            self._depth += 1
            before = self._known.get(key, _NONE)
            if isinstance(node, Definition):
                found = before | self._defined(node, frame, index)
            else:
                found = before | self._evaluated(node, frame, index)
            self._known[key] = found
            self._changed |= found != before
            self._depth -= 1
        return self._known.get(key, _NONE)

    def _all(self, nodes: Iterable[cst.CSTNode | Definition], frame: Frame | None, index: int | None = None) -> Found:
        return _NONE.union(*(self._value(node, frame, index) for node in nodes))

    def _evaluated(self, node: cst.CSTNode, frame: Frame | None, index: int | None) -> Found:
        if id(node) in self._floats:
            return _FLOAT
        match node:
            case cst.Call():
                return self._called(node, frame, index)
            case cst.Name() | cst.Attribute():
                return self._read(node, frame, index)
            case cst.Subscript(value=value):
                return self._value(value, frame, _position(node))
            case cst.BinaryOperation():
                return self._operation(node, frame)
            case cst.Comparison() | cst.BaseNumber() | cst.BaseString() | cst.UnaryOperation(operator=cst.Not()):
                return _WHOLE
            case cst.Tuple(elements=elements) | cst.List(elements=elements) if index in range(len(elements)):
                return self._value(elements[index].value, frame)  # type: ignore[index]
        parts = [*held(node)]
        return self._all(parts, frame, index) if parts or isinstance(node, _CONTAINERS) else _unknown(node)

    def _operation(self, node: cst.BinaryOperation, frame: Frame | None) -> Found:
        low = self._low(node, frame)
        if isinstance(node.operator, cst.MatrixMultiply) and low:
            return _HALF
        if isinstance(node.operator, cst.Power) and low and "pow" in self._policies.float32:
            return _FLOAT
        return self._meet((node.left, node.right), frame, node)

    def _meet(self, operands: Iterable[cst.CSTNode], frame: Frame | None, at: cst.CSTNode) -> Found:
        """What operands are promoted to."""
        found = _NONE
        for values in (self._value(operand, frame) for operand in operands):
            found = frozenset(m for a in found for b in values for m in _promoted(a, b, at)) or found | values
        return found

    def _low(self, node: cst.CSTNode, frame: Frame | None) -> bool:
        """Whether a node runs under autocast."""
        if id(node) in self._inside or id(node) in self._shielded:
            return id(node) in self._inside
        return frame.low if frame is not None else self.flow.function(node) in self._reached

    # ------------------------------------------------------------------ names

    def _read(self, node: cst.Name | cst.Attribute, frame: Frame | None, index: int | None) -> Found:
        if isinstance(node, cst.Attribute) and node.attr.value in _NUMBERS:
            return _WHOLE
        statement = blocks.small_statement_of(self.tree, node)
        for place in (self.roles.instances.attribute(node), self.flow.place(node)):
            if place is not None and (reaching := self.flow.reaching(place, statement)):
                filled = not isinstance(place.root, cst.ClassDef) or any(not is_none(d.value) for d in reaching)
                return self._all(reaching, frame, index) if filled else _unknown(node)  # what fills it is out of sight
        if self.flow.names.imported(node) or self._is_function(node):
            return _FLOAT
        if isinstance(node, cst.Attribute):  # of a module: a parameter or a buffer
            return _FLOAT if self._is_module(node.value) else self._value(node.value, frame)
        if node.value in ("None", "True", "False"):
            return _WHOLE
        drawn = [*self._makers.comprehended(node)]
        return self._all(drawn, frame) if drawn else _unknown(node)

    def _is_module(self, node: cst.BaseExpression) -> bool:
        own = self.flow.self_class(node) if isinstance(node, cst.Name) else None
        return self.roles.of(node) is Role.MODULE or (own is not None and self.roles.of_class(own) is Role.MODULE)

    def _is_function(self, node: cst.Name | cst.Attribute) -> bool:
        """Whether a name stands for a function or class of the project, or for a method of the object itself."""
        if isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name):
            own = self.flow.self_class(node.value)
            return own is not None and self.flow.method(own, node.attr.value) is not None
        return self.flow.named(node) is not None

    def _defined(self, d: Definition, frame: Frame | None, index: int | None) -> Found:
        inner = frame if frame is not None and frame.function is d.function else None
        match d.how:
            case How.PARAM:
                return self._parameter(d, inner, index)
            case How.UNPACK:
                return self._value(d.value, inner, unpacked(self.flow, d)) if d.value else _NONE
            case How.ITERATE:
                drawn = [*self.flow.drawn(d)]
                return self._all(drawn or ([d.value] if d.value else []), inner)
            case How.CHANGE:
                return self._changed_by(d, inner)
        if d.place.path[-1].startswith("[") and self.forward.keeps(d):
            return _NONE
        return self._value(d.value, inner, index) if d.value is not None else _NONE

    def _changed_by(self, d: Definition, frame: Frame | None) -> Found:
        """What a change in place adds: nothing to a tensor, which keeps its dtype, an element to a list."""
        if d.value is None or self.forward.keeps(d) or _in_place(d.node):
            return _NONE
        if not isinstance(d.node, cst.AugAssign):
            return self._value(d.value, frame)
        before = self._all((o for o in self.flow.reaching(d.place, d.node) if o is not d), frame) - _WHOLE
        return before or self._value(d.value, frame)

    def _parameter(self, d: Definition, frame: Frame | None, index: int | None) -> Found:
        assert isinstance(d.node, cst.Param)
        default = [d.value] if d.value is not None else []
        if frame is None:
            unseen = _NONE if self._closed(d) else _unknown(d.node)
            return self._all([*self.flow.passed(d), *default], None, index) | unseen
        if frame.call is None:
            return _unknown(d.node)
        given = self.flow.argument(frame.call, frame.function, d.node.name.value)
        if given is None:
            return self._all(default, None) or _unknown(d.node)
        return self._value(given, frame.outer, index)

    def _closed(self, d: Definition) -> bool:
        """Whether the calls that are seen tell what a parameter gets: a module is called by its containers, too."""
        match d.function:
            case cst.FunctionDef(name=cst.Name(value=name)) as f if f in self.flow.sites:
                return name not in ("forward", "__call__") and self.flow.values.leaving(f) is None
        return False

    # ------------------------------------------------------------------ calls

    def _called(self, call: cst.Call, frame: Frame | None, index: int | None) -> Found:
        func, low = call.func, self._low(call, frame)
        name = func.attr.value if isinstance(func, cst.Attribute) else getattr(func, "value", "")
        if name in operators.INDICES and index == 1:
            return _WHOLE
        if targets := self._targets(call):
            return _NONE.union(*(self._through(call, target, frame, low, index) for target in targets))
        if isinstance(self.flow.named(func), cst.ClassDef):
            return self._made(call, frame)
        paths = self.flow.names.imported(func)
        if isinstance(func, cst.Attribute) and self.roles.of(func.value) is Role.MODULE:
            return _FLOAT if name in words.SAME_OBJECT else self._opaque(call, frame, low)
        if any(p.startswith("numpy.") for p in paths):  # autocast has no hand in what NumPy computes
            return _FLOAT if name in operators.CREATING else self._meet(arguments(call), frame, call) or _FLOAT
        if any(p.startswith("torch.") for p in paths):
            return self._library(call, name, frame, low)
        if isinstance(func, cst.Attribute) and not paths and self.roles.of(func) is None:
            return self._method(call, func.value, name, frame, low)
        if isinstance(func, cst.Name) and not paths and self.flow.place(func) is None:
            return self._builtin(call, name, frame, low)
        return self._opaque(call, frame, low)

    def _opaque(self, call: cst.Call, frame: Frame | None, low: bool) -> Found:
        """A call of which nothing is known: outside of regions, it changes nothing by itself."""
        given = [*arguments(call)]
        if isinstance(call.func, cst.Attribute) and not self.flow.names.imported(call.func):
            given.append(call.func.value)
        return _FLOAT if not low and self._all(given, frame) <= _FLOAT | _WHOLE else _unknown(call)

    def _made(self, call: cst.Call, frame: Frame | None) -> Found:
        """An object of a class of the project: it holds what it is given."""
        if self.roles.of(call) is not None:
            return _FLOAT
        fields = records.given(self.flow, call)
        return self._all(fields.values(), frame) if fields else self._all(arguments(call), frame) | _FLOAT

    def _builtin(self, call: cst.Call, name: str, frame: Frame | None, low: bool) -> Found:
        if name in operators.BUILTINS:
            return self._meet(arguments(call), frame, call)
        return _WHOLE if name in operators.WHOLE or name in ("float", "str") else self._opaque(call, frame, low)

    def _library(self, call: cst.Call, name: str, frame: Frame | None, low: bool) -> Found:
        """A function of PyTorch, or one of its objects."""
        given = [*arguments(call)]
        if (dtype := keyword(call, "dtype")) is not None:
            return self._named(dtype, call, frame)
        if any(p.startswith(words.DISTRIBUTIONS) for p in self.flow.names.imported(call.func)):
            held = self._all(given, frame)
            return held if held <= _FLOAT | _WHOLE else _unknown(call)
        if name in operators.CREATING or self.roles.of(call) is not None:
            return _FLOAT
        if name in operators.HANDING_ON:
            held = self._all(given[:1], frame)
            return held - _WHOLE | _FLOAT if held & _WHOLE else held
        if name.endswith("_like"):
            return self._all(given[:1], frame)
        return self._operator(call, name, given, frame, low)

    def _method(self, call: cst.Call, receiver: cst.BaseExpression, name: str, frame: Frame | None, low: bool) -> Found:
        if name in ("float", "double"):
            return _FLOAT
        if name in ("half", "bfloat16"):
            return _unknown(call)
        if (dtype := keyword(call, "dtype")) is not None:
            return self._named(dtype, call, frame)
        if name in ("to", "type"):
            return self._cast(call, receiver, frame)
        if name == "type_as" and call.args:
            return self._value(call.args[0].value, frame)
        alike = name.startswith("new_") or name in operators.DRAWN_FROM | operators.HOLDING
        if alike or _changing(name):
            return self._value(receiver, frame)
        return self._operator(call, name, [receiver, *arguments(call)], frame, low)

    def _operator(
        self, call: cst.Call, name: str, given: list[cst.BaseExpression], frame: Frame | None, low: bool
    ) -> Found:
        """What an operator makes of its operands: autocast's policy first, then its own nature."""
        overfills = name in fills.COPYING and fills.overfills(self.flow, call)
        if overfills and self._all(fills.tensors(self.flow, call), frame) == _HALF:
            return _FLOAT  # what it fills is made float32 first
        own = operators.COMPOSED.get(name, name)
        listed = own in POLICIES["cuda"].half | POLICIES["cuda"].float32
        if low and own in self._policies.float32:
            return _FLOAT
        if low and own in self._policies.half:
            return _HALF
        if name in operators.WHOLE:
            return _WHOLE
        if name in operators.KEEPING or (own in POLICIES["cuda"].float32 and not (low and "loss" in own)):
            return self._all(given[:1], frame)
        if name in operators.MEETING or name in POLICIES["cuda"].widest or (listed and not low):
            return self._meet(given, frame, call)
        return self._opaque(call, frame, low)

    def _cast(self, call: cst.Call, receiver: cst.BaseExpression, frame: Frame | None) -> Found:
        """``x.to(…)``: with a dtype, with a device, which changes nothing, or with a tensor of either dtype."""
        found = self._value(receiver, frame)
        for value in arguments(call):
            if self._names_dtype(value):
                return self._named(value, call, frame)
            found |= self._value(value, frame) & _HALF
        return found

    def _names_dtype(self, node: cst.BaseExpression) -> bool:
        known = operators.FLOATS | operators.HALVES
        if any(p in known or p.startswith(_INTEGERS) for p in self.flow.names.imported(node)):
            return True
        if isinstance(node, cst.Name):  # of an unknown value, the last resort
            return node.value.endswith("dtype") and self.roles.of(node) is None
        return isinstance(node, cst.Attribute) and node.attr.value == "dtype"

    def _named(self, dtype: cst.BaseExpression, call: cst.Call, frame: Frame | None) -> Found:
        """The dtype that an expression names: ``torch.long``, ``x.dtype``."""
        paths = self.flow.names.imported(dtype)
        if paths & operators.FLOATS:
            return _FLOAT
        if any(p.startswith(_INTEGERS) for p in paths):
            return _WHOLE
        if isinstance(dtype, cst.Attribute) and dtype.attr.value == "dtype" and not paths:
            return self._value(dtype.value, frame)
        return _unknown(call)

    # ------------------------------------------------------------------ functions and modules of the project

    def _targets(self, call: cst.Call) -> list[cst.CSTNode]:
        """What a call may run: functions of the project, and modules as the calls that made them."""
        if isinstance(self.flow.named(call.func), cst.ClassDef):
            return []
        if (callee := self.flow.callee(call)) is not None:
            return [f for f in self.flow.overridden(callee) if not blocks.abstract(f)]
        func = call.func
        if self.roles.of(func) in (Role.MODULE, Role.LOSS):
            return self._methods(func, "forward")
        if isinstance(func, cst.Attribute) and self.roles.of(func.value) is Role.MODULE:
            return self._methods(func.value, func.attr.value) if func.attr.value not in words.SAME_OBJECT else []
        found = self._methods(func, "forward")
        return found if found != [func] else []

    def _methods(self, node: cst.BaseExpression, name: str) -> list[cst.CSTNode]:
        """The methods of a module that may run; what made the module where it is of a library, or not in sight."""
        found: list[cst.CSTNode] = []
        for maker in self._makers.of(node):
            cls = self.flow.named(maker.func) if isinstance(maker, cst.Call) else None
            method = self.flow.method(cls, name) if isinstance(cls, cst.ClassDef) else None
            found.append(method or maker)
        return found

    def _through(self, call: cst.Call, target: cst.CSTNode, frame: Frame | None, low: bool, index: int | None) -> Found:
        """What a function returns, or a module of a library gives."""
        if not isinstance(target, cst.FunctionDef):
            given = self._all(arguments(call), frame)
            unchanged = not low and given <= _FLOAT | _WHOLE
            return _FLOAT if unchanged else self._ran(target, self._all([*arguments(call)][:1], frame), call, low)
        chain = [*frame.chain()] if frame is not None else []
        if target in chain:
            return _NONE
        returned = [r.value for r in self.flow.returns(target) if r.value is not None]
        self._followed += 1
        if not returned or len(chain) == _DEEP or self._followed > _WIDE:
            return _unknown(call)
        return self._all(returned, Frame(call, target, frame, low), index)

    def _ran(self, maker: cst.CSTNode, given: Found, at: cst.CSTNode, low: bool) -> Found:
        """What the module that ``maker`` makes gives for a tensor of the dtype ``given``."""
        paths = self.flow.names.imported(maker.func) if isinstance(maker, cst.Call) else frozenset[str]()
        name = next((p.rpartition(".")[2] for p in paths if p.startswith("torch.nn.")), "")
        operator = operators.MODULES.get(name, "")
        if name == "Sequential" and isinstance(maker, cst.Call):
            return self._sequence(maker, given, at, low)
        if low and operator in self._policies.float32 | self._policies.half:
            return _FLOAT if operator in self._policies.float32 else _HALF
        if (
            name in operators.KEEPING_MODULES
            or operator == "softmax"
            or (name and given <= _FLOAT | _WHOLE and not low)
        ):
            return given
        cls = self.flow.named(maker.func) if isinstance(maker, cst.Call) else None
        forward = self.flow.method(cls, "forward") if isinstance(cls, cst.ClassDef) else None
        if forward is None:
            return _unknown(at)
        returned = (r.value for r in self.flow.returns(forward) if r.value is not None)
        return self._all(returned, Frame(None, forward, None, low))

    def _sequence(self, maker: cst.Call, given: Found, at: cst.CSTNode, low: bool) -> Found:
        """One module after the other; one that is made of itself (``net = nn.Sequential(net, …)``) is not known."""
        if maker in self._opened:
            return _unknown(at)
        self._opened.add(maker)
        found = self._parts(maker, given, at, low)
        self._opened.discard(maker)
        return found

    def _parts(self, maker: cst.Call, given: Found, at: cst.CSTNode, low: bool) -> Found:
        for arg in maker.args:
            makers = [] if arg.star else [*self._makers.of(arg.value)]
            given = _NONE.union(*(self._ran(inner, given, at, low) for inner in makers)) if makers else _unknown(at)
        return given


_CONTAINERS = cst.List | cst.Tuple | cst.Set | cst.Dict
_INTEGERS = ("torch.int", "torch.uint", "torch.long", "torch.short", "torch.bool", "torch.Long", "torch.Int")
_NUMBERS = {"shape", "device", "dtype", "ndim", "requires_grad", "is_cuda"}


def _unknown(origin: cst.CSTNode) -> Found:
    return frozenset({Unknown(origin)})


def _promoted(one: Dtype | Unknown, other: Dtype | Unknown, at: cst.CSTNode) -> Found:
    """The dtype in which two operands meet: a float32 tensor without dimensions gives way to half precision."""
    match one, other:
        case (Dtype.WHOLE, Dtype.WHOLE):
            return _WHOLE | _FLOAT
        case (Dtype.WHOLE, found) | (found, Dtype.WHOLE):
            return frozenset({found})
        case _ if one == other:
            return frozenset({one})
        case (Dtype(), Dtype()):
            return _HALF | _FLOAT
    return _unknown(at)


def _position(node: cst.Subscript) -> int | None:
    match node.slice:
        case [cst.SubscriptElement(slice=cst.Index(value=cst.Integer() as position))]:
            return position.evaluated_value
    return None


def unpacked(flow: Flow, d: Definition) -> int | None:
    """Which element of what is unpacked a definition takes."""
    target = d.node.targets[0].target if isinstance(d.node, cst.Assign) else None
    if not isinstance(target, cst.Tuple | cst.List) or any(isinstance(e, cst.StarredElement) for e in target.elements):
        return None
    return next((i for i, e in enumerate(target.elements) if flow.place(e.value) == d.place), None)


def _changing(method: str) -> bool:
    """Whether a method changes its tensor in place, and gives it back."""
    return method.endswith("_") and not method.startswith("_")


def _in_place(statement: cst.CSTNode) -> bool:
    """``x.add_(y)``."""
    match statement:
        case cst.Expr(value=cst.Call(func=cst.Attribute(attr=cst.Name(value=name)))):
            return name.endswith("_")
    return False
