"""Edits of import statements: make a path nameable at a node, drop a name that nothing needs. Knows no rule."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import takewhile

import libcst as cst

from ampify.source.edits import Edit, splice
from ampify.source.text import Span
from ampify.syntax.names import Binding, Bound, Scope
from ampify.syntax.tree import Tree
from ampify.syntax.walk import dotted, is_none

_ImportStatement = cst.Import | cst.ImportFrom

AddedImport = tuple[int, str]
"""The file of a text of several, and an import statement that was added to it."""


def need(tree: Tree, path: str, at: cst.CSTNode) -> tuple[str, tuple[Edit, ...]]:
    """How to write import path ``path`` at node ``at``, and the edits that make it importable there."""
    if spelled := tree.names.spell(path, at):
        return spelled, ()
    root, _, rest = path.partition(".")
    if _optional(tree, root, at):
        return path, ()
    module = tree.module(at)
    if rest and (edits := _beside_sibling(tree, path, module)):
        return path.rpartition(".")[2], edits
    name = root
    while _means_other(tree, name, root, at):
        name = "_" + name
    line = f"import {root}" if name == root else f"import {root} as {name}"
    return f"{name}.{rest}" if rest else name, (_new_line(tree, line, root, module),)


def added_import(tree: Tree, edits: tuple[Edit, ...]) -> AddedImport:
    """What the edits of `need` add, as the proof looks for it."""
    return tree.source.file(edits[0].span.start), "".join(edit.text for edit in edits).strip()


def drop(tree: Tree, name: str, at: cst.CSTNode, gone: Collection[cst.CSTNode] = ()) -> tuple[Edit, ...]:
    """The edit that removes the import of ``name`` visible at ``at``, if only the references ``gone`` needed it."""
    scope = tree.names.scope[at].find(name)
    if scope is None or len(bindings := scope.bindings[name]) != 1 or bindings[0].how is not Bound.IMPORT:
        return ()
    statement = bindings[0].node
    if not isinstance(statement, _ImportStatement) or _exported(tree, statement, name):
        return ()
    if any(reference not in gone for reference in references(tree, name, scope)):
        return ()
    return _without(tree, statement, name)


def references(tree: Tree, name: str, scope: Scope) -> Iterator[cst.Name]:
    """Every place but an import that says ``name`` and means its binding in ``scope``."""
    for node, parent in tree.names.parent.items():
        if not isinstance(node, cst.Name) or node.value != name:
            continue
        match parent:
            case cst.Attribute(attr=part) | cst.Arg(keyword=part) if part is node:
                continue
        above = next(p for p in tree.parents(node) if not isinstance(p, cst.Attribute | cst.AsName))
        if not isinstance(above, cst.ImportAlias | cst.ImportFrom) and tree.names.scope[node].find(name) is scope:
            yield node


def _exported(tree: Tree, statement: _ImportStatement, name: str) -> bool:
    """Whether others may see the name: ``as`` itself, in ``__all__``, or named by a string such as an annotation."""
    if any(alias.asname and alias.evaluated_name == alias.evaluated_alias == name for alias in _aliases(statement)):
        return True
    strings = (node.raw_value for node in tree.names.parent if isinstance(node, cst.SimpleString))
    return any(re.search(rf"\b{re.escape(name)}\b", text) and _may_be_code(text) for text in strings)


def _may_be_code(text: str) -> bool:
    return re.fullmatch(r"[\w.\[\], |]+", text) is not None and not re.search(r"\w\s+\w", text)


def _aliases(statement: _ImportStatement) -> tuple[cst.ImportAlias, ...]:
    return () if isinstance(statement.names, cst.ImportStar) else tuple(statement.names)


def _binds(alias: cst.ImportAlias) -> str:
    return alias.evaluated_alias or alias.evaluated_name.partition(".")[0]


def _without(tree: Tree, statement: _ImportStatement, name: str) -> tuple[Edit, ...]:
    """The statement without one name: one edit of all of it, so that two such edits never add up to ``import ()``."""
    aliases = _aliases(statement)
    if len(aliases) == 1:
        return _removed(tree, statement)
    index = next(i for i, alias in enumerate(aliases) if _binds(alias) == name)
    whole, cut = tree.span(statement), _cut(tree, [tree.span(alias) for alias in aliases], index, statement)
    inside = Edit(Span(cut.start - whole.start, cut.end - whole.start), "")
    return (Edit(whole, splice(tree.source[whole], [inside])),)


def _cut(tree: Tree, spans: list[Span], index: int, statement: _ImportStatement) -> Span:
    """What to cut out of a list of names: a line that holds one name only, else the name and one comma."""
    source, own = tree.source, spans[index]
    line = Span(source.line_start(own.start), source.line_end(own.end))
    around = source.text[line.start : own.start], source.text[own.end : line.end]
    alone = not around[0].strip() and re.fullmatch(r"\s*,?\s*(#.*)?", around[1])
    if alone and isinstance(statement, cst.ImportFrom) and statement.lpar:
        return Span(line.start, line.end + len(source.newline(line.end)))
    if index > 0:
        return Span(_end(tree, spans[index - 1]), _end(tree, own))
    return Span(own.start, spans[1].start)


def _end(tree: Tree, span: Span) -> int:
    """Where a name ends, without the comma that LibCST counts in."""
    return span.start + len(tree.source[span].rstrip().removesuffix(",").rstrip())


def _removed(tree: Tree, statement: _ImportStatement) -> tuple[Edit, ...]:
    """The whole statement gone, and the blank lines below it where a block begins; nothing if that leaves it empty."""
    line = tree.names.parent[statement]
    if not isinstance(line, cst.SimpleStatementLine):
        return ()
    if len(line.body) > 1:
        spans = [tree.span(small) for small in line.body]
        index = line.body.index(statement)
        cut = Span(spans[index - 1].end, spans[index].end) if index else Span(spans[0].start, spans[1].start)
        return (Edit(cut, ""),)
    block = tree.names.parent[line]
    if not isinstance(block, cst.Module) and len(getattr(block, "body", ())) == 1:
        return ()
    span = tree.span(line)
    end = _next_line(tree, span.end)
    while isinstance(block, cst.IndentedBlock) and block.body[0] is line and _is_blank(tree, end):
        end = _next_line(tree, end)
    return (Edit(Span(tree.source.line_start(span.start), end), ""),)


def _is_blank(tree: Tree, offset: int) -> bool:
    return not tree.source.text_of_line(tree.source.line(offset)).strip() and offset < len(tree.source.text)


def _next_line(tree: Tree, offset: int) -> int:
    end = tree.source.line_end(offset)
    return end + (len(tree.source.newline(end)) if end < len(tree.source.text) else 0)


def _optional(tree: Tree, root: str, at: cst.CSTNode) -> bool:
    """Whether ``root`` is imported if it is installed, and None otherwise: code that needs it may count on it."""
    bindings = [b for b in tree.names.scope[at].lookup(root) if not tree.names.for_checkers(b.node)]
    return any(b.path == root for b in bindings) and all(b.path == root or is_none(b.value) for b in bindings)


def _means_other(tree: Tree, name: str, root: str, at: cst.CSTNode) -> bool:
    """Whether a new top-level import of ``root`` as ``name`` would change or be hidden by what ``name`` means."""

    def other(binding: Binding) -> bool:
        return binding.path != root

    scopes = tree.names.inner.get(at, tree.names.scope[at]).chain()
    return any(other(binding) for scope in scopes for binding in scope.bindings.get(name, ()))


def _beside_sibling(tree: Tree, path: str, at: cst.Module) -> tuple[Edit, ...]:
    """Extend a top-level ``from torch.amp import autocast`` by the last part of ``path``, if that name is free."""
    module, _, name = path.rpartition(".")
    if tree.names.taken(name, [at]):
        return ()
    for statement in (small for line in _head(at) for small in line.body):
        match statement:
            case cst.ImportFrom(module=cst.CSTNode() as source, relative=()) if ".".join(dotted(source)) == module:
                if aliases := _aliases(statement):
                    end = _end(tree, tree.span(aliases[-1]))
                    return (Edit(Span(end, end), f", {name}"),)
    return ()


def _new_line(tree: Tree, line: str, root: str, module: cst.Module) -> Edit:
    """A new line after the last import of ``root`` at the head of the file, else after the last import there."""
    lines = [*_head(module)]
    imports = [found for found in lines if any(isinstance(small, _ImportStatement) for small in found.body)]
    related = [found for found in imports if root in {path.partition(".")[0] for path in _imported_by(found)}]
    docstring = lines[:1] if module.get_docstring(clean=False) is not None else []
    source = tree.source
    if not (after := (related or imports or docstring)[-1:]):
        at = tree.span(module.body[0]).start if module.body else tree.span(module).end
        return Edit(Span(at, at), line + source.newline(at))
    at = _next_line(tree, end := tree.span(after[0]).end)
    newline = source.newline(end)
    complete = at > source.line_end(end)
    return Edit(Span(at, at), line + newline if complete else newline + line)


def _head(module: cst.Module) -> Iterator[cst.SimpleStatementLine]:
    """The simple lines before the first definition or loop: an import there is there for everything that runs."""
    stop = (cst.FunctionDef, cst.ClassDef, cst.For, cst.While, cst.With, cst.Match)
    for statement in takewhile(lambda s: not isinstance(s, stop), module.body):
        if isinstance(statement, cst.SimpleStatementLine):
            yield statement


def _imported_by(line: cst.SimpleStatementLine) -> Iterator[str]:
    for statement in line.body:
        if isinstance(statement, cst.Import):
            yield from (alias.evaluated_name for alias in statement.names)
        elif isinstance(statement, cst.ImportFrom) and statement.module and not statement.relative:
            yield ".".join(dotted(statement.module))
