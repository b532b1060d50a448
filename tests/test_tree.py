"""Trees with positions, against LibCST's own; and the blocks that statements stand in."""

from __future__ import annotations

import textwrap

import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider

from ampify.source.text import Span
from ampify.syntax import blocks
from ampify.syntax.tree import Tree, Unreadable

TEXTS = [
    "x = 1\n",
    "x = 1",
    "# comment\n\nif a:  # why\n\n    # inside\n    b()\n    # last\n\nelif c:\n\td\nelse:\n    pass\n# end\n",
    "@d\n# between\n@e(1)\nasync def f(a, /, b=(1), *c, d: int = 2, **e) -> (int):\n    '''doc'''\n    return (a), b\n",
    "class C(A, metaclass=M):\n    x: int = 1; y = 2  # both\n\n    def f(self): pass\n",
    "with (a as b, c): pass\nfor x, *y in z: continue\nelse: pass\nwhile (yes): break\n",
    "try:\n    a\nexcept* E as e:\n    b\nelse:\n    c\nfinally:\n    d\n",
    "s = f'{a!r:>{width}} {b=}' \"x\"\nt = '''a\n  b'''\n(a := 1)\n[x for x in y if (z)]\nlambda *a, b=1: (yield)\n",
    "a = \\\n    b\r\nc = (\r\n    d,  # tail\r\n)\r\n",
    "match x:\n    case [1, *r] | {'k': v, **o} if g:\n        pass\n    case C(a, b=c) as d: pass\n",
    "ä = 'ü€𝄞'; b = ((ä))\n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_spans_equal_those_of_libcst(text: str) -> None:
    tree = Tree(text)
    positions = MetadataWrapper(tree.modules[0], unsafe_skip_copy=True).resolve(PositionProvider)
    for node in list(tree.nodes())[1:]:
        there = positions[node]
        begin = tree.source.offset(there.start.line, there.start.column)
        end = tree.source.offset(there.end.line, there.end.column)
        if isinstance(node, cst.BaseExpression) and node.lpar:
            assert tree.text(node)[0] == "("
            assert tree.text(node)[-1] == ")"
            assert Span(begin, end) in tree.span(node)
        else:
            assert tree.span(node) == Span(begin, end), tree.modules[0].code_for_node(node)


@pytest.mark.parametrize("text", ["(a)", "( a )", "((a))", "(  # why\n    a\n)", "(a, b)", "(a for a in b)", "(yield)"])
def test_parentheses_belong_to_an_expression(text: str) -> None:
    tree = Tree(f"def f():\n    x = {text}\n    y = z\n")
    assign = next(node for node in tree.nodes() if isinstance(node, cst.Assign))
    assert tree.text(assign.value) == text


def test_comments_and_decorators_around_a_statement() -> None:
    tree = Tree("# above\n@d\n# between\ndef f():\n    # inside\n    pass\n    # last\n# below\n")
    assert tree.text(tree.modules[0].body[0]).startswith(("@d", "def f"))
    assert "above" not in tree.text(tree.modules[0].body[0])
    assert "below" not in tree.text(tree.modules[0].body[0])


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("x = (\n", "AMP900", 1),
        ("a = 1\nprint 'x'\n", "AMP900", 2),
        ("def f():\nreturn\n", "AMP900", 2),
        ("a\0b\n", "AMP900", 1),
        ("x = " + "(" * 150 + "1" + ")" * 150 + "\n", None, 1),
        ("x = " + "-" * 1500 + "1\n", "AMP905", 1),
        ("x = " + "+".join(["1"] * 1500) + "\n", "AMP905", 1),
    ],
)
def test_unreadable(text: str, code: str | None, line: int) -> None:
    if code is None:
        assert Tree(text).modules[0].code == text
        return
    with pytest.raises(Unreadable) as caught:
        Tree(text, ["train.py"])
    assert (caught.value.code, caught.value.line) == (code, line)


def parse(text: str) -> tuple[Tree, dict[str, cst.CSTNode]]:
    """A tree, and its names by what they say (the last of each)."""
    tree = Tree(textwrap.dedent(text))
    return tree, {node.value: node for node in tree.nodes() if isinstance(node, cst.Name)}


NESTED = """
class C:
    @decorator
    def method(self, x=default):
        for i in outer_head:
            while inner_head:
                if test: one; two
                else: three
            after
        def nested():
            four
        return lambda: five
top
"""


def test_statements_and_blocks() -> None:
    tree, at = parse(NESTED)
    assert tree.text(blocks.small_statement_of(tree, at["two"])) == "two"
    assert isinstance(blocks.statement_of(tree, at["after"]), cst.SimpleStatementLine)
    assert isinstance(blocks.statement_of(tree, at["two"]), cst.If)
    assert isinstance(blocks.small_statement_of(tree, at["test"]), cst.If)
    assert blocks.block_of(tree, blocks.statement_of(tree, at["top"])) is tree.modules[0]
    branch = blocks.statement_of(tree, at["test"])
    assert [len(block.body) for block in blocks.blocks(branch)] == [2, 1]


def test_functions_and_classes() -> None:
    tree, at = parse(NESTED)

    def name(function: cst.CSTNode | None) -> str:
        return function.name.value if isinstance(function, cst.FunctionDef | cst.ClassDef) else "module"

    expected = {"one": "method", "four": "nested", "five": "method", "default": "module", "top": "module"}
    assert {key: name(blocks.function_of(tree, at[key])) for key in expected} == expected
    method, nested = blocks.function_of(tree, at["one"]), blocks.function_of(tree, at["four"])
    assert name(blocks.method_class(tree, method)) == "C"
    assert blocks.method_class(tree, nested) is None
    assert name(blocks.class_of(tree, nested)) == "C"
    assert blocks.method_class(tree, tree.modules[0]) is None


def test_loops_are_those_of_the_function_innermost_first() -> None:
    tree, at = parse(NESTED)
    kinds = {key: [type(loop).__name__ for loop in blocks.loops(tree, at[key])] for key in at}
    assert kinds["one"] == ["While", "For"]
    assert kinds["inner_head"] == ["For"]
    assert kinds["outer_head"] == kinds["four"] == kinds["five"] == kinds["top"] == []


def test_the_way_up_to_a_block() -> None:
    tree, at = parse(NESTED)
    loop = blocks.statement_of(tree, at["outer_head"])
    assert isinstance(loop, cst.For)
    body = loop.body
    assert isinstance(body, cst.IndentedBlock)
    path = [type(statement).__name__ for statement in blocks.path_to(tree, at["two"], body)]
    assert path == ["Expr", "If", "While"]
    assert blocks.stands_in(tree, at["two"], body) is body.body[0]
    assert blocks.stands_in(tree, at["top"], body) is None


@pytest.mark.parametrize(
    ("body", "leaves"), [("return", True), ("a; break", True), ("raise E", True), ("a", False), ("if a: return", False)]
)
def test_leaves(body: str, leaves: bool) -> None:
    tree = Tree(f"def f():\n    while a:\n        {body}\n")
    loop = next(node for node in tree.nodes() if isinstance(node, cst.While))
    assert isinstance(loop.body, cst.IndentedBlock)
    assert blocks.leaves(loop.body) is leaves


def test_jumps_leave_out_those_of_inner_loops_and_functions() -> None:
    text = """
    while x:
        if a:
            continue
        for b in c:
            if d:
                break
            return
        else:
            break
        if e:
            def g():
                return
    """
    tree = Tree(textwrap.dedent(text))
    loop = tree.modules[0].body[0]
    assert isinstance(loop, cst.While)
    assert [type(jump).__name__ for jump in blocks.jumps(loop)] == ["Return"]
    inside = [type(jump).__name__ for statement in loop.body.body for jump in blocks.jumps(statement)]
    assert inside == ["Continue", "Return", "Break"]
