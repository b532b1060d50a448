"""Edits on source text that keep every byte they do not mean to change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from ampify.source.edits import Edit
from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.tree import Tree
from ampify.syntax.walk import walk


def insert(at: int, text: str) -> Edit:
    return Edit(Span(at, at), text)


def crowded(tree: Tree, node: cst.CSTNode) -> bool:
    """Whether the statement of ``node`` shares its line with others, or with the head of its block."""
    line = next(p for p in (node, *tree.parents(node)) if isinstance(p, cst.BaseStatement | cst.SimpleStatementSuite))
    return isinstance(line, cst.SimpleStatementSuite) or (
        isinstance(line, cst.SimpleStatementLine) and len(line.body) > 1
    )


def before(tree: Tree, node: cst.CSTNode, *lines: str) -> Edit:
    """New lines above the statement of ``node``, below the comments that stand over it."""
    if crowded(tree, node):
        start = tree.span(blocks.small_statement_of(tree, node)).start
        return insert(start, "".join(f"{line}; " for line in lines))
    start = tree.span(blocks.statement_of(tree, node)).start
    newline, indent = tree.source.newline(start), tree.source.indent(start)
    return insert(start, "".join(line + newline + indent for line in lines))


def after(tree: Tree, node: cst.CSTNode, *lines: str) -> Edit:
    """New lines below the statement of ``node``, and below a comment at its end."""
    small = blocks.small_statement_of(tree, node)
    if crowded(tree, node):
        return insert(tree.span(small).end, "".join(f"; {line}" for line in lines))
    span = tree.span(blocks.statement_of(tree, node))
    newline, indent = tree.source.newline(span.end), tree.source.indent(span.start)
    return insert(tree.source.line_end(span.end), "".join(newline + indent + line for line in lines))


def wrap(tree: Tree, statements: Iterable[cst.CSTNode], header: list[str], inner: Iterable[str] = ()) -> Iterator[Edit]:
    """Put a ``with`` header over neighbouring statements and indent them; ``inner`` lines follow inside it."""
    source, run = tree.source, [*statements]
    unit = tree.module(run[0]).default_indent
    first, last = tree.span(run[0]), tree.span(run[-1])
    newline, indent = source.newline(first.start), source.indent(first.start)
    yield insert(first.start, "".join(line + newline + indent for line in header) + unit)
    frozen = {line for statement in run for line in inside_strings(tree, statement)}
    for line in range(source.line(first.start) + 1, source.line(last.end) + 1):
        if line not in frozen and source.text_of_line(line).strip():
            yield insert(source.line_starts[line - 1], unit)
    if added := "".join(newline + indent + unit + line for line in inner):
        yield insert(source.line_end(last.end), added)


def wrapped_lines(tree: Tree, node: cst.CSTNode, header: list[str], inner: Iterable[str]) -> Edit:
    """A ``with`` of new lines only, above the statement of ``node``."""
    unit = tree.module(node).default_indent
    return before(tree, node, *header, *(unit + line for line in inner))


def inside_strings(tree: Tree, statement: cst.CSTNode) -> Iterator[int]:
    """Lines that begin inside a multi-line string: their leading blanks are data, not layout."""
    for node in walk(statement):
        if isinstance(node, cst.SimpleString | cst.FormattedString | cst.TemplatedString):
            span = tree.span(node)
            yield from range(tree.source.line(span.start) + 1, tree.source.line(span.end) + 1)


def call_lines(head: str, arguments: list[str], tail: str, width: int, unit: str) -> list[str]:
    """``head(arguments)tail`` on one line of at most ``width`` columns, else broken as black and ruff do."""
    line = f"{head}({', '.join(arguments)}){tail}"
    if len(line) <= width:
        return [line]
    joined = ", ".join(arguments)
    if len(unit.expandtabs()) + len(joined) <= width:
        return [f"{head}(", unit + joined, f"){tail}"]
    return [f"{head}(", *(f"{unit}{argument}," for argument in arguments), f"){tail}"]


def argument(tree: Tree, call: cst.Call, text: str) -> Edit:
    """A new last argument of a call; a ``**`` argument stays last."""
    if not call.args:
        return insert(_closing(tree, call), text)
    starred = next((a for a in call.args if a.star == "**"), None)
    if starred is not None:
        return insert(tree.span(starred).start, f"{text}, ")
    return _appended(tree, call.args[-1], tree.span(call.args[-1].value).end, text)


def argument_out(tree: Tree, call: cst.Call, arg: cst.Arg) -> Edit:
    """Without one of several arguments."""
    at = next(i for i, other in enumerate(call.args) if other is arg)
    if at + 1 < len(call.args):
        return Edit(Span(tree.span(arg).start, tree.span(call.args[at + 1]).start), "")
    before = tree.span(call.args[at - 1].value).end
    return Edit(Span(before, tree.span(arg.value).end), "")


def _appended(tree: Tree, last: cst.CSTNode, end: int, text: str) -> Edit:
    """``text`` as one more item after the last one, on a line of its own where that one has its own."""
    start, source = tree.span(last).start, tree.source
    if source.text[source.line_start(start) : start].strip():
        return insert(end, f", {text}")
    return insert(end, f",{source.newline(end)}{source.indent(start)}{text}")


def _closing(tree: Tree, call: cst.Call) -> int:
    """Where the closing parenthesis of a call stands; parentheses around the call come after it."""
    end = tree.span(call).end
    for _ in call.rpar:
        end = tree.source.text.rindex(")", 0, end)
    return tree.source.text.rindex(")", 0, end)


def opening(tree: Tree, call: cst.Call) -> int:
    """The place just inside the opening parenthesis of a call."""
    return tree.source.text.index("(", tree.span(call.func).end) + 1


def parameter(tree: Tree, function: cst.FunctionDef, name: str) -> Edit:
    """A new last parameter: positional where that is possible, else keyword-only."""
    params = function.params
    plain = [*params.posonly_params, *params.params]
    if params.kwonly_params:
        return _appended(tree, params.kwonly_params[-1], _param_end(tree, params.kwonly_params[-1]), name)
    if isinstance(params.star_arg, cst.Param):
        return insert(_param_end(tree, params.star_arg), f", {name}")
    text = name if not takes_keyword(function) else f"*, {name}"
    if plain:
        return _appended(tree, plain[-1], _param_end(tree, plain[-1]), text)
    if params.star_kwarg is not None:
        return insert(tree.span(params.star_kwarg).start - 2, f"{text}, ")
    return insert(tree.source.text.index("(", tree.span(function.name).end) + 1, text)


def _param_end(tree: Tree, param: cst.Param) -> int:
    """Behind a parameter's annotation and default: the span of a `Param` is that of its name."""
    annotation = param.annotation.annotation if param.annotation is not None else param.name
    return tree.span(param.default if param.default is not None else annotation).end


def takes_keyword(function: cst.FunctionDef) -> bool:
    """Whether a new last parameter of ``function`` can only be passed by keyword."""
    params = function.params
    defaulted = any(p.default is not None for p in (*params.posonly_params, *params.params))
    return defaulted or isinstance(params.star_arg, cst.Param) or bool(params.kwonly_params)
