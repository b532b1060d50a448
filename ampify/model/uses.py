"""Where a file names an API of PyTorch or Apex, and how: what rules about APIs read. Knows no rule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath

import libcst as cst

from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.names import Binding, Bound
from ampify.syntax.tree import Tree
from ampify.syntax.walk import dotted, walk

Torch = tuple[int, int]

_PACKAGES = ("torch", "apex")
_DTYPES = re.compile(r"torch\.(float|double|half|bfloat16|float\d+\w*|complex\d+|u?int\d*|long|short|bool)")
_BOOL_CALLS = {"torch.cuda.is_available", "torch.cuda.is_bf16_supported", "torch.backends.mps.is_available",
               "torch.distributed.is_available", "torch.distributed.is_initialized"}  # fmt: skip
_VERSION = re.compile(
    r"^hasattr$|^(Loose)?Version$|(?i:__version__|torch_?(version|((ge|gt|le|lt|greater|less|than|equal)_?)*\d)|parse_version)",
)
_FLAG = re.compile(
    r"_*((use|with|enable|do|is)_?)?((native|torch|cuda)_)?"
    r"(amp|fp16|half|autocast|mixed|mixed_precision|enabled?)(_(enabled|on))?",
    re.I,
)
_RESULTS = {"bool": "BOOL", "isinstance": "BOOL", "issubclass": "BOOL", "hasattr": "BOOL", "any": "BOOL",
            "all": "BOOL", "int": "NUMBER", "float": "NUMBER", "len": "NUMBER", "str": "STRING"}  # fmt: skip


class How(Enum):
    """How a reference is used. A decorator or base class that is called has a ``call`` as well."""

    CALL = "call"
    DECORATOR = "decorator"
    BASE = "base class"
    INSTANCE_CHECK = "isinstance check"
    ANNOTATION = "annotation"
    CONTEXT = "with item"
    OTHER = "other"


class Value(Enum):
    """What an expression provably is."""

    BOOL = "bool"
    NUMBER = "number"
    DTYPE = "dtype"
    STRING = "string"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a call: ``span`` has the keyword and the star in it, ``value`` has not."""

    span: Span
    value: Span
    keyword: str | None
    star: str
    """Empty, ``*`` or ``**``."""
    is_a: Value
    name: str
    """The last name of a plain chain: ``use_amp`` of ``args.use_amp``; empty for other expressions."""
    literal: str | None
    """What a plain string says."""
    node: cst.BaseExpression = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class ApiUse:
    """One reference to an API by its name. ``all`` are the references of the whole file."""

    tree: Tree
    target: Torch | None
    """The oldest torch to support; None: the newest."""
    node: cst.CSTNode
    name: cst.Name
    """The name that the reference begins with."""
    paths: frozenset[str]
    """The import paths it may stand for."""
    how: How
    conditional: bool
    """Whether it depends on the installation what the name stands for."""
    package: bool
    """Whether the file is an ``__init__.py``: what it imports is there for others."""
    all: Sequence[ApiUse] = field(repr=False)

    @property
    def span(self) -> Span:
        return self.tree.span(self.node)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names that are written here after the first."""
        return dotted(self.node)[1:]

    @property
    def call(self) -> Span | None:
        """The whole call, if the reference is called."""
        return self.tree.span(call) if (call := self._call) else None

    @property
    def first_argument_at(self) -> int | None:
        """Where a new first argument goes."""
        if not (call := self._call):
            return None
        if call.args:
            return self.tree.span(call.args[0]).start
        return self.tree.source.text.index("(", self.span.end) + 1

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return tuple(_argument(self.tree, arg) for arg in self._call.args) if self._call else ()

    @property
    def passed_on(self) -> bool:
        """Whether a name that the file has assigned it to is only handed on: the assignment is a reference itself."""
        bindings = self.tree.names.scope[self.name].lookup(self.name.value)
        return self.how is How.OTHER and any(binding.how is Bound.ASSIGN for binding in bindings)

    @property
    def assigned(self) -> bool:
        """Whether the file itself puts something there: ``torch.cuda.amp.autocast = mine``."""
        return isinstance(self.tree.names.parent[self.node], cst.AssignTarget | cst.AnnAssign | cst.Del)

    @property
    def version_switch(self) -> bool:
        """Whether the code asks first what is installed: try/except ImportError, ``hasattr``, a version."""
        return switched(self.tree, self.node)

    @property
    def scripted(self) -> bool:
        """Whether it stands in code that `torch.jit.script` compiles."""
        for parent in self.tree.parents(self.node):
            if isinstance(parent, cst.FunctionDef | cst.ClassDef):
                for decorator in parent.decorators:
                    if "torch.jit.script" in self.tree.names.imported(decorator.decorator):
                        return True
        return False

    def supports(self, since: Torch) -> bool:
        """Whether every torch to support has what came with ``since``."""
        return self.target is None or self.target >= since

    @property
    def _call(self) -> cst.Call | None:
        parent = self.tree.names.parent[self.node]
        return parent if isinstance(parent, cst.Call) and parent.func is self.node else None


def find_uses(tree: Tree, target: Torch | None = None) -> Iterator[ApiUse]:
    """All references to APIs of the packages we know, in source order."""
    found: list[ApiUse] = []
    names = tree.names
    for name in names.parent:
        if type(name) is cst.Name and (node := _reference(tree, name)):
            stars = names.unknown(name.value, node)
            paths = _from_stars(tree, node) if stars else names.imported(node)
            if any(path.partition(".")[0] in _PACKAGES for path in paths):
                conditional = stars or len(paths) > 1 or _conditional(tree, name)
                package = PurePath(tree.path(node) or "").name == "__init__.py"
                found.append(ApiUse(tree, target, node, name, paths, _how(tree, node), conditional, package, found))
    yield from found


def _reference(tree: Tree, name: cst.Name) -> cst.CSTNode | None:
    """The whole chain that begins with ``name``; None where ``name`` is a part of one, a keyword or a definition."""
    parents = tree.names.parent
    match parents[name]:
        case cst.Attribute(attr=part) | cst.Arg(keyword=part) if part is name:
            return None
        case cst.ImportAlias() | cst.AsName() | cst.ImportFrom() | cst.NameItem() | cst.AssignTarget() | cst.Del():
            return None
        case cst.Param(name=part) | cst.FunctionDef(name=part) | cst.ClassDef(name=part) if part is name:
            return None
        case cst.MatchKeywordElement(key=part) if part is name:
            return None
    node: cst.CSTNode = name
    while isinstance(parent := parents[node], cst.Attribute) and parent.value is node:
        node = parent
    return None if isinstance(parent, cst.ImportAlias | cst.ImportFrom) else node


def _from_stars(tree: Tree, node: cst.CSTNode) -> frozenset[str]:
    """What an unknown name may stand for where modules are imported with ``*``."""
    scopes = tree.names.scope[node].chain()
    return frozenset(".".join((module, *dotted(node))) for scope in scopes for module in scope.stars)


def _how(tree: Tree, node: cst.CSTNode) -> How:
    child = node
    for parent in tree.parents(node):
        match parent:
            case cst.Decorator():
                return How.DECORATOR
            case cst.Annotation():
                return How.ANNOTATION
            case cst.WithItem(item=item) if item is child:
                return How.CONTEXT
            case cst.Call(func=func) if func is child and child is node:
                above = tree.names.parent[parent]
                return How.DECORATOR if isinstance(above, cst.Decorator) else How.CALL
            case cst.Call(func=cst.Name(value="isinstance" | "issubclass"), args=[_, second]) if second is child:
                return How.INSTANCE_CHECK
            case cst.ClassDef():
                return How.BASE if isinstance(child, cst.Arg) and child in parent.bases else How.OTHER
            case cst.Arg() | cst.Tuple() | cst.Element() | cst.BinaryOperation() | cst.Subscript():
                child = parent
            case cst.SubscriptElement() | cst.Index():
                child = parent
            case _:
                return How.OTHER
    return How.OTHER


def _conditional(tree: Tree, name: cst.Name) -> bool:
    """Whether the name has several meanings, or is imported where code asks what is installed."""
    bindings = tree.names.scope[name].lookup(name.value)
    if len(bindings) > 1 and not all(b.path and b.path == bindings[0].path for b in bindings):
        return True
    return any(b.how is Bound.IMPORT and (in_try(tree, b.node) or switched(tree, b.node)) for b in bindings)


def in_try(tree: Tree, node: cst.CSTNode) -> bool:
    """Whether ``node`` stands in a ``try`` that catches something, or in what is done then."""
    return any(isinstance(parent, cst.Try) and parent.handlers for parent in tree.parents(node))


def switched(tree: Tree, node: cst.CSTNode) -> bool:
    """Whether code around ``node`` lets what is installed decide if it runs."""
    child = node
    for parent in tree.parents(node):
        match parent:
            case cst.Try() if any(_of_imports(handler) for handler in parent.handlers):
                return True
            case cst.If() | cst.IfExp() if child is not parent.test and _about_versions(tree, parent.test):
                return True
            case cst.IndentedBlock(body=body) if _left_before(tree, body, child):
                return True
        child = parent
    return False


def _left_before(tree: Tree, body: Sequence[cst.CSTNode], last: cst.CSTNode) -> bool:
    """``if version < …: raise`` in a block, before its statement ``last``."""
    for statement in body:
        match statement:
            case _ if statement is last:
                return False
            case cst.If(test=test, body=cst.IndentedBlock() | cst.SimpleStatementSuite() as inner):
                if blocks.leaves(inner) and _about_versions(tree, test):
                    return True
    return False


def _of_imports(handler: cst.ExceptHandler) -> bool:
    kinds = walk(handler.type) if handler.type else ()
    wanted = {"ImportError", "ModuleNotFoundError", "AttributeError", "TypeError"}
    return any(isinstance(node, cst.Name) and node.value in wanted for node in kinds)


def _about_versions(tree: Tree, test: cst.CSTNode, follow: bool = True) -> bool:
    """``hasattr(torch.amp, …)``, ``torch.__version__ >= …``, ``TORCH_2_4``, or a name assigned from such a test."""
    for node in walk(test):
        if isinstance(node, cst.Name):
            if _VERSION.search(node.value):
                return True
            values = [b.value for b in tree.names.scope[node].lookup(node.value) if b.value] if follow else []
            if any(_about_versions(tree, value, follow=False) for value in values):
                return True
    return False


def _argument(tree: Tree, arg: cst.Arg) -> Argument:
    chain = dotted(arg.value)
    return Argument(
        span=Span(tree.span(arg).start, tree.span(arg.value).end),
        value=tree.span(arg.value),
        keyword=arg.keyword.value if arg.keyword else None,
        star=arg.star,
        is_a=value_of(tree, arg.value),
        name=chain[-1] if chain else "",
        literal=_literal(arg.value),
        node=arg.value,
    )


def _literal(node: cst.BaseExpression) -> str | None:
    value = node.evaluated_value if isinstance(node, cst.SimpleString | cst.ConcatenatedString) else None
    return value if isinstance(value, str) else None


def looks_like_a_flag(argument: Argument) -> bool:
    """Whether a value of unknown type is named like a switch of mixed precision: ``args.use_amp``, ``enabled``."""
    return argument.is_a is Value.UNKNOWN and bool(_FLAG.fullmatch(argument.name))


def value_of(tree: Tree, node: cst.BaseExpression, follow: bool = True) -> Value:
    """What ``node`` provably is; a name is looked up once."""
    match node:
        case cst.Integer() | cst.Float():
            return Value.NUMBER
        case cst.SimpleString() | cst.FormattedString() | cst.ConcatenatedString():
            return Value.STRING
        case cst.Comparison() | cst.UnaryOperation(operator=cst.Not()) | cst.Name(value="True" | "False"):
            return Value.BOOL
        case cst.UnaryOperation():
            return _only({value_of(tree, node.expression, follow)} | {Value.NUMBER})
        case cst.BooleanOperation():
            return _only({value_of(tree, side, follow) for side in (node.left, node.right)})
        case cst.BinaryOperation():
            return _only({value_of(tree, side, follow) for side in (node.left, node.right)} | {Value.NUMBER})
        case cst.IfExp():
            return _only({value_of(tree, side, follow) for side in (node.body, node.orelse)})
        case cst.Call():
            return _result(tree, node)
        case cst.Name() | cst.Attribute():
            return _named(tree, node, follow)
    return Value.UNKNOWN


def _only(values: set[Value]) -> Value:
    return values.pop() if len(values) == 1 else Value.UNKNOWN


def _result(tree: Tree, call: cst.Call) -> Value:
    """What a call gives: of a builtin that makes one type, or of a question to torch."""
    if tree.names.imported(call.func) & _BOOL_CALLS:
        return Value.BOOL
    if isinstance(call.func, cst.Name) and not tree.names.scope[call].lookup(call.func.value):
        return Value[_RESULTS.get(call.func.value, "UNKNOWN")]
    return Value.UNKNOWN


def _named(tree: Tree, node: cst.Name | cst.Attribute, follow: bool) -> Value:
    paths = tree.names.imported(node)
    if paths:
        return Value.DTYPE if all(_DTYPES.fullmatch(path) for path in paths) else Value.UNKNOWN
    bindings = tree.names.scope[node].lookup(node.value) if isinstance(node, cst.Name) else []
    return _only({_bound(tree, binding) for binding in bindings}) if follow and bindings else Value.UNKNOWN


def _bound(tree: Tree, binding: Binding) -> Value:
    """What one binding makes of its name: the value assigned, or the type that a parameter is annotated with."""
    match binding.node:
        case cst.Param(annotation=cst.Annotation(annotation=cst.Name(value="bool" | "int" | "float" | "str" as kind))):
            return Value[_RESULTS[kind]]
        case cst.Param(annotation=cst.Annotation(annotation=kind)) if tree.names.imported(kind) == {"torch.dtype"}:
            return Value.DTYPE
    return value_of(tree, binding.value, follow=False) if binding.value else Value.UNKNOWN
