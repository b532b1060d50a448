"""Other texts of the same program: names, imports, formatting and functions are the author's choice.

What a name stands for is told by LibCST's own scopes, which ampify does not use.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import libcst as cst
from libcst.metadata import Access, Assignment, ClassScope, ImportAssignment, MetadataWrapper, Scope, ScopeProvider

UNREADABLE = frozenset({"locals", "globals", "vars", "eval", "exec", "dir"})
"""Builtins to which a name is a string."""
FORMATS = (
    ("line-length=40", "format.quote-style='single'"),
    ("line-length=200", "format.quote-style='double'", "format.skip-magic-trailing-comma=true"),
    ("line-length=73", "format.indent-style='tab'", "format.quote-style='preserve'"),
)
"""Settings of ruff."""


# ---------------------------------------------------------------------- names


class _Renamer(cst.CSTTransformer):
    """Gives other names to nodes, known by identity, and puts other nodes for import statements."""

    def __init__(self, names: dict[cst.CSTNode, str], imports: dict[cst.CSTNode, cst.BaseSmallStatement]) -> None:
        self.names, self.imports = names, imports

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode) -> Any:
        if (name := self.names.get(original_node)) is not None:
            return updated_node.with_changes(value=name)
        return self.imports.get(original_node, updated_node)


@dataclass
class _Fixed(cst.CSTVisitor):
    """Names that are told apart by more than their scope: of keyword arguments, patterns, declarations, `{name=}`."""

    names: set[str] = field(default_factory=set)

    def on_visit(self, node: cst.CSTNode) -> bool:
        match node:
            case (
                cst.Arg(keyword=cst.Name(value=name))
                | cst.NameItem(name=cst.Name(value=name))
                | cst.MatchAs(name=cst.Name(value=name))
                | cst.MatchStar(name=cst.Name(value=name))
                | cst.MatchMapping(rest=cst.Name(value=name))
                | cst.FormattedStringExpression(expression=cst.Name(value=name), equal=cst.AssignEqual())
            ):
                self.names.add(name)
        return True


@dataclass(frozen=True)
class Renamed:
    """A text in which names have changed, and what each new name was."""

    text: str
    old: dict[str, str]


def renamed(text: str, keep: frozenset[str] = frozenset()) -> Renamed:
    """Every variable, parameter, function and class gets a name that says nothing: the same for the same name.

    Those in ``keep``, imported names, attributes, and the names of keyword arguments stay.
    """
    wrapper, fixed = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True), _Fixed()
    wrapper.module.visit(fixed)
    scopes = _scopes(wrapper)
    stay = keep | fixed.names | {a.name for scope in scopes for a in scope.assignments if not _plain(a, scope)}
    fresh, nodes = _Fresh(), dict[cst.CSTNode, str]()
    for assignment in (a for scope in scopes for a in scope.assignments if a.name not in stay):
        places = (_bound(assignment), *(_root(access) for access in assignment.references))
        nodes |= {place: fresh(assignment.name) for place in places if place is not None}
    return Renamed(wrapper.module.visit(_Renamer(nodes, {})).code, {new: old for old, new in fresh.names.items()})


def aliased(text: str) -> str:
    """Everything imported is imported under another name."""
    wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
    scopes = _scopes(wrapper)
    imported = {a.name for scope in scopes for a in scope.assignments if isinstance(a, ImportAssignment)}
    others = {
        a.name for scope in scopes for a in scope.assignments if _plain(a, scope) or isinstance(scope, ClassScope)
    }
    fresh, names, nodes = _Fresh(), imported - others, dict[cst.CSTNode, str]()
    imports: dict[cst.CSTNode, cst.BaseSmallStatement] = {}
    for assignment in (a for scope in scopes for a in scope.assignments if a.name.split(".")[0] in names):
        nodes |= {place: fresh(place.value) for access in assignment.references if (place := _root(access))}
        imports[assignment.node] = _under_other_names(assignment.node, names, fresh)
    return wrapper.module.visit(_Renamer(nodes, imports)).code


def _under_other_names(node: cst.CSTNode, names: set[str], fresh: _Fresh) -> cst.BaseSmallStatement:
    assert isinstance(node, cst.Import | cst.ImportFrom)
    if isinstance(node, cst.ImportFrom) and isinstance(node.module, cst.Name) and node.module.value == "__future__":
        return node
    made: list[cst.ImportAlias] = []
    for alias in node.names if not isinstance(node.names, cst.ImportStar) else ():
        bound = alias.evaluated_alias or alias.evaluated_name
        first = bound.split(".")[0]
        if first not in names:
            made.append(alias)
        elif "." in bound:  # binds its first part, and makes the last one an attribute
            made += [alias.with_changes(comma=cst.MaybeSentinel.DEFAULT), _alias(cst.Name(first), fresh(first))]
        else:
            made.append(_alias(alias.name, fresh(bound)))
    return node.with_changes(names=[each.with_changes(comma=cst.MaybeSentinel.DEFAULT) for each in made])


def _alias(name: cst.Attribute | cst.Name, new: str) -> cst.ImportAlias:
    return cst.ImportAlias(name, cst.AsName(cst.Name(new)))


class _Fresh:
    """New names, one for each old one."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def __call__(self, old: str) -> str:
        return self.names.setdefault(old, f"zq{len(self.names)}")


def _scopes(wrapper: MetadataWrapper) -> list[Scope]:
    """In the order of the text; none of a text that reads names as strings."""
    found = dict.fromkeys(scope for scope in wrapper.resolve(ScopeProvider).values() if scope is not None)
    read = {access.node.value for scope in found for access in scope.accesses if isinstance(access.node, cst.Name)}
    return [] if read & UNREADABLE else list(found)


def _plain(assignment: object, scope: Scope) -> bool:
    """Whether what is assigned to is a variable, a function or a class, and nothing but that."""
    return (
        type(assignment) is Assignment
        and not isinstance(scope, ClassScope)
        and not assignment.name.startswith("__")
        and assignment.name != "_"
    )


def _bound(assignment: object) -> cst.CSTNode | None:
    match assignment:
        case Assignment(node=cst.Name() as name):
            return name
        case Assignment(node=cst.Param(name=name) | cst.FunctionDef(name=name) | cst.ClassDef(name=name)):
            return name
    return None


def _root(access: Access) -> cst.Name | None:
    node = access.node
    while isinstance(node, cst.Attribute):
        node = node.value  # type: ignore[assignment]
    return node if isinstance(node, cst.Name) else None


# ---------------------------------------------------------------------- formatting


def formatted(text: str, options: tuple[str, ...]) -> str:
    """What ruff makes of a text with some of its settings."""
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--stdin-filename", "train.py"]
    command += [part for option in options for part in ("--config", option)]
    return subprocess.run([*command, "-"], input=text, capture_output=True, text=True, check=True).stdout


# ---------------------------------------------------------------------- functions

Home = ast.Module | ast.FunctionDef


def split(text: str, *, whole: bool = False) -> str:
    """The body of every loop that trains, or the ``whole`` loop, goes into a function, where it can.

    Values go in by parameters and come out by `return`; what was in a method becomes a method. Comments are lost,
    changed or not.
    """
    module = ast.parse(text)
    classes = {id(method): c for c in ast.walk(module) if isinstance(c, ast.ClassDef) for method in c.body}
    for home, block, loop in list(_training_loops(module)):
        part = [loop] if whole else loop.body
        if _leaves(part, inside=whole):
            continue
        taken, given = _flow(home, part)
        name = f"train_epoch_{loop.lineno}" if whole else f"train_step_{loop.lineno}"
        body, me = module.body, ""
        if (around := classes.get(id(home))) is not None and isinstance(home, ast.FunctionDef) and home.args.args:
            body, me = around.body, home.args.args[0].arg
            taken = [each for each in taken if each != me]
        new = ast.parse(f"def {name}({', '.join((me, *taken) if me else taken)}):\n    return {', '.join(given)}").body[
            0
        ]
        assert isinstance(new, ast.FunctionDef)
        new.body = [*part, *(new.body if given else ())]
        left, called = f"{', '.join(given)} = " if given else "", f"{me}.{name}" if me else name
        call = ast.parse(f"{left}{called}({', '.join(taken)})").body
        if whole:
            block[block.index(loop) : block.index(loop) + 1] = call
        else:
            loop.body = call
        body.insert(next(number for number, each in enumerate(body) if _holds(each, call[0])), new)
    return ast.unparse(ast.fix_missing_locations(module))


def _training_loops(module: ast.Module) -> Iterator[tuple[Home, list[ast.stmt], ast.For]]:
    """Loops with a backward pass and without such a loop inside: the function each is in, and the block."""
    stack: list[tuple[Home, ast.AST]] = [(module, module)]
    while stack:
        home, node = stack.pop()
        home = node if isinstance(node, ast.FunctionDef) else home
        for block in _blocks(node):
            for loop in (each for each in block if isinstance(each, ast.For) and _trains(each.body)):
                if not any(isinstance(inner, ast.For) and _trains(inner.body) for inner in _walk(loop.body)):
                    yield home, block, loop
        if not isinstance(node, ast.AsyncFunctionDef):
            stack += [(home, child) for child in ast.iter_child_nodes(node)]


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    if not isinstance(node, ast.ClassDef):
        found = (getattr(node, name, None) for name in ("body", "orelse", "finalbody"))
        yield from (block for block in found if isinstance(block, list))


def _walk(block: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    for statement in block:
        yield from ast.walk(statement)


def _holds(outer: ast.AST, inner: ast.AST) -> bool:
    return any(node is inner for node in ast.walk(outer))


def _trains(block: list[ast.stmt]) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "backward" for node in _walk(block))


LEAVING = (ast.Return, ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal, ast.Delete, ast.Import)


def _leaves(part: list[ast.stmt], *, inside: bool) -> bool:
    """Whether something leads out of the part, so that it cannot be a function of its own."""
    away = (*LEAVING, *(() if inside else (ast.Break, ast.Continue)))
    return any(isinstance(node, away) for node in _walk(part))


def _flow(home: Home, part: list[ast.stmt]) -> tuple[list[str], list[str]]:
    """The names that a part of a function takes, and those that it gives."""
    within = set(map(id, _walk(part)))
    outside = [node for node in ast.walk(home) if id(node) not in within]
    first = min(node.lineno for node in part)
    before = {name for node in _own(home, within) if getattr(node, "lineno", 0) <= first for name in _made(node)}
    stored, loaded = {name for node in part for name in _stored(node)}, _names(_walk(part), ast.Load)
    taken = before & (stored | loaded)
    return sorted(taken), sorted(stored & (taken | _names(outside, ast.Load)))


SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.GeneratorExp, ast.ListComp, ast.SetComp,
          ast.DictComp)  # fmt: skip


def _own(home: ast.AST, without: Collection[int] = ()) -> Iterator[ast.AST]:
    """The nodes whose names are those of ``home`` itself."""
    for child in ast.iter_child_nodes(home):
        if id(child) not in without:
            yield child
            if not isinstance(child, SCOPES):
                yield from _own(child, without)


def _stored(node: ast.stmt) -> set[str]:
    return _names(_own(node), ast.Store) if not isinstance(node, SCOPES) else set()


def _made(node: ast.AST) -> set[str]:
    """The variables that a node binds."""
    return {node.arg} if isinstance(node, ast.arg) else _names([node], ast.Store)


def _names(nodes: Iterable[ast.AST], context: type[ast.expr_context]) -> set[str]:
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


# ---------------------------------------------------------------------- comparing


def alike(left: str, right: str) -> bool:
    """Whether two texts are one program but for the names of variables: each name of ``left`` stands for one."""
    trees = [ast.parse(text) for text in (left, right)]
    names = [[_named(node) for node in ast.walk(tree)] for tree in trees]
    if len(names[0]) != len(names[1]):
        return False
    pairs = {pair for pair in zip(*names, strict=True) if pair != ("", "")}
    for tree in trees:
        for node in ast.walk(tree):
            _blank(node)
    return len({old for old, _ in pairs}) == len(pairs) and ast.dump(trees[0]) == ast.dump(trees[1])


def _named(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.ExceptHandler(name=str(name)) | ast.keyword(arg=str(name)):
            return name
    return ""


def _blank(node: ast.AST) -> None:
    match node:
        case ast.Name():
            node.id = ""
        case ast.arg() | ast.keyword():
            node.arg = ""
        case ast.FunctionDef() | ast.ClassDef():
            node.name = ""
        case ast.ExceptHandler():
            node.name = None
