"""What a file already does with AMP: which of its expressions are gradient scalers and which are autocast contexts.

By binding and by flow through the calls of the file, never by spelling alone: sklearn's ``scaler`` is not a GradScaler.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

import libcst as cst

from ampify.syntax.blocks import class_of, function_of, method_class
from ampify.syntax.names import Bound
from ampify.syntax.tree import Tree
from ampify.syntax.walk import dotted, is_none, walk

_SCALERS = ("GradScaler", "ShardedGradScaler")
_NEUTRAL = {"contextlib.nullcontext", "contextlib.suppress"}
_PARTIAL = {"functools.partial"}
_PREPARES = (".custom_fwd", ".custom_bwd")
"""What makes a function ready for autocast, and enters none."""

Place = tuple[object, str]
"""Where a value can be kept: a scope and a name, a class and an attribute, a function and its result."""


class Kind(Enum):
    SCALER = auto()
    AUTOCAST = auto()


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """``value`` gets to ``place``; None: something unknown does. ``passed``: as the argument of a call."""

    place: Place
    value: cst.BaseExpression | None
    passed: bool = False


class AmpFacts:
    """Scalers and autocast contexts of one file; ``assumed`` names parameters that are known to carry a scaler."""

    def __init__(self, tree: Tree, assumed: frozenset[str] = frozenset()) -> None:
        self.tree = tree
        self.nodes = [*tree.nodes()]
        self._named: dict[str, dict[cst.FunctionDef, cst.ClassDef | None]] = defaultdict(dict)
        for function in tree.all(cst.FunctionDef):
            self._named[function.name.value][function] = method_class(tree, function)
        self._calls = tree.all(cst.Call)
        self._kinds: dict[Place, Kind] = {}
        if self._concerned or assumed:
            self._solve(assumed)

    # -- questions ------------------------------------------------------------------------------------------------

    def is_scaler(self, expr: cst.CSTNode) -> bool:
        match expr:
            case cst.Name() | cst.Attribute():
                return self._kind(expr) is Kind.SCALER
            case cst.Call():
                return self.is_scaler_call(expr) or self._returned(expr) is Kind.SCALER
            case cst.IfExp(body=one, orelse=other) | cst.BooleanOperation(left=one, right=other):
                found = [self.is_scaler(part) for part in (one, other)]
                return any(found) and all(ok or is_none(part) for ok, part in zip(found, (one, other), strict=True))
            case cst.NamedExpr(value=value):
                return self.is_scaler(value)
        return False

    def is_autocast(self, expr: cst.CSTNode) -> bool:
        match expr:
            case cst.Name() | cst.Attribute():
                return self._kind(expr) is Kind.AUTOCAST
            case cst.Call():
                return self.makes_autocast(expr.func) or self._returned(expr) is Kind.AUTOCAST
            case cst.IfExp(body=one, orelse=other):
                return self._all_autocast((one, other))
        return False

    def is_scaler_call(self, expr: cst.CSTNode) -> bool:
        """Whether ``expr`` constructs a scaler."""
        return isinstance(expr, cst.Call) and any(_is_scaler_path(p) for p in self.paths(expr.func))

    def paths(self, node: cst.CSTNode) -> frozenset[str]:
        """The import paths that ``node`` may stand for, star imports included."""
        if found := self.tree.names.imported(node):
            return found
        root, *rest = dotted(node) or ("",)
        if not root or not self.tree.names.unknown(root, node):
            return frozenset()
        stars = [star for scope in self.tree.names.scope[node].chain() for star in scope.stars]
        whole = {".".join((root, *rest))} if root == "torch" else set()  # `from common import *` often brings torch
        return frozenset(".".join((star, root, *rest)) for star in stars) | whole

    def place(self, expr: cst.CSTNode) -> Place | None:
        """Where the value of a name or attribute is kept."""
        names = self.tree.names
        match expr:
            case cst.Name(value=name):
                return names.scope[expr].find(name) or names.scope[expr].top, name
            case cst.Attribute(value=cst.Name() as root, attr=cst.Name(value=name)) if self._is_own(root):
                owner = class_of(self.tree, expr)
                return (self._family(owner) if owner else names.scope[expr].top), name
            case cst.Attribute() if chain := dotted(expr):
                return names.scope[expr].find(chain[0]) or names.scope[expr].top, ".".join(chain)
        return None

    def _is_own(self, name: cst.CSTNode) -> bool:
        """Whether an expression is the name of the instance, or of the class, in a method."""
        if not isinstance(name, cst.Name):
            return False
        if name.value in ("self", "cls"):
            return True
        called = self._called_otherwise
        scope = self.tree.names.scope[name].find(name.value) if called else None
        return scope is not None and called.get(scope.node) == name.value

    @cached_property
    def _called_otherwise(self) -> dict[cst.CSTNode, str]:
        """Methods that do not call the instance ``self``, each with what it does call it."""
        found = dict[cst.CSTNode, str]()
        for function in self.tree.all(cst.FunctionDef):
            first = next(iter((*function.params.posonly_params, *function.params.params)), None)
            static = any(dotted(each.decorator) == ("staticmethod",) for each in function.decorators)
            if first and first.name.value != "self" and not static and method_class(self.tree, function):
                found[function] = first.name.value
        return found

    def title(self, param: cst.Param) -> str:
        """The name of a parameter with those of the function and the classes around it."""
        around = (p.name.value for p in self.tree.parents(param) if isinstance(p, cst.FunctionDef | cst.ClassDef))
        return ".".join((*reversed([*around]), param.name.value))

    @cached_property
    def parameters(self) -> list[cst.Param]:
        """The parameters of functions that are scalers."""
        params = self.tree.all(cst.Param)
        return [p for p in params if isinstance(self._owner(p), cst.FunctionDef) and self.is_scaler(p.name)]

    def arriving(self, expr: cst.CSTNode) -> list[cst.BaseExpression | None]:
        """The values that can be in a name or attribute; None stands for one that cannot be seen."""
        place = self.place(expr)
        return [flow.value for flow in self._flows.get(place, ())] if place else []

    def is_amp_import(self, node: cst.Import | cst.ImportFrom, alias: cst.ImportAlias) -> bool:
        """Whether ``alias`` imports a name of torch's AMP, and binds nothing else."""
        if isinstance(node, cst.Import):
            return alias.asname is not None and _is_torch_amp(alias.evaluated_name)
        return _is_torch_amp(f"{'.'.join(dotted(node.module) if node.module else ())}.{alias.evaluated_name}")

    @cached_property
    def scalers(self) -> list[cst.Assign | cst.AnnAssign]:
        """The assignments that construct a scaler."""
        assigns = (n for n in self.nodes if isinstance(n, cst.Assign | cst.AnnAssign))
        return [
            n for n in assigns if n.value and any(map(self.is_scaler_call, walk(n.value))) and self.is_scaler(n.value)
        ]

    @cached_property
    def regions(self) -> list[cst.With | cst.Decorator]:
        """``with`` statements that enter autocast, and decorators that do."""
        found = (n for kind in (cst.With, cst.Decorator) for n in self.tree.all(kind) if self._is_region(n))
        return sorted(found, key=lambda n: self.tree.span(n).start)  # type: ignore[arg-type]

    @cached_property
    def touched(self) -> bool:
        """Whether there is any AMP in this file at all, Apex included."""
        return bool(self._kinds) or bool(self.modules)

    @cached_property
    def modules(self) -> set[cst.Module]:
        """The files that name something of AMP, or enter autocast."""
        named = (node for node, path in self._mentioned() if _is_amp_path(path))
        return {self.tree.module(node) for node in (*named, *self.regions)}

    @cached_property
    def used(self) -> set[cst.Module]:
        """The files that do something with AMP: they do more than import it, or make functions ready for it."""
        chains: list[cst.Name | cst.Attribute] = [*self.tree.all(cst.Name), *self.tree.all(cst.Attribute)]
        return {self.tree.module(node) for node in (*filter(self._is_use, chains), *self.regions)}

    @cached_property
    def erasable(self) -> bool:
        """Whether there is AMP to take out, be it only what is treated as a scaler and made elsewhere."""
        return bool(self.used) or Kind.SCALER in self._kinds.values()

    # -- where values flow ----------------------------------------------------------------------------------------

    def _is_use(self, chain: cst.Name | cst.Attribute) -> bool:
        if self.tree.module(chain) not in self.modules or isinstance(self.tree.names.parent[chain], cst.Attribute):
            return False
        mixing = (path for path in self.paths(chain) if _is_amp_path(path) and not path.endswith(_PREPARES))
        return any(mixing) and not any(isinstance(p, cst.Import | cst.ImportFrom) for p in self.tree.parents(chain))

    def _is_region(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.With():
                return any(self.is_autocast(item.item) for item in node.items)
            case cst.Decorator(decorator=cst.Call() as call):
                return self.makes_autocast(call.func)
        return False

    @cached_property
    def _concerned(self) -> bool:
        """Cheap: most files have nothing to do with AMP."""
        return any(word in self.tree.source.text for word in ("autocast", "GradScaler", ".scale(", ".update()"))

    def _mentioned(self) -> Iterator[tuple[cst.CSTNode, str]]:
        for node in self.tree.all(cst.ImportFrom):
            base = "." * len(node.relative) + ".".join(dotted(node.module) if node.module else ())
            names = () if isinstance(node.names, cst.ImportStar) else node.names
            yield from ((node, path) for path in (base, *(f"{base}.{alias.evaluated_name}" for alias in names)))
        for plain in self.tree.all(cst.Import):
            yield from ((plain, alias.evaluated_name) for alias in plain.names)
        for attribute in self.tree.all(cst.Attribute):
            yield from ((attribute, path) for path in self.paths(attribute))

    def _kind(self, expr: cst.CSTNode) -> Kind | None:
        if not self._kinds:
            return None
        place = self.place(expr)
        if place in self._kinds:
            return self._kinds[place]
        if isinstance(expr, cst.Attribute) and not self._is_own(expr.value):  # `trainer.scaler`, of some class here
            kinds = {self._kinds.get((family, expr.attr.value)) for family in self._families} - {None}
            return kinds.pop() if len(kinds) == 1 else None
        return None

    @cached_property
    def _families(self) -> set[cst.ClassDef]:
        return {self._family(owner) for owner in self.tree.all(cst.ClassDef)}

    def _returned(self, call: cst.Call) -> Kind | None:
        kinds = {self._kinds.get((function, "return")) for function in self.callees(call)}
        return kinds.pop() if len(kinds) == 1 else None

    def makes_autocast(self, maker: cst.CSTNode) -> bool:
        """Whether calling ``maker`` enters autocast, or at most does nothing (``suppress`` when AMP is off)."""
        paths = self.paths(maker)
        if any(map(_is_autocast_path, paths)) and all(_is_autocast_path(p) or p in _NEUTRAL for p in paths):
            return True
        bindings = self.tree.names.scope[maker].lookup(maker.value) if isinstance(maker, cst.Name) else []
        values = [value for b in bindings for value in _choices(b.value)]
        return any(map(self._is_maker, values)) and all(self._is_maker(v) or self._makes_nothing(v) for v in values)

    def maker_paths(self, maker: cst.CSTNode) -> frozenset[str]:
        """The import paths of autocast that ``maker`` may stand for, through the names it is given and choices."""
        bindings = self.tree.names.scope[maker].lookup(maker.value) if isinstance(maker, cst.Name) else []
        named = [v for b in bindings for v in _choices(b.value) if isinstance(v, cst.Name | cst.Attribute)]
        found = self.paths(maker).union(*map(self.paths, named))
        return frozenset(filter(_is_autocast_path, found))

    def _is_maker(self, value: cst.CSTNode | None) -> bool:
        match value:
            case cst.Call(func=func, args=[cst.Arg(value=made), *_]) if self.paths(func) & _PARTIAL:
                return any(map(_is_autocast_path, self.paths(made)))
            case cst.Name() | cst.Attribute():
                return any(map(_is_autocast_path, self.paths(value)))
        return False

    def _all_autocast(self, values: tuple[cst.CSTNode | None, ...]) -> bool:
        casts = [v is not None and self.is_autocast(v) for v in values]
        return any(casts) and all(c or self.is_neutral(v) for c, v in zip(casts, values, strict=True))

    def is_neutral(self, value: cst.CSTNode | None) -> bool:
        return isinstance(value, cst.Call) and self._makes_nothing(value.func)

    def _makes_nothing(self, maker: cst.CSTNode | None) -> bool:
        """Whether calling ``maker`` gives a context that does nothing: one of Python's, or one written by hand."""
        if maker is None or self.paths(maker) & _NEUTRAL:
            return maker is not None
        bindings = self.tree.names.scope[maker].lookup(maker.value) if isinstance(maker, cst.Name) else []
        return bool(bindings) and all(self._only_yields(b.node) for b in bindings)

    def _only_yields(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.FunctionDef(
                decorators=[cst.Decorator(decorator=made)],
                body=cst.IndentedBlock(body=[cst.SimpleStatementLine(body=[cst.Expr(value=cst.Yield())])]),
            ):
                return "contextlib.contextmanager" in self.paths(made)
        return False

    def _solve(self, assumed: frozenset[str]) -> None:
        at = self._flows
        self._kinds.update(dict.fromkeys(self._declared(assumed), Kind.SCALER))
        self._kinds.update(dict.fromkeys(self._used_as_scaler(at), Kind.SCALER))
        known = -1
        while known != len(self._kinds):
            known = len(self._kinds)
            for place, arriving in at.items():
                if place not in self._kinds and (kind := self._arrives(arriving)):
                    self._kinds[place] = kind
            self._flow_back(at)

    def _arrives(self, flows: list[Flow]) -> Kind | None:
        if any(f.value is not None and self.is_scaler(f.value) for f in flows):
            return Kind.SCALER
        return Kind.AUTOCAST if self._all_autocast(tuple(f.value for f in flows)) else None

    def _flow_back(self, at: dict[Place, list[Flow]]) -> None:
        """What is passed for a parameter that is a scaler is one, even where its origin cannot be seen."""
        for flow in (f for place, flows in at.items() if self._kinds.get(place) is Kind.SCALER for f in flows):
            known = flow.passed and flow.value is not None and not is_none(flow.value)
            if known and flow.value is not None and (place := self.place(flow.value)) is not None:
                self._kinds.setdefault(place, Kind.SCALER)

    def _assignments(self) -> Iterator[Flow]:
        for node in self.nodes:
            match node:
                case cst.Assign():
                    for target in node.targets:
                        yield from self._pairs(target.target, node.value)
                case cst.AnnAssign() | cst.NamedExpr() if node.value is not None:
                    yield from self._pairs(node.target, node.value)
                case cst.For() | cst.CompFor():
                    yield from self._pairs(node.target, None)
                case cst.AsName(name=cst.Name() | cst.Tuple() as name):
                    yield from self._pairs(name, None)
                case cst.Param(default=cst.BaseExpression() as default):
                    if function := self._owner(node):
                        yield Flow((self.tree.names.inner[function], node.name.value), default)

    def _pairs(self, target: cst.CSTNode, value: cst.BaseExpression | None) -> Iterator[Flow]:
        match target, value:
            case ((cst.Tuple() | cst.List()), (cst.Tuple() | cst.List())) if _matching(target, value):
                for left, right in zip(target.elements, value.elements, strict=True):
                    yield from self._pairs(left.value, right.value)
            case ((cst.Tuple() | cst.List()), _):
                for element in target.elements:
                    yield from self._pairs(element.value, None)
            case ((cst.Name() | cst.Attribute()), _) if place := self.place(target):
                yield Flow(place, value)

    def _returns(self) -> Iterator[Flow]:
        for node in self.tree.all(cst.Return):
            if isinstance(function := function_of(self.tree, node), cst.FunctionDef):
                yield Flow((function, "return"), node.value)

    def _arguments(self) -> Iterator[Flow]:
        for arg, param in self.passed.items():
            function = next(p for p in self.tree.parents(param) if isinstance(p, cst.FunctionDef))
            yield Flow((self.tree.names.inner[function], param.name.value), arg.value, passed=True)

    @cached_property
    def passed(self) -> dict[cst.Arg, cst.Param]:
        """Arguments, each with the parameter of this file that receives it."""
        calls = ((call, function) for call in self._calls for function in self.callees(call))
        return {arg: param for call, function in calls for arg, param in self._received(call, function)}

    @cached_property
    def _flows(self) -> dict[Place, list[Flow]]:
        at: dict[Place, list[Flow]] = defaultdict(list)
        for flow in (*self._assignments(), *self._returns(), *self._arguments()):
            at[flow.place].append(flow)
        return at

    def _declared(self, assumed: frozenset[str]) -> Iterator[Place]:
        """Parameters and variables annotated as a scaler, and those that the caller knows to be one."""
        for node in self.nodes:
            match node:
                case cst.Param():
                    known = {node.name.value, self.title(node)} & assumed
                    if (function := self._owner(node)) and (known or self._says_scaler(node.annotation)):
                        yield self.tree.names.inner[function], node.name.value
                case cst.AnnAssign():
                    if self._says_scaler(node.annotation) and (place := self.place(node.target)):
                        yield place

    def _says_scaler(self, annotation: cst.Annotation | None) -> bool:
        if annotation is None:
            return False
        return any(_is_scaler_path(path) for node in walk(annotation) for path in self.paths(node))

    def _owner(self, param: cst.CSTNode) -> cst.CSTNode | None:
        """The function that a parameter belongs to; None for a lambda's."""
        return next((p for p in self.tree.parents(param) if isinstance(p, cst.FunctionDef | cst.Lambda)), None)

    # -- the last resort: how a name is used ------------------------------------------------------------------------

    def _used_as_scaler(self, at: dict[Place, list[Flow]]) -> Iterator[Place]:
        """Places with ``X.scale(…).backward()``, or with ``X.step(optimizer)`` and ``X.update()``."""
        steps: set[Place] = set()
        updates: set[Place] = set()
        for call in self._calls:
            match call.func:
                case cst.Attribute(value=cst.Call(func=cst.Attribute(value=owner, attr=cst.Name("scale"))),
                                   attr=cst.Name("backward")) if place := self.place(owner):  # fmt: skip
                    yield place
                case cst.Attribute(value=owner, attr=cst.Name("step")) if place := self.place(owner):
                    steps |= {place} if call.args and self._looks_like_optimizer(call.args[0].value) else set()
                case cst.Attribute(value=owner, attr=cst.Name("update")) if place := self.place(owner):
                    updates |= set() if call.args else {place}
        yield from (place for place in steps & updates if not self._made_otherwise(at[place]))

    def _looks_like_optimizer(self, expr: cst.CSTNode) -> bool:
        chain = dotted(expr)
        if not chain:
            return False
        bound = self.tree.names.scope[expr].lookup(chain[0]) if len(chain) == 1 else []
        made = [b.value.func for b in bound if isinstance(b.value, cst.Call)]
        return "opt" in chain[-1].lower() or any(p.startswith("torch.optim.") for f in made for p in self.paths(f))

    def _made_otherwise(self, flows: list[Flow]) -> bool:
        """Whether something known not to be a scaler gets there: a call of what is imported, or is a class here."""
        calls = [f.value for f in flows if isinstance(f.value, cst.Call)]
        return any(not self.is_scaler_call(c) and (self.paths(c.func) or [*self.callees(c)]) for c in calls)

    # -- who is called ------------------------------------------------------------------------------------------------

    def callees(self, call: cst.Call) -> Iterator[cst.FunctionDef]:
        """The functions at hand that a call may reach."""
        bindings = self.tree.names.bindings(call.func)
        match call.func:
            case cst.Name() | cst.Attribute() if bindings:
                for binding in bindings:
                    if binding.how is Bound.FUNCTION and isinstance(binding.node, cst.FunctionDef):
                        yield binding.node
                    elif binding.how is Bound.CLASS and isinstance(binding.node, cst.ClassDef):
                        yield from self._methods("__init__", binding.node)
            case cst.Attribute(value=root, attr=cst.Name(value=name)) if self._is_own(root) or _is_super(root):
                if owner := class_of(self.tree, call):
                    yield from self._methods(name, owner)
            case cst.Attribute(attr=cst.Name(value=name)):
                owners = {*self._named[name].values()} - {None}
                if len(owners) == 1 and not self.paths(call.func) and (owner := owners.pop()):
                    yield from self._methods(name, owner)

    def _methods(self, name: str, owner: cst.ClassDef) -> Iterator[cst.FunctionDef]:
        """The method of a class, or else those of the classes that it shares a base with."""
        homes = self._named[name]
        if owner in homes.values():
            yield from (function for function, home in homes.items() if home is owner)
        else:
            family = self._family(owner)
            yield from (function for function, home in homes.items() if home and self._family(home) is family)

    def _family(self, owner: cst.ClassDef) -> cst.ClassDef:
        """The topmost base class at hand: what a class and its subclasses share attributes under."""
        seen = {owner}
        while (base := self._base(owner)) and base not in seen:
            seen.add(owner := base)
        return owner

    def _base(self, owner: cst.ClassDef) -> cst.ClassDef | None:
        bindings = (binding for arg in owner.bases for binding in self.tree.names.bindings(arg.value))
        return next((b.node for b in bindings if isinstance(b.node, cst.ClassDef)), None)

    def _received(self, call: cst.Call, function: cst.FunctionDef) -> Iterator[tuple[cst.Arg, cst.Param]]:
        """The arguments of a call with the parameters that they are for."""
        static = any(dotted(d.decorator) == ("staticmethod",) for d in function.decorators)
        bound = method_class(self.tree, function) is not None and not static
        params = [*function.params.posonly_params, *function.params.params][bound:]
        named = {p.name.value: p for p in (*params, *function.params.kwonly_params)}
        for index, arg in enumerate(call.args):
            if arg.star:
                return
            if arg.keyword is None and index < len(params):
                yield arg, params[index]
            elif arg.keyword is not None and arg.keyword.value in named:
                yield arg, named[arg.keyword.value]


def _matching(target: cst.Tuple | cst.List, value: cst.Tuple | cst.List) -> bool:
    starred = any(isinstance(e, cst.StarredElement) for e in (*target.elements, *value.elements))
    return not starred and len(target.elements) == len(value.elements)


def _is_super(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "super"


def _choices(value: cst.BaseExpression | None) -> Iterator[cst.BaseExpression | None]:
    """What an expression may give: both ends of ``a if test else b``."""
    match value:
        case cst.IfExp(body=one, orelse=other):
            yield from (*_choices(one), *_choices(other))
        case _:
            yield value


def _is_scaler_path(path: str) -> bool:
    return path.startswith("torch.") and path.rpartition(".")[2] in _SCALERS


def _is_autocast_path(path: str) -> bool:
    return path.startswith("torch.") and path.endswith(".autocast")


def _is_torch_amp(path: str) -> bool:
    parts = path.split(".")
    return _is_scaler_path(path) or _is_autocast_path(path) or (parts[0] == "torch" and "amp" in parts)


def _is_amp_path(path: str) -> bool:
    parts = path.split(".")
    return parts[:2] == ["apex", "amp"] or _is_torch_amp(path)
