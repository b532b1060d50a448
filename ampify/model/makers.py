"""What makes a module: the constructor calls behind names, wrappers, containers and functions."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from ampify.model import vocabulary as words
from ampify.model.definitions import How
from ampify.model.flow import Flow
from ampify.model.roles import Roles
from ampify.syntax.walk import is_none


class Makers:
    """The makers of the modules of the files at hand."""

    def __init__(self, flow: Flow, roles: Roles) -> None:
        self.flow, self.roles = flow, roles

    def of(self, node: cst.CSTNode, drawn: bool = False) -> Iterator[cst.CSTNode]:
        """The calls that make a module, through names, wrappers, containers and functions, and functions themselves.

        What cannot be seen through is given as it is. With ``drawn`` the modules in a container are what is asked for.
        """
        seen: set[tuple[cst.CSTNode, bool]] = set()
        stack = [(node, drawn)]
        while stack:
            if (item := stack.pop()) in seen or is_none(item[0]):
                continue
            seen.add(item)
            if behind := [*self._behind(*item)]:
                stack += behind
            else:
                named = self.flow.named(item[0])
                yield named if isinstance(named, cst.FunctionDef) else item[0]

    def forwards(self, node: cst.CSTNode) -> Iterator[cst.FunctionDef]:
        """The forward methods of the project that a call of ``node`` runs first, containers of modules opened."""
        seen, stack = set[cst.CSTNode](), [node]
        while stack:
            for maker in self.of(stack.pop(), drawn=True):
                if not isinstance(maker, cst.Call) or maker in seen:
                    continue
                seen.add(maker)
                classes = (self.flow.named(node) for node in (maker.func, *self.of(maker.func)))
                methods = (self.flow.method(cls, "forward") for cls in classes if isinstance(cls, cst.ClassDef))
                yield from (method for method in methods if method is not None)
                if "torch.nn.Sequential" in self.flow.names.imported(maker.func):
                    stack.append(maker)

    def _behind(self, node: cst.CSTNode, drawn: bool) -> Iterator[tuple[cst.CSTNode, bool]]:
        """What a module comes from; of what is ``drawn`` from a container, the elements."""
        match node:
            case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if (
                name in words.SAME_OBJECT and not self.flow.names.imported(node.func)
            ):
                yield inner, drawn
            case cst.Call(func=func, args=args) if paths := self.flow.names.imported(func):
                if paths & words.MODULE_WRAPPERS:
                    yield from ((arg.value, drawn) for arg in args[:1])
                elif paths & {"torch.nn.ModuleList"} or (drawn and paths & {"torch.nn.Sequential"}):
                    yield from ((arg.value, bool(arg.star)) for arg in args)
            case cst.Call(func=func) if isinstance(function := self.flow.named(func), cst.FunctionDef):
                yield from ((r.value, drawn) for r in self.flow.returns(function) if r.value is not None)
            case cst.Name() | cst.Attribute():
                yield from self._kept(node, drawn)
            case cst.Subscript(value=inner):
                yield inner, True
            case _:
                yield from ((part, False) for part in held(node))

    def _kept(self, node: cst.Name | cst.Attribute, drawn: bool) -> Iterator[tuple[cst.CSTNode, bool]]:
        """What a name or attribute was given anywhere."""
        places = (self.roles.instances.attribute(node), self.flow.place(node))
        for d in (d for place in dict.fromkeys(places) if place is not None for d in self.flow.assigned(place)):
            match d.how:
                case How.PARAM:
                    yield from ((value, drawn) for value in self.flow.passed(d))
                case How.ITERATE:
                    yield from ((source, True) for source in self.flow.drawn(d))
                case How.ASSIGN | How.CHANGE if d.value is not None:
                    yield d.value, drawn
                case _:
                    yield d.node, False
        if isinstance(node, cst.Name):
            yield from ((source, True) for source in self.comprehended(node))

    def comprehended(self, name: cst.Name) -> Iterator[cst.BaseExpression]:
        """What the comprehension around a name draws it from."""
        place = self.flow.place(name)
        for parent in self.flow.tree.parents(name):
            if isinstance(parent, cst.BaseComp) and place is not None:
                loop: cst.CompFor | None = parent.for_in
                while loop is not None:
                    yield from self.flow.drawn_by(loop.target, loop.iter, place)
                    loop = loop.inner_for_in


def held(node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """The parts of an expression that its value is one of, or holds."""
    match node:
        case cst.List(elements=elements) | cst.Tuple(elements=elements) | cst.Set(elements=elements):
            yield from (element.value for element in elements)
        case cst.Dict(elements=elements):
            yield from (element.value for element in elements)
        case cst.ListComp(elt=part) | cst.GeneratorExp(elt=part) | cst.SetComp(elt=part) | cst.DictComp(value=part):
            yield part
        case cst.NamedExpr(value=part) | cst.UnaryOperation(expression=part):
            yield part
        case cst.BooleanOperation(left=left, right=right) | cst.IfExp(body=left, orelse=right):
            yield from (left, right)
