"""Cheap walks and cheap questions give the answers of the dear ones: those of `ast`, `abc` and LibCST."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import libcst as cst
import pytest

from ampify.model.definitions import How
from ampify.model.flow import Flow
from ampify.model.options import Options
from ampify.syntax.blocks import bodies
from ampify.syntax.plain import kids, nodes
from ampify.syntax.tree import Tree
from ampify.syntax.walk import Kinds, walk, walk_scope

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures" / "quickstart").glob("*.py"))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name)
def test_walks_over_ast(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert nodes(tree) == [*ast.walk(tree)]
    assert all(kids(node) == [*ast.iter_child_nodes(node)] for node in ast.walk(tree))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name)
def test_nodes_are_instances_of_their_classes_and_of_no_others(path: Path) -> None:
    tree = Tree(path.read_text("utf-8"))
    kinds = {kind for node in tree.nodes() for kind in type(node).__mro__}
    for node in tree.nodes():
        assert {kind for kind in kinds if isinstance(node, kind)} == {*type(node).__mro__}


def test_nodes_are_equal_by_identity() -> None:
    one, other = cst.Name("a"), cst.Name("a")
    assert one != other
    assert {one: 1, other: 2} == {other: 2, one: 1}
    assert one.deep_equals(other)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name)
def test_nodes_by_kind(path: Path) -> None:
    tree = Tree(path.read_text("utf-8"))
    for kind in {type(node) for node in tree.nodes()}:
        assert tree.all(kind) == [node for node in tree.nodes() if type(node) is kind]
    assert tree.all(cst.Nonlocal) == []


def test_kinds_hold_for_derived_classes() -> None:
    comprehensions = Kinds(cst.BaseComp, cst.Call)
    assert comprehensions[cst.ListComp]
    assert comprehensions[cst.Call]
    assert not comprehensions[cst.Name]


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.name)
def test_code_of_functions(path: Path) -> None:
    module = Tree(path.read_text("utf-8")).modules[0]
    functions = [module, *(node for node in walk(module) if isinstance(node, cst.FunctionDef))]
    assert bodies(module)[0] == {function: [*walk_scope(function)] for function in functions}


RUNNING = """
    import argparse

    def parsed(parser, again):
        return parsed(parser, False) if again else parser.parse_args()

    def read():
        parser = argparse.ArgumentParser()
        parser.add_argument("--amp", action="store_true")
        return parser.parse_args()

    def main():
        args = read()
        same = args
        args = same
        other = read()
        train(other)

    def train(options):
        return options.amp
    """


def test_options_kept_in_what_is_made_of_itself_are_not_known() -> None:
    flow = Flow(Tree(textwrap.dedent(RUNNING)))
    options = Options(flow)
    (option,) = options.all
    kept = {place.path[0] for place in options.kept(option)}
    assert kept == {"other", "options"}


CALLS = """
    def first(x):
        return second(x)

    def second(y):
        return third(y) or first(y)

    def third(z):
        yield z

    first(1)
    """


def test_reach_of_calls() -> None:
    flow = Flow(Tree(textwrap.dedent(CALLS)))
    module, *functions = flow.functions
    names = {f.name.value: [*map(_name, flow.reachable(f))] for f in functions if isinstance(f, cst.FunctionDef)}
    assert names == {"first": ["second", "third"], "second": ["third", "first"], "third": []}
    assert [*map(_name, flow.reachable(module))] == ["first", "second", "third"]
    assert flow.generators == {functions[2]}
    given = [d for found in flow.definitions.values() for d in found if d.how is How.PARAM]
    passed = {d.place.path[0]: [flow.tree.text(value) for value in flow.passed(d)] for d in given}
    assert passed == {"x": ["y", "1"], "y": ["x"], "z": ["y"]}


def _name(function: cst.FunctionDef) -> str:
    return function.name.value
