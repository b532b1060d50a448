"""The words of code, as `ast` sees it: chains of names, calls and their arguments, imports, strings; no comments.

One line for each: ``torch.optim.SGD(`` for a call, ``.backward(`` for one of a method of no name,
``torch.amp.autocast`` for an import from a module, ``torch.amp as`` for a module under another name, ``to(dtype`` for a
keyword, ``to(~.half`` for an argument whose last word is an attribute ``half``, ``(dtype=half`` for a bare name under a
keyword. Arguments that are names count as what these are assigned or annotated with as well.
"""

from __future__ import annotations

import _ast as ast
import warnings

from ampify.source.needles import IDLE

TYPE_CHECKING = False  # as of `typing`, which every run would have to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

_LONGEST = 200
"""Characters of a string that can be a word."""
_CHOICES = (ast.IfExp, ast.BoolOp)
_DEVICES = ("cuda", "cpu")


def parse(text: str) -> ast.Module | None:
    """The syntax tree of a text; None where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, such as invalid escapes
            tree = compile(text, "<text>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    assert isinstance(tree, ast.Module)
    return tree


def said(tree: ast.AST) -> str:
    """The words of a tree, a line each."""
    words = _Words(tree)
    return "\n".join(("", *words.lines, ""))


class _Words:
    """One pass over a tree: lines, and by name what it is assigned or annotated with."""

    def __init__(self, tree: ast.AST) -> None:
        self.lines: dict[str, None] = {}
        self._values: dict[str, list[ast.AST | None]] = {}
        self._arguments: list[tuple[str, str]] = []
        self._idle: list[ast.Call] = []
        self._walk(tree)
        for name, argument in dict.fromkeys(self._arguments):
            for value in self._values.get(argument, ()):
                self._add(*(f"{name}(~{word}" for word in _last_words(value)))
        for call in self._idle:
            sure = _sure_type(call, self._values)
            self._add(IDLE if sure else "torch.autocast(")

    def _add(self, *lines: str) -> None:
        for line in lines:
            self.lines[line] = None

    def _walk(self, tree: ast.AST) -> None:
        stack: list[object] = [tree]
        while stack:
            node = stack.pop()
            if type(node) is list:
                stack += node
            elif (enter := _ENTER.get(type(node))) is not None:
                enter(self, node, stack)
            elif isinstance(node, ast.AST):
                fields = node.__dict__
                stack += [fields[name] for name in node._fields if type(fields.get(name)) not in _LEAVES]

    def _name(self, node: ast.Name, _stack: list[object]) -> None:
        self._add(node.id)

    def _attribute(self, node: ast.Attribute, stack: list[object]) -> None:
        self._add(self._chain(node, stack))

    def _chain(self, node: ast.expr, stack: list[object]) -> str:
        """The dotted names of an expression; of what they are taken from, if that is no name, only a dot is left."""
        parts = []
        while type(node) is ast.Attribute:
            parts.append(node.attr)
            node = node.value
        if type(node) is ast.Name:
            parts.append(node.id)
        elif parts:
            parts.append("")
            stack.append(node)
        else:
            stack.append(node)
            return ""
        return ".".join(reversed(parts))

    def _call(self, node: ast.Call, stack: list[object]) -> None:
        chain = self._chain(node.func, stack)
        if chain == "torch.autocast" and _is_off(node):
            self._idle.append(node)
            stack += [*node.args, *(keyword.value for keyword in node.keywords)]
            return
        if chain:
            self._add(f"{chain}(")
        name = chain.rpartition(".")[2]
        for value, keyword in (*((a, "") for a in node.args), *((k.value, k.arg or "") for k in node.keywords)):
            stack.append(value)
            if name:
                self._argument(name, keyword, value)

    def _argument(self, name: str, keyword: str, value: ast.expr) -> None:
        if keyword:
            self._add(f"{name}({keyword}")
            if type(value) is ast.Name:
                self._add(f"({keyword}={value.id}")
        self._add(*(f"{name}(~{word}" for word in _last_words(value)))
        self._arguments += ((name, n.id) for n in _choices(value) if type(n) is ast.Name)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, stack: list[object]) -> None:
        self._add(node.name)
        stack += [node.args, node.decorator_list, node.returns, _without_docstring(node.body)]

    def _class(self, node: ast.ClassDef, stack: list[object]) -> None:
        self._add(node.name)
        stack += [node.bases, node.keywords, node.decorator_list, _without_docstring(node.body)]

    def _module(self, node: ast.Module, stack: list[object]) -> None:
        stack.append(_without_docstring(node.body))

    def _arg(self, node: ast.arg, stack: list[object]) -> None:
        self._add(node.arg)
        self._values.setdefault(node.arg, []).append(node.annotation)
        stack.append(node.annotation)

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.NamedExpr, stack: list[object]) -> None:
        for target in node.targets if type(node) is ast.Assign else [node.target]:  # type: ignore[union-attr]
            stack.append(target)
            for name in _choices(target):
                if type(name) is ast.Name:
                    self._values.setdefault(name.id, []).append(node.value)
        stack += [node.value, getattr(node, "annotation", None)]

    def _import(self, node: ast.Import, _stack: list[object]) -> None:
        self._add(*(f"{alias.name} as" if alias.asname else alias.name for alias in node.names))

    def _import_from(self, node: ast.ImportFrom, _stack: list[object]) -> None:
        module = "." * node.level + (node.module or "")
        self._add(*(f"{module}.{alias.name}{' as' if alias.asname else ''}" for alias in node.names))

    def _constant(self, node: ast.Constant, _stack: list[object]) -> None:
        if type(node.value) is str and len(node.value) <= _LONGEST:
            self._add(repr(node.value))


_LEAVES = (str, int, type(None), ast.Load, ast.Store, ast.Del)
_ENTER: dict[type, Callable[[_Words, Any, list[object]], None]] = {
    ast.Name: _Words._name, ast.Attribute: _Words._attribute, ast.Call: _Words._call, ast.arg: _Words._arg,
    ast.FunctionDef: _Words._function, ast.AsyncFunctionDef: _Words._function, ast.ClassDef: _Words._class,
    ast.Module: _Words._module, ast.Assign: _Words._assign, ast.AnnAssign: _Words._assign,
    ast.NamedExpr: _Words._assign, ast.Import: _Words._import, ast.ImportFrom: _Words._import_from,
    ast.Constant: _Words._constant,
}  # fmt: skip


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
    return body


def _choices(node: ast.AST | None) -> Iterator[ast.AST]:
    """An expression, and what it may be if it is a choice or a display of several."""
    if isinstance(node, _CHOICES):
        parts = node.values if isinstance(node, ast.BoolOp) else [node.body, node.orelse]
        yield from (each for part in parts for each in _choices(part))
    elif isinstance(node, ast.Tuple | ast.List):
        yield from (each for part in node.elts for each in _choices(part))
    elif isinstance(node, ast.Starred):
        yield from _choices(node.value)
    elif node is not None:
        yield node


def _last_words(node: ast.AST | None) -> Iterator[str]:
    for each in _choices(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield f".{each.attr}"


# ---------------------------------------------------------------------- autocast that is switched off


def _is_off(call: ast.Call) -> bool:
    """Whether a call of `torch.autocast` says nothing but a device type and ``enabled=False``."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    match given.pop("enabled", None):
        case ast.Constant(value=False):
            return len(call.args) + len(given) == 1 and given.keys() <= {"device_type"}
    return False


def _sure_type(call: ast.Call, values: dict[str, list[ast.AST | None]]) -> bool:
    given = call.args[0] if call.args else next(k.value for k in call.keywords if k.arg == "device_type")
    if type(given) is ast.Name:
        found = values.get(given.id, [])
        return bool(found) and all(map(_is_type, found))
    return _is_type(given)


def _is_type(value: ast.AST | None) -> bool:
    """``x.device.type``, ``"cuda"``, or a choice of these."""
    return value is not None and all(_is_one_type(each) for each in _parts(value))


def _parts(value: ast.AST) -> Iterable[ast.AST]:
    return _choices(value) if isinstance(value, _CHOICES) else (value,)


def _is_one_type(value: ast.AST) -> bool:
    match value:
        case ast.Attribute(attr="type"):
            return True
        case ast.Constant(value=str(name)):
            return name in _DEVICES
    return False
