"""Names of a module, against LibCST's own scope analysis and by example."""

from __future__ import annotations

import textwrap

import libcst as cst
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from libcst.metadata import (
    ClassScope,
    ComprehensionScope,
    ExpressionContext,
    ExpressionContextProvider,
    FunctionScope,
    GlobalScope,
    ImportAssignment,
    MetadataWrapper,
    ParentNodeProvider,
    QualifiedNameProvider,
    QualifiedNameSource,
    ScopeProvider,
)

from ampify.syntax.names import Names, Scope
from ampify.syntax.walk import dotted, walk

SNIPPETS = {
    "import": "import torch\nx = torch.nn.Linear(1, 2)\n",
    "import dotted": "import torch.cuda.amp\ntorch.cuda.amp.autocast()\n",
    "import as": "import torch as th\nth.autocast('cuda')\n",
    "import dotted as": "import torch.cuda.amp as amp\namp.autocast()\n",
    "from": "from torch.cuda.amp import autocast, GradScaler as Scaler\nautocast()\nScaler()\n",
    "from module": "from torch import cuda\ncuda.amp.autocast()\n",
    "twice": "import torch\nimport torch.nn as nn, torch.optim as optim\nnn.Linear, optim.SGD, torch.ones\n",
    "try": "try:\n    from a import amp\nexcept ImportError:\n    from b import amp\namp.x\n",
    "try none": "try:\n    from apex import amp\nexcept ImportError as error:\n    amp = None\namp.x, error\n",
    "if": "import sys\nif sys.version_info:\n    from a import f\nelse:\n    from b import f\nf()\n",
    "local": "def f():\n    import torch\n    torch.ones(1)\ntorch.ones\n",
    "shadowed by parameter": "import torch\ndef f(torch, *torches, k=torch.a, **kw):\n    return torch.x, kw\n",
    "shadowed by assignment": "import torch\ndef f():\n    torch = 1\n    return torch\ntorch.x\n",
    "bound below": "import torch\ndef f():\n    print(torch.x)\n    torch = 2\n",
    "del": "import torch\ndel torch\ntorch.x\n",
    "nonlocal": "def f():\n    import b\n    def g():\n        nonlocal b\n        import a as b\n        return b.x\n",
    "global": "import torch\ndef f():\n    global torch\n    import a as torch\n    return torch.x\ntorch.y\n",
    "global declared below": "import a as x\ndef f():\n    def g():\n        x.one\n    global x\n    import b as x\n",
    "global in class": "import a as x\nclass C:\n    global x\n    import b as x\nx.y\n",
    "class scope": "import a as x\nclass C:\n    import b as x\n    y = x.one\n    def f(self):\n        x.two\n",
    "class comprehension": "import a as x\nclass C:\n    import b as x\n    y = [x.one for i in x.two]\n",
    "class bases": "import a, b\n@a.d(b.e)\nclass C(a.B, metaclass=b.M):\n    a = 1\n    z = a.x\n",
    "decorator": "import a\n@a.d\ndef a(a=a.default):\n    return a.x\n",
    "defaults": "import a\ndef f(x=a.one, *, y: a.T = a.two) -> a.R:\n    a = 1\n    return a.three\n",
    "annotation": "import a\nclass C:\n    a: a.T = a.v\nx: a.T\n",
    "lambda": "import a\nf = lambda x, a=a.default: a.x\ng = lambda y: a.z\n",
    "comprehension": "import a\n[a.x for a in a.items]\n[a.y for b in a.c for d in b.e if a.f]\n",
    "nested comprehension": "import a\n[[a.x for b in a.y] for a in a.z]\n{a.k: a.v for k in a.w}\n\n",
    "walrus hides": "import a\ndef f():\n    if (a := g()):\n        return a.x\n",
    "with": "import a\nwith a.f() as a, a.g() as (b, *c):\n    a.h, b.x, c.y\n",
    "except": "import a\ntry:\n    pass\nexcept a.E as a:\n    a.x\n",
    "for": "import a\nfor a, (b, *c) in a.items:\n    a.x, b.y, c.z\n",
    "augmented": "import a\ndef f():\n    a += a.x\n",
    "star": "from torch import *\nimport a\nautocast()\na.x\n",
    "relative": "from . import a\nfrom .b import c\nfrom ..d import e as f\na.x, c.y, f.z\n",
    "attribute target": "import a\na.b = 1\na.c[0] = 2\na.b.d\n",
    "keyword": "import a\nf(a=a.x, b=a)\n",
    "method": "import a\nclass C:\n    def a(self):\n        return a.x\n    def b(self):\n        return self.a\n",
    "async": "import a\nasync def f():\n    async with a.b as c:\n        async for d in a.e:\n            a.g(d)\n",
    "match": "import a, b, c, d\nmatch a.x:\n    case [b, *c]:\n        b.y, c.y\n    case {1: d.K, **a}:\n        a\n"
    "    case d.E(e=f) as g:\n        d.y, f.x, g.z\n",
}  # fmt: skip


KINDS = {
    GlobalScope: "module", ClassScope: "class", FunctionScope: "function", ComprehensionScope: "comprehension",
    cst.Module: "module", cst.ClassDef: "class", cst.FunctionDef: "function", cst.Lambda: "function",
}  # fmt: skip
IMPORTED = QualifiedNameSource.IMPORT


def kind(scope: object) -> str:
    return KINDS.get(type(scope.node if isinstance(scope, Scope) else scope), "comprehension")


def differences(text: str) -> list[str]:
    """Where Names and LibCST disagree on what a read name stands for, or on the scope that it is read in.

    LibCST's qualified names leave out what is bound below the place (and run again in a loop); its scopes do not.
    """
    wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
    contexts, scopes = wrapper.resolve(ExpressionContextProvider), wrapper.resolve(ScopeProvider)
    names, found = Names([wrapper.module]), []
    for node, context in contexts.items():
        if context is ExpressionContext.LOAD and (chain := dotted(node)) and is_reference(names, node):
            way = ".".join(chain)
            bound = [a for a in scopes[node][chain[0]] if isinstance(a, ImportAssignment)]
            theirs = {known.name for assignment in bound for known in assignment.get_qualified_names_for(way)}
            if names.imported(node) != theirs:
                found.append(f"{way}: {set(names.imported(node))} instead of {theirs}")
            if kind(scopes[node]) != kind(names.scope[node]):
                found.append(f"{way}: another scope")
    return found


def is_reference(names: Names, node: cst.CSTNode) -> bool:
    parent = names.parent[node]
    part = isinstance(parent, cst.Attribute | cst.ImportAlias | cst.ImportFrom | cst.NameItem)
    return not part and getattr(parent, "keyword", None) is not node


@pytest.mark.parametrize("text", SNIPPETS.values(), ids=SNIPPETS)
def test_names_agree_with_libcst(text: str) -> None:
    assert differences(text) == []


@pytest.mark.parametrize("text", SNIPPETS.values(), ids=SNIPPETS)
def test_qualified_names_of_libcst_are_among_ours(text: str) -> None:
    wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
    qualified, names = wrapper.resolve(QualifiedNameProvider), Names([wrapper.module])
    for node in wrapper.resolve(ExpressionContextProvider):
        if dotted(node) and is_reference(names, node):
            known = qualified.get(node, ())
            theirs = {name.name for name in (known() if callable(known) else known) if name.source is IMPORTED}
            assert theirs <= names.imported(node)


@pytest.mark.parametrize("text", SNIPPETS.values(), ids=SNIPPETS)
def test_parents_agree_with_libcst(text: str) -> None:
    wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
    parents, names = wrapper.resolve(ParentNodeProvider), Names([wrapper.module])
    assert all(names.parent[node] is parents.get(node) for node in walk(wrapper.module))


name = st.sampled_from("abc")
module = st.sampled_from(["p", "p.q", ".r"])
expression = st.recursive(
    st.one_of(name, st.builds("{}.x.y".format, name), st.just("1")),
    lambda inner: st.one_of(
        st.builds("(lambda {}, d={}: {})".format, name, inner, inner),
        st.builds("[{} for {} in {} if {}]".format, inner, name, inner, inner),
        st.builds("f({}={})".format, name, inner),
        st.builds("({}, {})".format, inner, inner),
    ),
    max_leaves=4,
)
simple = st.one_of(
    st.builds("import p.q as {}".format, name),
    st.builds("from {} import {}".format, module, name),
    st.builds("from {} import z as {}".format, module, name),
    st.builds("{} = [{}]".format, name, expression),
    st.builds("{}: {} = 1".format, name, expression),
    expression,
)
heads = st.one_of(
    st.builds("def {}({}, d={}):".format, name, name, expression),
    st.builds("def {}(_, d={}):\n    global {}".format, name, expression, name),
    st.builds("def {}(_, d={}):\n    nonlocal {}".format, name, expression, name),
    st.builds("class {}({}):".format, name, expression),
    st.builds("for {} in {}:".format, name, expression),
    st.builds("with {} as {}:".format, expression, name),
    st.builds("if {}:".format, expression),
)


def block(head: str, body: list[str]) -> str:
    return f"{head}\n" + textwrap.indent("\n".join(body), "    ")


statement = st.recursive(
    simple, lambda inner: st.builds(block, heads, st.lists(inner, min_size=1, max_size=4)), max_leaves=8
)
program = st.lists(statement, min_size=1, max_size=5).map("\n".join)


@given(program)
@settings(max_examples=150)
def test_generated_programs_agree_with_libcst(text: str) -> None:
    try:
        compile(text, "generated", "exec")
    except SyntaxError:
        reject()
    assert differences(text + "\n") == []


def at(module: cst.Module, mark: str = "HERE") -> cst.CSTNode:
    return next(node for node in walk(module) if isinstance(node, cst.Name) and node.value == mark)


def imported(text: str) -> set[str]:
    """What the last expression of a text stands for."""
    module = cst.parse_module(textwrap.dedent(text))
    last = [node for node in walk(module) if isinstance(node, cst.Expr)][-1]
    return set(Names([module]).imported(last.value))


def test_one_assignment_is_looked_through() -> None:
    assert imported("import torch\namp = torch.cuda.amp\namp.autocast\n") == {"torch.cuda.amp.autocast"}
    assert imported("import torch\nif (amp := torch.amp):\n    amp.autocast\n") == {"torch.amp.autocast"}
    assert imported("import torch as t\na = t.amp\nb = a\nb.autocast\n") == set(), "two assignments are too many"
    assert imported("import torch as t\na, b = t.amp, 1\na.autocast\n") == set(), "nor is a tuple taken apart"


def test_what_is_called_is_not_looked_through() -> None:
    assert imported("import torch\ntorch.ones(1).cuda\n") == set()
    assert imported("import torch\ntorch.nn['a'].b\n") == set()


def test_del_makes_a_name_local() -> None:
    assert imported("import torch\ndef f():\n    del torch\n    torch.x\n") == set()


def test_walrus_in_a_comprehension_binds_outside_of_it() -> None:
    assert imported("import a\ndef f():\n    [a := 1 for _ in b]\n    a.x\n") == set()


def test_nonlocal_names_what_an_outer_function_binds_below() -> None:
    text = "import a as x\ndef f():\n    def g():\n        nonlocal x\n        import b as x\n    x = 1\n    x.y\nx.z\n"
    assert imported(text) == {"a.z"}


def test_star_imports_leave_a_name_unknown() -> None:
    module = cst.parse_module("from torch import *\nimport os\nHERE, os\n")
    names, node = Names([module]), at(module)
    assert names.unknown("autocast", node)
    assert not names.unknown("os", node)
    assert not Names([plain := cst.parse_module("HERE\n")]).unknown("autocast", at(plain))


@pytest.mark.parametrize(
    ("text", "path", "spelled"),
    [
        ("import torch\nHERE\n", "torch.autocast", "torch.autocast"),
        ("import torch as th\nHERE\n", "torch.autocast", "th.autocast"),
        ("import torch.nn\nHERE\n", "torch.autocast", "torch.autocast"),
        ("import torch.nn as nn\nHERE\n", "torch.autocast", None),
        ("import torch\nfrom torch import amp\nHERE\n", "torch.amp.GradScaler", "amp.GradScaler"),
        ("from torch.amp import GradScaler as S\nHERE\n", "torch.amp.GradScaler", "S"),
        ("from torch import *\nHERE\n", "torch.autocast", None),
        ("import torchvision\nHERE\n", "torch.autocast", None),
        ("import torch\ndef f(torch):\n    HERE\n", "torch.autocast", None),
        ("def f():\n    import torch\nHERE\n", "torch.autocast", None),
        ("def f():\n    import torch\n    HERE\n", "torch.autocast", "torch.autocast"),
        ("class C:\n    import torch\n    def f(self):\n        HERE\n", "torch.autocast", None),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None\nHERE\n", "torch.autocast", None),
        ("if TYPE_CHECKING:\n    import torch\nHERE\n", "torch.autocast", None),
        ("if typing.TYPE_CHECKING:\n    pass\nelse:\n    import torch\nHERE\n", "torch.autocast", "torch.autocast"),
        ("import torch\ndel torch\nHERE\n", "torch.autocast", None),
    ],
)
def test_spell(text: str, path: str, spelled: str | None) -> None:
    module = cst.parse_module(text)
    assert Names([module]).spell(path, at(module)) == spelled


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("HERE\n", False),
        ("scaler = 1\nHERE\n", True),
        ("def f():\n    scaler = 1\nHERE\n", True),
        ("def f():\n    HERE\ndef g():\n    scaler = 1\n", False),
        ("scaler = 1\ndef f():\n    HERE\n", True),
        ("def f():\n    HERE\n    def g():\n        scaler = 1\n", True),
        ("def f():\n    HERE\n    return [0 for scaler in x]\n", True),
        ("class C:\n    scaler = 1\n    def f(self):\n        HERE\n", False),
        ("def f():\n    global scaler\n    scaler = 1\nHERE\n", True),
    ],
)
def test_taken(text: str, taken: bool) -> None:
    module = cst.parse_module(text)
    assert Names([module]).taken("scaler", [at(module)]) is taken


def test_a_name_that_others_bind_is_taken_where_it_is_used():
    module = cst.parse_module(
        "def train():\n    scaler.update()\n    x.other = f(another=1)\n\n\ndef serve():\n    pass\n"
    )
    train, serve = module.body
    names = Names([module])
    assert names.taken("scaler", [train])
    assert names.taken("scaler", [module])
    assert not names.taken("scaler", [serve])
    assert not names.taken("other", [train])
    assert not names.taken("another", [train])
