"""What values are to a training step: module, optimizer, loss function, device …

Bindings decide: constructors, annotations, call sites, then what is done with a value; its name only at the very last.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, IntEnum
from functools import cached_property

import libcst as cst

from ampify.model import records
from ampify.model import vocabulary as words
from ampify.model.definitions import Definition, How, Place
from ampify.model.flow import Flow
from ampify.model.instances import Instances
from ampify.syntax.names import Bound
from ampify.syntax.walk import arguments, dotted, is_none, keyword


class Role(Enum):
    MODULE = "module"
    OPTIMIZER = "optimizer"
    SCHEDULER = "scheduler"
    LOSS = "loss function"
    LOADER = "loader"
    DEVICE = "torch.device"
    DEVICE_NAME = "name of a device"
    SCALER = "GradScaler"


class Evidence(IntEnum):
    """How sure a role is; more evidence replaces less."""

    NAME = 1
    USE = 2
    FLOW = 3
    BOUND = 4


class Roles:
    """The roles of the places of one file, worked out once by going round until nothing changes."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.names, self.instances = flow, flow.names, Instances(flow)
        self._known: dict[Place, tuple[Evidence, Role]] = {}
        self._returning: dict[cst.FunctionDef, Role | None] = {}
        for place, role in self._used():
            self._learn(place, Evidence.USE, role)
        for _ in range(8):  # longer chains of aliases and parameters were not met in the corpus
            before = dict(self._known)
            self._round()
            if self._known == before:
                break
        self._named()

    def of(self, node: cst.CSTNode) -> Role | None:
        """The role of the value of an expression."""
        match node:
            case cst.Name() | cst.Attribute() | cst.Subscript():
                found = (self.at(p) for p in (self.flow.place(node), self.instances.attribute(node)) if p is not None)
                return next((role for role in found if role is not None), None)
            case cst.Call():
                return self._made(node)
            case cst.IfExp():
                return self.of(node.body) or self.of(node.orelse)
            case cst.BooleanOperation():
                return self.of(node.left) or self.of(node.right)
            case cst.NamedExpr():
                return self.of(node.value)
            case cst.SimpleString() if _names_device(node):
                return Role.DEVICE_NAME
        return None

    def at(self, place: Place) -> Role | None:
        """The role of what is kept at ``place``."""
        found = self._known.get(place)
        if found is None and place.path[-1] == "module" and len(place.path) > 1:  # DDP(model).module
            return self.at(Place(place.root, place.path[:-1]))
        if found is None and place.path[-1].startswith("["):
            found = self._known.get(Place(place.root, (*place.path[:-1], "[*]")))
        return found[1] if found else None

    def evidence(self, node: cst.CSTNode) -> Evidence | None:
        place = self.flow.place(node)
        return self._known[place][0] if place in self._known else None

    def places(self, role: Role) -> Iterator[Place]:
        return (place for place, (_, known) in self._known.items() if known is role)

    # ------------------------------------------------------------------ learning

    def _learn(self, place: Place, evidence: Evidence, role: Role | None) -> None:
        if role is not None and (place not in self._known or self._known[place][0] < evidence):
            self._known[place] = (evidence, role)

    def _round(self) -> None:
        self._returning.clear()
        self._fields = self._held_fields()
        for definitions in self.flow.definitions.values():
            for d in definitions:
                if d.how in (How.ASSIGN, How.OTHER) and d.value is not None:
                    self._assign(d, d.value)
                elif d.how is How.UNPACK and isinstance(d.value, cst.Call):
                    self._unpack(d, d.value)
                elif d.how is How.ITERATE:
                    self._iterate(d)
                elif d.how is How.PARAM:
                    self._receive(d)
                elif d.how is How.CHANGE and d.value is not None:
                    self._learn(Place(d.place.root, (*d.place.path, "[*]")), Evidence.FLOW, self.of(d.value))

    def _assign(self, d: Definition, value: cst.BaseExpression) -> None:
        self._learn(d.place, Evidence.BOUND if isinstance(value, cst.Call) else Evidence.FLOW, self.of(value))
        if isinstance(d.node, cst.AnnAssign):
            self._learn(d.place, Evidence.BOUND, self._annotated(d.node.annotation))
        elements: list[tuple[str, cst.BaseExpression]] = []
        if isinstance(value, cst.List | cst.Tuple | cst.Set):
            elements = [("[*]", e.value) for e in value.elements]
        elif isinstance(value, cst.Dict):
            for e in value.elements:
                if isinstance(e, cst.DictElement):
                    key = e.key.evaluated_value if isinstance(e.key, cst.SimpleString) else None
                    elements += [("[*]", e.value), (f"[{key!r}]", e.value)]
        elif isinstance(value, cst.ListComp | cst.GeneratorExp):
            elements = [("[*]", value.elt)]
        elif isinstance(value, cst.Call):
            elements = [*records.given(self.flow, value).items()]
            if (cls := self.instances.of(value)) is not None:
                for name, element in elements:
                    self._learn(Place(cls, (name,)), Evidence.FLOW, self.of(element))
        for key, element in elements:
            self._learn(Place(d.place.root, (*d.place.path, str(key))), Evidence.FLOW, self.of(element))

    def _unpack(self, d: Definition, value: cst.Call) -> None:
        """``model, optimizer = build(args)``: the role of the element of what the function returns."""
        function = self.flow.callee(value)
        target = d.node.targets[0].target if isinstance(d.node, cst.Assign) else None
        if function is None or not isinstance(target, cst.Tuple | cst.List):
            return
        index = next((i for i, e in enumerate(target.elements) if self.flow.place(e.value) == d.place), None)
        for returned in self.flow.returns(function):
            if index is not None and isinstance(returned.value, cst.Tuple) and index < len(returned.value.elements):
                self._learn(d.place, Evidence.BOUND, self.of(returned.value.elements[index].value))

    def _iterate(self, d: Definition) -> None:
        for source in self.flow.drawn(d):
            role = self.of(source)
            self._learn(d.place, Evidence.FLOW, role if role is not Role.LOADER else None)  # its batches are none
            if (place := self.flow.place(source)) is not None:
                self._learn(d.place, Evidence.FLOW, self.at(Place(place.root, (*place.path, "[*]"))))

    def _receive(self, d: Definition) -> None:
        assert isinstance(d.node, cst.Param)
        self._learn(d.place, Evidence.BOUND, self._annotated(d.node.annotation))
        for value in self.flow.passed(d):
            self._learn(d.place, Evidence.FLOW, self.of(value))
            if (place := self.flow.place(value)) is not None:
                element = self._known.get(Place(place.root, (*place.path, "[*]")))
                self._learn(Place(d.place.root, (*d.place.path, "[*]")), Evidence.FLOW, element and element[1])
                if known := self._known.get(d.place):
                    self._learn(place, Evidence.USE, known[1])
                self._share_fields(place, d.place)
                self._share_fields(d.place, place)

    def _share_fields(self, source: Place, target: Place) -> None:
        """``args.model`` is the same object in a function that is given ``args``, whoever has set it."""
        for name, role in self._fields.get(source, ()):
            self._learn(Place(target.root, (*target.path, name)), Evidence.FLOW, role)

    def _held_fields(self) -> dict[Place, list[tuple[str, Role]]]:
        """What is known of attributes, by the place of what has them.

        Not devices: ``args.device = torch.device(args.device)`` may run before or after a function is given ``args``.
        """
        found: dict[Place, list[tuple[str, Role]]] = {}
        for place, (evidence, role) in self._known.items():
            held = len(place.path) == _FIELD and not isinstance(place.root, cst.ClassDef)
            if held and evidence is not Evidence.NAME and role not in (Role.DEVICE, Role.DEVICE_NAME):
                found.setdefault(Place(place.root, place.path[:-1]), []).append((place.path[-1], role))
        return found

    def _annotated(self, annotation: cst.Annotation | None) -> Role | None:
        if annotation is None:
            return None
        for path in self.names.imported(annotation.annotation):
            if path.startswith("torch.optim.") and not path.startswith(words.NOT_OPTIMIZERS):
                return Role.OPTIMIZER
            if path.startswith(words.MODULE_MODULES) and not path.startswith(words.NOT_MODULES):
                return Role.MODULE
            if path in words.SCALERS:
                return Role.SCALER
            if path == "torch.device":
                return Role.DEVICE
            if path in words.LOADERS:
                return Role.LOADER
        if isinstance(cls := self.flow.named(annotation.annotation), cst.ClassDef):
            return self.of_class(cls)
        return None

    # ------------------------------------------------------------------ calls

    def _made(self, call: cst.Call) -> Role | None:
        """The role of what a call gives."""
        for path in self.names.imported(call.func):
            if (role := self._library(path, call)) is not None:
                return role
        if isinstance(cls := self.flow.named(call.func), cst.ClassDef):
            return self.of_class(cls)
        if isinstance(call.func, cst.Attribute):
            receiver = self.of(call.func.value)
            if receiver in (Role.MODULE, Role.LOSS) and call.func.attr.value in words.SAME_OBJECT:
                return receiver
            if receiver is Role.LOSS or (receiver is Role.MODULE and call.func.attr.value not in words.SAME_OBJECT):
                return None
        if (function := self.flow.callee(call)) is not None:
            return self._returned(function)
        if self._builds_optimizer(call):
            return Role.OPTIMIZER
        return None

    def _library(self, path: str, call: cst.Call) -> Role | None:
        """What a call of the library function ``path`` gives."""
        last = path.rpartition(".")[2]
        if path.startswith(words.SCHEDULER_MODULES):
            return Role.SCHEDULER
        if path.startswith(words.SCHEDULER_FACTORIES) and last.startswith("get_") and "schedule" in last:
            return Role.SCHEDULER
        if path.startswith(words.OPTIMIZER_MODULES) and not path.startswith(words.NOT_OPTIMIZERS) and last[0].isupper():
            return Role.OPTIMIZER
        if path in words.OPTIMIZER_FACTORIES:
            return Role.OPTIMIZER
        if path in words.MODULE_WRAPPERS:
            return (self.of(call.args[0].value) if call.args else None) or (
                None if path.startswith("copy") else Role.MODULE
            )
        if path in words.SCALERS:
            return Role.SCALER
        if path in words.DEVICES:
            return Role.DEVICE
        if path in words.LOADERS:
            return Role.LOADER
        if path.startswith(words.MODULE_MODULES) and not path.startswith(words.NOT_MODULES):
            if last[0].isupper():
                return Role.LOSS if last.endswith(words.LOSS_SUFFIXES) else Role.MODULE
            return Role.MODULE if not path.startswith(words.MODULE_FUNCTIONS) else None
        if path in words.MODULE_FACTORIES or (path.startswith("transformers.") and last == "from_pretrained"):
            return Role.MODULE if not path.rpartition(".")[0].endswith(("Tokenizer", "Processor", "Config")) else None
        return None

    def of_class(self, cls: cst.ClassDef) -> Role | None:
        """What an instance of a class of this file is, from its bases."""
        seen = [cls]
        while (base := next(iter(self.flow.bases(seen[-1])), None)) is not None and base not in seen:
            seen.append(base)
        for arg in seen[-1].bases:
            for path in self.names.imported(arg.value):
                if path in words.OPTIMIZER_BASES or (path.startswith("torch.optim.") and "lr_scheduler" not in path):
                    return Role.OPTIMIZER
                if "lr_scheduler" in path:
                    return Role.SCHEDULER
                if path.startswith(words.MODULE_MODULES):
                    is_loss = cls.name.value.endswith(words.LOSS_SUFFIXES) or path.endswith("Loss")
                    return Role.LOSS if is_loss else Role.MODULE
                if path.startswith("transformers.") and "Model" in path:
                    return Role.MODULE
        return None

    def _returned(self, function: cst.FunctionDef) -> Role | None:
        """The role of what a function of this file returns."""
        if function not in self._returning:
            self._returning[function] = None  # recursion ends here
            found = {self.of(r.value) for r in self.flow.returns(function) if r.value and not is_none(r.value)}
            self._returning[function] = found.pop() if len(found) == 1 else None
        return self._returning[function]

    def _builds_optimizer(self, call: cst.Call) -> bool:
        """An unknown callable that is given ``X.parameters()``: `getattr(optim, name)(model.parameters())` and such."""
        paths = self.names.imported(call.func)
        if any(p.startswith(("torch.nn", "torch.autograd", "copy", "itertools")) or p in words.CLIPS for p in paths):
            return False
        name = call.func.attr.value if isinstance(call.func, cst.Attribute) else getattr(call.func, "value", "")
        if isinstance(name, str) and ("clip" in name or name in _BUILTINS):
            return False
        optim = isinstance(name, str) and "optim" in name.lower()
        first = call.args[0].value if call.args else None
        given = first is not None and _gives_parameters(first) and (optim or bool(name and str(name)[0].isupper()))
        reflected = isinstance(call.func, cst.Call) and any(
            "torch.optim" in self.names.imported(a) for a in arguments(call.func)
        )
        return given or reflected

    # ------------------------------------------------------------------ evidence of use

    def _used(self) -> Iterator[tuple[Place, Role]]:
        """What is done with a value says what it is."""
        stepped, zeroed = set(), set()
        for call in self.flow.calls:
            if isinstance(call.func, cst.Attribute) and (place := self.flow.place(call.func.value)) is not None:
                if self.names.imported(call.func):
                    continue
                match call.func.attr.value:
                    case "step":
                        stepped.add(place)
                    case "zero_grad":
                        zeroed.add(place)
                    case "parameters" | "named_parameters" if not call.args:
                        yield place, Role.MODULE
                    case "eval" | "train" if len(call.args) <= 1 and not _takes_data(call):
                        yield place, Role.MODULE
            for path in self.names.imported(call.func):
                first = _first(call, "optimizer") if path.startswith(words.SCHEDULER_MODULES) else None
                if first is not None and (place := self.flow.place(first)) is not None:
                    yield place, Role.OPTIMIZER
        yield from ((place, Role.OPTIMIZER) for place in stepped & zeroed)

    def _named(self) -> None:
        """The last resort: parameters and results of unknown functions called as everyone calls them."""
        for definitions in self.flow.definitions.values():
            for d in definitions:
                opaque = d.how is How.PARAM or isinstance(d.value, cst.Call | cst.Attribute | cst.Subscript)
                if opaque and d.place not in self._known and d.place not in self._otherwise:
                    self._learn(d.place, Evidence.NAME, _by_name(d.place.path[-1]))

    @cached_property
    def _otherwise(self) -> set[Place]:
        """What is something else whatever its name: an object of a class that can be seen, a tensor with a gradient."""
        found = (d for definitions in self.flow.definitions.values() for d in definitions)
        return {d.place for d in found if isinstance(d.value, cst.Call) and self._plain(d.value)} | self._differentiated

    def _plain(self, call: cst.Call) -> bool:
        """Whether an object is made of a class that can be seen, with all its bases, and that cannot be called."""
        cls = self.flow.named(call.func)
        if not isinstance(cls, cst.ClassDef) or self.flow.method(cls, "__call__") is not None:
            return False
        seen = [cls]
        for one in seen:
            known = [*self.flow.bases(one)]
            others = [a for a in one.bases if self.flow.named(a.value) not in known]
            if not all(_adds_nothing(a.value) or self.names.imported(a.value) & _PLAIN_BASES for a in others):
                return False
            seen += [base for base in known if base not in seen]
        return True

    @cached_property
    def _differentiated(self) -> set[Place]:
        """What is asked for its gradient is a tensor, whatever its name."""
        names = (c.func for c in self.flow.calls if isinstance(c.func, cst.Attribute) and not c.args)
        losses = (self.flow.place(func.value) for func in names if func.attr.value in ("backward", "detach", "item"))
        return {place for place in losses if place is not None}


_FIELD = 2
"""Words in the path of an attribute of a name."""

_PLAIN_BASES = {"abc.ABC", "typing.Generic", "typing.Protocol"}

_BUILTINS = {"list", "filter", "sum", "len", "print", "sorted", "chain", "tuple", "iter", "map", "zip", "enumerate"}


def _by_name(name: str) -> Role | None:
    words_ = name.lower().strip("_").split("_")
    if any(w.startswith("optim") or w == "opt" for w in words_) and not {"path", "state", "dict", "name", "args"} & {
        *words_
    }:
        return Role.OPTIMIZER if name.lower() not in ("opt", "opts", "options") else None
    if any(
        w in ("model", "net", "network", "encoder", "decoder", "generator", "discriminator", "critic") for w in words_
    ):
        return Role.MODULE if not {"path", "dir", "name", "file", "args", "state", "dict", "type"} & {*words_} else None
    if any(w in ("criterion", "criteria") for w in words_) or name.lower() in ("loss_fn", "loss_func", "loss_function"):
        return Role.LOSS
    return None


def _adds_nothing(base: cst.BaseExpression) -> bool:
    return isinstance(base, cst.Name) and base.value == "object"


def _gives_parameters(node: cst.CSTNode) -> bool:
    """Whether an expression holds ``X.parameters()`` or a list of parameter groups made of it."""
    from ampify.syntax.walk import walk

    return any(
        isinstance(n, cst.Call)
        and isinstance(n.func, cst.Attribute)
        and n.func.attr.value in ("parameters", "named_parameters")
        for n in walk(node)
    )


def _takes_data(call: cst.Call) -> bool:
    """``X.train(True)`` switches a mode; ``X.train(loader)`` does not."""
    return any(
        not (isinstance(a, cst.Name) and a.value in ("True", "False", "mode", "training")) for a in arguments(call)
    )


def _first(call: cst.Call, name: str) -> cst.BaseExpression | None:
    if (value := keyword(call, name)) is not None:
        return value
    return call.args[0].value if call.args and not call.args[0].keyword else None


def _names_device(node: cst.SimpleString) -> bool:
    value = node.evaluated_value
    return isinstance(value, str) and value.partition(":")[0] in ("cuda", "cpu", "mps", "xpu")


def binds_import(flow: Flow, node: cst.CSTNode) -> bool:
    """Whether ``node`` is a plain chain of names that starts at an import."""
    chain = dotted(node)
    return bool(chain) and any(b.how is Bound.IMPORT for b in flow.names.scope[node].lookup(chain[0]))
