"""The options of a script's command line: who declares them, where their values are kept, and who reads them.

Known are argparse, click, and classes of fields (tyro, or an instance made by hand).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import How, Place
from ampify.model.flow import Flow, params
from ampify.syntax import blocks
from ampify.syntax.walk import keyword, walk

_GROUPS = ("add_argument_group", "add_mutually_exclusive_group")
_PARSES = ("parse_args", "parse_known_args")


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """One option: ``--use-amp`` has the name ``use_amp``."""

    node: cst.CSTNode
    """What declares it."""
    name: str
    spelled: str
    source: cst.CSTNode
    """The parser, class or function that it belongs to."""
    truth: bool
    """It says yes or no."""
    is_bool: bool
    """It is never None."""


class Options:
    """The options of one file."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.tree = flow, flow.tree
        self._known: dict[Place | cst.FunctionDef, cst.CSTNode | None] = {}

    # ------------------------------------------------------------------ what there is

    @cached_property
    def all(self) -> tuple[Option, ...]:
        return (*self._argparse(), *self._fields(), *self._click())

    def _argparse(self) -> Iterator[Option]:
        for call in self.flow.calls:
            match call.func:
                case cst.Attribute(value=receiver, attr=cst.Name(value="add_argument")):
                    if (parser := self._parser(receiver)) is not None and (spelled := _longest(call)):
                        dest = keyword(call, "dest")
                        name = spelled if dest is None else _string(dest)
                        yield Option(call, _attribute(name), spelled, parser, *_kind(self.flow, call))

    def _fields(self) -> Iterator[Option]:
        for cls in self.flow.classes:
            for statement in _simple(cls.body):
                match statement:
                    case cst.AnnAssign(target=cst.Name(value=name), annotation=cst.Annotation(cst.Name("bool"))):
                        certain = statement.value is not None
                        yield Option(statement, name, name, cls, truth=True, is_bool=certain)

    def _click(self) -> Iterator[Option]:
        for function in self.flow.functions:
            for decorator in function.decorators if isinstance(function, cst.FunctionDef) else ():
                match decorator.decorator:
                    case cst.Call(func=func) as call if "click.option" in self.flow.names.imported(func):
                        spelled = _longest(call).partition("/")[0]
                        flagged = _is(keyword(call, "is_flag"), "True") or "/" in _longest(call)
                        yield Option(call, _attribute(spelled), spelled, function, flagged, flagged)

    # ------------------------------------------------------------------ where they are kept

    def source(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The parser or class whose options are the attributes of ``node``."""
        match self._made(node):
            case cst.Call(func=cst.Attribute(value=parser, attr=cst.Name(value=name))) if name in _PARSES:
                return self._parser(parser)
            case cst.Call(func=func, args=[cst.Arg(value=cls), *_]) if "tyro.cli" in self.flow.names.imported(func):
                return self.flow.named(cls)
            case cst.Call(func=func):
                return made if isinstance(made := self.flow.named(func), cst.ClassDef) else None
        return None

    def _parser(self, node: cst.CSTNode) -> cst.Call | None:
        match self._made(node):
            case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in _GROUPS:
                return self._parser(inner)
            case cst.Call(func=func) as call if "argparse.ArgumentParser" in self.flow.names.imported(func):
                return call
        return None

    def _made(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The one expression that makes what ``node`` is, through names, parameters and results of this file."""
        match node:
            case cst.Name() | cst.Attribute():
                place = self.flow.place(node)
                return self._at(place) if place is not None else None
            case cst.Call(func=func) if not isinstance(self.flow.named(func), cst.ClassDef):
                function = self.flow.callee(node)
                if function is not None:
                    return self._once(function, (r.value for r in self.flow.returns(function)))
        return node

    def _at(self, place: Place) -> cst.CSTNode | None:
        return self._once(place, self._values(place))

    def _once(self, key: Place | cst.FunctionDef, values: Iterable[cst.BaseExpression | None]) -> cst.CSTNode | None:
        """The one expression that makes all of the values; none makes what is made of itself."""
        if key not in self._known:
            self._known[key] = None
            found = {self._made(value) if value is not None else None for value in values}
            self._known[key] = found.pop() if len(found) == 1 else None
        return self._known[key]

    def _values(self, place: Place) -> Iterator[cst.BaseExpression | None]:
        for d in self.flow.assigned(place):
            if d.how is How.PARAM:
                yield from self.flow.passed(d)
            else:
                yield d.value if d.how is How.ASSIGN or self._is_first(d.node, place) else None

    def _is_first(self, node: cst.CSTNode, place: Place) -> bool:
        """``args, rest = parser.parse_known_args()``"""
        match node:
            case cst.Assign(targets=[cst.AssignTarget(target=cst.Tuple(elements=[first, *_]))], value=cst.Call()):
                return self.flow.place(first.value) == place
        return False

    @cached_property
    def _namespaces(self) -> dict[Place, cst.CSTNode]:
        """Where the options of a source are kept as attributes."""
        sources = {o.source for o in self.all}
        places = dict.fromkeys(d.place for found in self.flow.definitions.values() for d in found if sources)
        made = ((place, self._of_place(place)) for place in places)
        return {place: source for place, source in made if source in sources}

    def _of_place(self, place: Place) -> cst.CSTNode | None:
        made = self._at(place)
        return self.source(made) if made is not None else None

    def places(self, source: cst.CSTNode) -> list[Place]:
        return [place for place, own in self._namespaces.items() if own is source]

    def kept(self, option: Option) -> Iterator[Place]:
        """Where the value of an option can be read."""
        if isinstance(option.source, cst.FunctionDef):
            names = (p.name for p in params(option.source) if p.name.value == option.name)
            yield from (place for name in names if (place := self.flow.place(name)) is not None)
        for place in self.places(option.source):
            yield Place(place.root, (*place.path, option.name))

    def given(self, node: cst.CSTNode) -> Option | None:
        """The option that ``node`` reads."""
        match node:
            case cst.Attribute(value=base, attr=cst.Name(value=name)) if (source := self.source(base)) is not None:
                return next((o for o in self.all if o.source is source and o.name == name), None)
        return None

    # ------------------------------------------------------------------ who reads them

    def written(self, name: str) -> list[cst.CSTNode]:
        """The targets that are attributes called ``name``, of whatever object."""
        nodes = (n for n in self._nodes if isinstance(n, cst.Attribute) and n.attr.value == name)
        return [n for n in nodes if isinstance(self.flow.names.parent[n], cst.AssignTarget | cst.AugAssign)]

    def readers(self, option: Option) -> list[cst.CSTNode]:
        """Where code of this file does anything with an option but report it."""
        own = {id(n) for n in walk(option.node)}
        said = (n for n in self._nodes if self._says(n, option) and id(n) not in own)
        return [n for n in said if not self._reported(n)]

    def _says(self, node: cst.CSTNode, option: Option) -> bool:
        match node:
            case cst.Attribute(attr=cst.Name(value=name)):
                return name == option.name
            case cst.SimpleString():
                return node.evaluated_value == option.name
            case cst.Name(value=name) if isinstance(option.source, cst.FunctionDef) and name == option.name:
                return self.flow.place(node) in {*self.kept(option)} and not isinstance(
                    self.flow.names.parent[node], cst.Param
                )
        return False

    def doubt(self, option: Option) -> str | None:
        """Who is given all the options of this file and may read one out of sight."""
        places = {*self.places(option.source)}
        for node in self._nodes:
            kept = isinstance(node, cst.Name | cst.Attribute) and self.flow.place(node) in places
            if kept and not self._followed(node) and not self._reported(node):
                return self.tree.text(blocks.small_statement_of(self.tree, node)).partition("\n")[0]
        return None

    def _followed(self, node: cst.CSTNode) -> bool:
        """Whether it is in sight what becomes of a set of options here: read, kept or handed on in this file."""
        parent = self.flow.names.parent[node]
        match parent:
            case cst.Attribute(value=value, attr=attr) if node is value:
                return not attr.value.startswith("_")
            case cst.Attribute() | cst.AssignTarget() | cst.AnnAssign() | cst.Param() | cst.Return() | cst.Global():
                return True
            case cst.NameItem() | cst.Assign() | cst.Element():
                return True
            case cst.Arg(keyword=word) if word is node:
                return True
            case cst.Arg() if isinstance(call := self.flow.names.parent[parent], cst.Call):
                return self.flow.callee(call) is not None
        return False

    def _reported(self, node: cst.CSTNode) -> bool:
        """Whether a value is only printed or logged."""
        statement = blocks.small_statement_of(self.tree, node)
        around = [n for n in self.tree.parents(node) if isinstance(n, cst.Call) and self.tree.contains(statement, n)]
        if any(self._reports(call) for call in around):
            return True
        match statement:
            case cst.For(body=body):
                inner = [*_simple(body)]
                plain = len(inner) == len(body.body)
                return plain and all(isinstance(s, cst.Expr) and self._reports(s.value) for s in inner)
        return False

    def _reports(self, call: cst.CSTNode) -> bool:
        match call:
            case cst.Call(func=cst.Name(value="print")):
                return True
            case cst.Call(func=func) if any(p.startswith(words.REPORTS) for p in self.flow.names.imported(func)):
                return True
            case cst.Call(func=cst.Attribute(attr=cst.Name(value=name)) as func):
                return name in words.REPORT_METHODS and self.flow.callee(call) is None
        return False

    @cached_property
    def _nodes(self) -> list[cst.CSTNode]:
        return [*self.tree.nodes()]


def _simple(block: cst.BaseSuite) -> Iterator[cst.BaseSmallStatement]:
    """The simple statements of a block, each on a line of its own."""
    lines = (line for line in block.body if isinstance(line, cst.SimpleStatementLine))
    yield from (line.body[0] for line in lines if len(line.body) == 1)


def _string(node: cst.CSTNode | None) -> str:
    return str(node.evaluated_value) if isinstance(node, cst.SimpleString) else ""


def _longest(call: cst.Call) -> str:
    """The first long spelling of an option, which its name comes from."""
    spelled = [text for a in call.args if a.keyword is None and (text := _string(a.value)).startswith("-")]
    return next((text for text in spelled if text.startswith("--")), spelled[0] if spelled else "")


def _attribute(spelled: str) -> str:
    return spelled.lstrip("-").replace("-", "_")


def _is(node: cst.CSTNode | None, name: str) -> bool:
    return isinstance(node, cst.Name) and node.value == name


def _kind(flow: Flow, call: cst.Call) -> tuple[bool, bool]:
    """Whether an argument says yes or no, and whether it always does."""
    action, default = keyword(call, "action"), keyword(call, "default")
    stores = _string(action) in ("store_true", "store_false")
    optional = action is not None and "argparse.BooleanOptionalAction" in flow.names.imported(action)
    typed = _is(keyword(call, "type"), "bool")
    certain = _is(default, "True") or _is(default, "False") or (stores and default is None)
    return stores or optional or typed, certain
