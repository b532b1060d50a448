"""Takes code out of a text at spans: nothing is generated anew, and comments stay. Knows Python, not PyTorch."""

from __future__ import annotations

import ast
import tokenize
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import libcst as cst

from ampify.source.edits import Edit, splice
from ampify.source.text import SourceText, Span
from ampify.syntax.blocks import Block
from ampify.syntax.tree import Tree
from ampify.syntax.walk import dotted, walk

_QUIET = {"get", "keys", "is_enabled", "is_available", "get_scale", "len", "bool", "hasattr", "isinstance"}
"""Calls that a test may make and still be dropped together with what it guards."""

_ATOMS = (
    cst.Name, cst.Attribute, cst.Call, cst.Subscript, cst.List, cst.Dict, cst.Set, cst.ListComp, cst.DictComp,
    cst.SetComp, cst.SimpleString, cst.FormattedString,
)  # fmt: skip
_ROOMY = (cst.Arg, cst.Assign, cst.AnnAssign, cst.AugAssign, cst.Return, cst.Expr, cst.Element, cst.DictElement)


class Cuts:
    """One round of cuts. Those that clash with one taken before wait for the next round."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.source = tree, tree.source
        self._gone: set[cst.CSTNode] = set()
        self._groups: list[tuple[Edit, ...]] = []
        self._taken: list[Edit] = []

    # -- what to cut ----------------------------------------------------------------------------------------------

    def drop(self, statement: cst.CSTNode) -> None:
        """A statement goes, and an ``if`` that guards nothing else."""
        self._gone.add(statement)

    def edit(self, *edits: Edit) -> None:
        """All of ``edits``, or none."""
        self._groups.append(edits)

    def delete(self, *spans: Span) -> None:
        self.edit(*(Edit(span, self.comments_of(span)) for span in spans if span.start < span.end))

    def drop_line(self, node: cst.CSTNode, keep: Span | None = None) -> Edit:
        """The lines of ``node`` go; the comments on them stay, except those in ``keep``."""
        span = self.tree.span(node)
        start, end = self.source.line_start(span.start), self.source.line_end(span.end)
        newline, indent = self.source.newline(end), self.source.indent(span.start)
        comments = [c for c in self._comments_in(Span(start, end)) if keep is None or c not in keep]
        if end < self.source.files[self.source.file(end)].end:
            end += len(newline)
        if not comments:
            return Edit(Span(start, end), "")
        kept = (newline + indent).join(self.source[c] for c in comments)  # in their line, which may yet be moved
        return Edit(Span(start + len(indent), end), kept + newline)

    def unwrap(self, statement: cst.CSTNode, body: cst.BaseSuite) -> None:
        """A compound statement gives way to one of its blocks."""
        whole, inner = self.tree.span(statement), self.tree.span(body.body[0])
        if isinstance(body, cst.SimpleStatementSuite):
            last = self.tree.span(body.body[-1]).end
            self.delete(Span(whole.start, inner.start), Span(last, whole.end))
            return
        first = self.source.line(inner.start)
        while self.source.text_of_line(first - 1).lstrip()[:1] in ("", "#"):
            first -= 1
        last = self.source.line(self.tree.span(body).end)
        head = Span(self.source.line_start(whole.start), self.source.line_starts[first - 1])
        tail = Span(self.source.line_end(self.tree.span(body).end), self.source.line_end(whole.end))
        edits = [Edit(head, self._own_lines(head, whole.start)), *self._dedent(whole.start, inner.start, first, last)]
        if tail.start < tail.end:
            newline = self.source.newline(tail.start)
            edits.append(Edit(tail, (newline + self._own_lines(tail, whole.start)).removesuffix(newline)))
        self.edit(*edits)

    def drop_items(self, items: Sequence[cst.CSTNode], gone: set[cst.CSTNode]) -> None:
        """Elements of a comma-separated list go, each with one comma."""
        index = 0
        while index < len(items):
            first = index
            while index < len(items) and items[index] in gone:
                index += 1
            if first < index:
                self.delete(self._run(items, first, index - 1))
            index += 1

    def replace(self, node: cst.BaseExpression, value: cst.BaseExpression) -> None:
        """An expression gives way to a part of it, in parentheses where they are needed."""
        outer, inner = self.tree.span(node), self.tree.span(value)
        head, tail = Span(outer.start, inner.start), Span(inner.end, outer.end)
        if not self.fits(value, node):
            self.edit(Edit(head, "(" + self.comments_of(head)), Edit(tail, self.comments_of(tail) + ")"))
        elif self.comments_of(head) or self.comments_of(tail):
            self.edit(Edit(head, f"({self.comments_of(head)}"), Edit(tail, f"{self.comments_of(tail)})"))
        else:
            self.delete(head, tail)

    def fits(self, value: cst.BaseExpression, place: cst.CSTNode) -> bool:
        """Whether ``value`` needs no parentheses where ``place`` stands."""
        if not value.lpar and not _fits_on_its_own(self.tree.text(value)):
            return False
        roomy = isinstance(self.tree.names.parent[place], _ROOMY)
        delicate = isinstance(value, cst.NamedExpr | cst.Yield | cst.Tuple | cst.GeneratorExp)
        return is_atom(value) or (roomy and not delicate)

    def own(self, node: cst.BaseExpression) -> Span:
        """The span of ``node`` without its own parentheses."""
        span = self.tree.span(node)
        if not node.lpar:
            return span
        return Span(self.tree.span(node.lpar[-1]).end, self.tree.span(node.rpar[0]).start)

    # -- the result -----------------------------------------------------------------------------------------------

    def apply(self) -> tuple[str, frozenset[str]]:
        """The text that remains, and the dotted names that were read in what has gone."""
        if not self._gone and not self._groups:
            return self.source.text, frozenset()
        edits = self.edits()
        return splice(self.source.text, edits), frozenset(self._freed())

    def edits(self) -> list[Edit]:
        """The cuts as edits of the text."""
        self._settle()
        groups = [*((e,) for e in self._statement_edits()), *self._groups]
        for group in sorted(groups, key=lambda g: -max((e.span.end - e.span.start for e in g), default=0)):
            self._take(group)
        return self._taken

    def _take(self, group: tuple[Edit, ...]) -> None:
        fresh = [edit for edit in group if not self._swallowed(edit.span)]
        if not any(near.span.overlaps(e.span) or near.span == e.span for e in fresh for near in self._near(e.span)):
            for edit in fresh:
                insort(self._taken, edit, key=lambda e: e.span)

    def _near(self, span: Span) -> list[Edit]:
        """The taken edits that could touch ``span``: these never overlap each other, so neighbours are enough."""
        low = bisect_left(self._taken, span, key=lambda e: e.span)
        high = bisect_left(self._taken, span.end, key=lambda e: e.span.start)
        return self._taken[max(low - 1, 0) : high + 1]

    def _swallowed(self, span: Span) -> bool:
        """Whether what stands there has gone as part of something larger."""
        return any(span in near.span and near.span != span for near in self._near(span))

    def _freed(self) -> Iterator[str]:
        for node in self.tree.nodes():
            if isinstance(node, cst.Name | cst.Attribute) and (chain := dotted(node)):
                span = self.tree.span(node)
                if any(span in near.span for near in self._near(span)):
                    yield ".".join(chain)

    # -- statements -------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """What consists only of statements that have gone is gone: lines, and the ``if`` around them."""
        work = list(self._gone)
        while work:
            parent = self.tree.names.parent[work.pop()]
            if parent is None or parent in self._gone:
                continue
            if isinstance(parent, cst.SimpleStatementLine) and self._emptied(parent):
                self._gone.add(parent)
                work.append(parent)
            elif isinstance(parent, cst.IndentedBlock | cst.SimpleStatementSuite) and (guard := self._guard(parent)):
                self._gone.add(guard)
                work.append(guard)

    def _emptied(self, block: cst.CSTNode) -> bool:
        return all(statement in self._gone for statement in block.body)  # type: ignore[attr-defined]

    def _guard(self, block: cst.CSTNode) -> cst.If | None:
        """The ``if`` statement all of whose branches have gone, and whose tests have no effect."""
        guard = self.tree.names.parent[block]
        while isinstance(parent := guard and self.tree.names.parent[guard], cst.If | cst.Else):
            guard = parent
        if isinstance(guard, cst.Else):
            guard = self.tree.names.parent[guard]
        if not isinstance(guard, cst.If):
            return None
        arm: cst.If | cst.Else | None = guard
        while arm is not None:
            if not self._emptied(arm.body) or (isinstance(arm, cst.If) and not is_quiet(arm.test)):
                return None
            arm = arm.orelse if isinstance(arm, cst.If) else None
        return guard

    def _statement_edits(self) -> Iterator[Edit]:
        top = {g for g in self._gone if not any(p in self._gone for p in self.tree.parents(g))}
        for holder in dict.fromkeys(self.tree.names.parent[g] for g in sorted(top, key=self.tree.span)):
            gone = [s for s in holder.body if s in top]  # type: ignore[union-attr]
            if self._emptied(holder) and not isinstance(holder, cst.Module):  # type: ignore[arg-type]
                yield self._pass(gone)
                gone = gone[1:] if isinstance(holder, cst.IndentedBlock) else []
            if isinstance(holder, Block) and not isinstance(holder, cst.SimpleStatementSuite):
                yield from (self.drop_line(s) for s in gone)
            else:
                yield from self._between_semicolons(holder, set(gone))  # type: ignore[arg-type]

    def _pass(self, gone: list[cst.CSTNode]) -> Edit:
        span = self.tree.span(gone[0])
        if not isinstance(gone[0], cst.BaseStatement):
            span = Span(span.start, self.tree.span(gone[-1]).end)
        again = self.source.newline(span.start) + self.source.indent(span.start)
        return Edit(span, "".join(self.source[c] + again for c in self._comments_in(span)) + "pass")

    def _between_semicolons(self, line: cst.SimpleStatementLine, gone: set[cst.CSTNode]) -> Iterator[Edit]:
        kept = [s for s in line.body if s not in gone]
        for left, right in pairwise(kept):
            here, there = line.body.index(left), line.body.index(right)
            if there > here + 1:
                yield Edit(Span(self.tree.span(line.body[here + 1]).start, self.tree.span(right).start), "")
        if kept and line.body[0] is not kept[0]:
            yield Edit(Span(self.tree.span(line.body[0]).start, self.tree.span(kept[0]).start), "")
        if kept and line.body[-1] is not kept[-1]:
            yield Edit(Span(self.tree.span(kept[-1]).end, self.tree.span(line.body[-1]).end), "")

    # -- lines and lists --------------------------------------------------------------------------------------------

    def _dedent(self, outer: int, inner: int, first: int, last: int) -> Iterator[Edit]:
        """Lines ``first`` to ``last``, and comments that trail them, move from one indentation to the other."""
        shallow, deep = self.source.indent(outer), self.source.indent(inner)
        while (line := self.source.text_of_line(last + 1)).startswith(deep) and line.lstrip()[:1] == "#":
            last += 1
        more = len(deep) - len(shallow) if deep.startswith(shallow) else len(deep)
        for number in range(first, last + 1):
            line = self.source.text_of_line(number)
            if number in self._frozen or not line.strip():
                continue
            start = self.source.line_starts[number - 1]
            if line.startswith(deep):
                kept = len(deep) - more
                yield Edit(Span(start + kept, start + len(deep)), "" if kept else shallow * (more == len(deep)))
            elif line[:more].isspace() and len(line) > more:
                yield Edit(Span(start, start + more), "")

    @cached_property
    def _frozen(self) -> set[int]:
        """Lines that begin inside a string: their leading blanks are data, not layout."""
        found: set[int] = set()
        for node in self.tree.nodes():
            if isinstance(node, cst.SimpleString | cst.FormattedString | cst.TemplatedString):
                span = self.tree.span(node)
                found.update(range(self.source.line(span.start) + 1, self.source.line(span.end) + 1))
        return found

    def _run(self, items: Sequence[cst.CSTNode], first: int, last: int) -> Span:
        """What to delete for the neighbouring elements ``first`` to ``last``."""
        start, end = self.tree.span(items[first]).start, self._item_end(items[last])
        if last + 1 < len(items):
            return Span(start, self.tree.span(items[last + 1]).start)
        comma = self._comma(end)
        if first == 0:
            return Span(start, comma or end)
        before = self._item_end(items[first - 1])
        return Span(self._comma(before) or before, comma) if comma else Span(before, end)

    def _item_end(self, item: cst.CSTNode) -> int:
        if isinstance(item, cst.ParamStar | cst.ParamSlash):  # their spans reach over the comma
            return self.tree.span(item).start + 1
        if isinstance(item, cst.Param):
            parts = [p for p in (item.name, item.annotation, item.default) if p is not None]
            return max(self.tree.span(part).end for part in parts)
        return self.tree.span(item).end

    def _comma(self, at: int) -> int | None:
        """The end of the comma after ``at``, if that is what comes next."""
        text = self.source.text
        while at < len(text) and (text[at].isspace() or text[at] in "#\\"):
            at = self.source.line_end(at) if text[at] == "#" else at + 1
        return at + 1 if text[at : at + 1] == "," else None

    # -- comments ---------------------------------------------------------------------------------------------------

    @cached_property
    def _comments(self) -> list[Span]:
        return comments(self.source.text)

    def _comments_in(self, span: Span) -> list[Span]:
        low = bisect_left(self._comments, span.start, key=lambda c: c.start)
        high = bisect_left(self._comments, span.end, key=lambda c: c.start)
        return self._comments[low:high]

    def comments_of(self, span: Span) -> str:
        """The comments of a deleted span, such that they can stand in its place inside brackets."""
        found = self._comments_in(span)
        if not found:
            return ""
        newline, indent = self.source.newline(span.start), self.source.indent(span.end)
        own_line = self.source.text[span.end : span.end + 1] in ("\r", "\n")
        blank = "" if self.source.text[span.start - 1 : span.start].isspace() else "  "
        return blank + (newline + indent).join(self.source[c] for c in found) + ("" if own_line else newline + indent)

    def _own_lines(self, span: Span, at: int) -> str:
        newline = self.source.newline(at)
        return "".join(self.source.indent(at) + self.source[c] + newline for c in self._comments_in(span))


def _fits_on_its_own(text: str) -> bool:
    """Whether an expression needs no brackets around it to reach over its lines."""
    if "\n" not in text and "\r" not in text:
        return True
    try:
        return len(ast.parse(text).body) == 1
    except SyntaxError:
        return False


def is_atom(value: cst.BaseExpression) -> bool:
    """Whether ``value`` can stand before a dot as it is."""
    return bool(value.lpar) or isinstance(value, _ATOMS)


def comments(text: str) -> list[Span]:
    """Where the comments of a text stand."""
    return [Span(part.start + c.start, part.start + c.end) for part in SourceText(text).files
            for c in _comments(SourceText(text[part.start : part.end]))]  # fmt: skip


def _comments(source: SourceText) -> Iterator[Span]:
    bounds = [*source.line_starts, len(source.text)]
    lines = (source.text[a:b] for a, b in pairwise(bounds))
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type == tokenize.COMMENT:
            yield Span(source.offset(*token.start), source.offset(*token.end))


def is_quiet(test: cst.CSTNode) -> bool:
    """Whether evaluating ``test`` has no effect, as far as its calls tell."""
    for node in walk(test):
        if isinstance(node, cst.NamedExpr | cst.Await | cst.Yield):
            return False
        if isinstance(node, cst.Call):
            name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
            if not isinstance(name, cst.Name) or name.value not in _QUIET:
                return False
    return True
