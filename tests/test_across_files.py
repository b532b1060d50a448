"""What the model knows of one file by reading another: callees, bases, overridden methods, star imports."""

from __future__ import annotations

import libcst as cst
import pytest

from ampify.config import Settings
from ampify.engine import fix_text
from ampify.model.amp import AmpFacts
from ampify.model.flow import Flow
from ampify.rewrite.erase import erase_text
from ampify.source.text import SEAM
from ampify.syntax.blocks import abstract
from ampify.syntax.tree import Tree


def joined(**texts: str) -> Tree:
    """Files of one folder as one text."""
    return Tree(SEAM.join(texts.values()), [f"/p/{name}.py" for name in texts])


def callee(tree: Tree, text: str) -> cst.FunctionDef | None:
    """What the call that is written like this runs."""
    flow = Flow(tree)
    (found,) = [flow.callee(call) for call in flow.calls if tree.text(call) == text]
    return found


def test_a_name_through_two_star_imports() -> None:
    tree = joined(main="from outer import *\nf()\n", outer="from inner import *\n", inner="def f():\n    pass\n")
    found = callee(tree, "f()")
    assert found is not None
    assert tree.path(found) == "/p/inner.py"


def test_a_name_through_a_star_import_of_what_is_not_at_hand() -> None:
    main = "from lib import f, g, h\nf()\ng()\nh()\n"
    tree = joined(main=main, lib="from .inner import *\nfrom .outer import *\n", inner="def g():\n    pass\n")
    found = {tree.text(call): Flow(tree).names.imported(call.func) for call in Flow(tree).calls}
    assert found == {"f()": {"lib.f"}, "g()": set(), "h()": {"lib.h"}}


def test_a_name_that_is_not_in_the_version_at_hand() -> None:
    main = "from lib import f, g\nimport lib\nf()\ng()\nlib.sub.h()\n"
    tree = joined(main=main, lib="from .inner import g\n", inner="def g():\n    pass\n")
    found = {tree.text(call): Flow(tree).names.imported(call.func) for call in Flow(tree).calls}
    assert found == {"f()": {"lib.f"}, "g()": set(), "lib.sub.h()": {"lib.sub.h"}}


def test_a_name_imported_in_every_branch() -> None:
    imports = "if a:\n    from b import f\nelse:\n    from b import f\n"
    found = callee(joined(main=f"{imports}f()\n", b="def f():\n    pass\n"), "f()")
    assert found is not None
    assert found.name.value == "f"


def test_a_name_imported_from_two_files() -> None:
    imports = "if a:\n    from b import f\nelse:\n    from c import f\n"
    function = "def f():\n    pass\n"
    assert callee(joined(main=f"{imports}f()\n", b=function, c=function), "f()") is None


def test_a_file_has_the_same_scopes_whatever_it_is_read_with() -> None:
    alone, beside = Tree("def f(x):\n    return x\n"), joined(a="def f(x):\n    return x\n", b="from a import f\n")
    assert alone.names.inner[alone.modules[0]] is beside.names.inner[beside.modules[0]]


def test_an_object_of_a_class_that_is_named_with_its_module() -> None:
    tree = joined(main="import b\nx = b.C()\nx.f()\n", b="class C:\n    def f(self):\n        pass\n")
    found = callee(tree, "x.f()")
    assert found is not None
    assert tree.path(found) == "/p/b.py"


def test_star_imports_that_go_round_in_circles() -> None:
    tree = joined(a="from b import *\nf()\n", b="from a import *\n")
    assert callee(tree, "f()") is None


BASE = "class Base:\n    def fit(self):\n        self.loss()\n    def loss(self):\n        {}\n"
OWN = "from base import Base\nclass {}(Base):\n    def loss(self):\n        return 1\n"


def test_a_method_that_is_left_to_the_only_subclass() -> None:
    tree = joined(base=BASE.format("raise NotImplementedError"), own=OWN.format("Own"))
    found = callee(tree, "self.loss()")
    assert found is not None
    assert tree.path(found) == "/p/own.py"


@pytest.mark.parametrize(
    ("body", "subclasses"), [("raise NotImplementedError", ["One", "Other"]), ("return 0", ["One"])]
)
def test_of_several_subclasses_or_beside_a_default_none_is_taken(body: str, subclasses: list[str]) -> None:
    tree = joined(base=BASE.format(body), **{name: OWN.format(name) for name in subclasses})
    found = callee(tree, "self.loss()")
    assert found is not None
    assert tree.path(found) == "/p/base.py"


@pytest.mark.parametrize(
    ("body", "is_abstract"),
    [
        ("    pass\n", True),
        ("    'Doc.'\n    ...\n", True),
        ("    raise NotImplementedError('loss')\n", True),
        ("    if x:\n        raise NotImplementedError\n", False),
        ("    raise ValueError\n", False),
        ("    return None\n", False),
    ],
)
def test_abstract(body: str, is_abstract: bool) -> None:
    (function,) = Tree(f"def f(x):\n{body}").modules[0].body
    assert isinstance(function, cst.FunctionDef)
    assert abstract(function) is is_abstract


MAIN = "import torch\nfrom hand import on\nscaler = torch.amp.GradScaler()\non(scaler)\n"
HAND = "from last import step\ndef on(gauge):\n    step(gauge)\n"
LAST = "def step(thing):\n    pass\n"


def test_a_scaler_is_one_in_every_file_that_hands_it_on() -> None:
    tree = joined(main=MAIN, hand=HAND, last=LAST)
    assert {p.name.value for p in AmpFacts(tree).parameters} == {"gauge", "thing"}


def test_a_scaler_that_is_only_handed_on_is_erased_everywhere() -> None:
    tree = joined(main=MAIN, hand=HAND, last=LAST)
    erased = erase_text(tree.source.text, paths=tree.paths).split(SEAM)
    assert erased == [
        "import torch\nfrom hand import on\non()\n",
        "from last import step\ndef on():\n    step()\n",
        "def step():\n    pass\n",
    ]


TRAINER = """\
import torch


class Base:
    def __init__(self, model):
        self.model = model
        {before}self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(self, x):
        self.optimizer.zero_grad()
        loss = self.model(x.to(self.device)).mean()
        loss.backward()
        self.optimizer.step()

    def choose(self):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Own(Base):
    def __init__(self, model):
        super().__init__(model)
        self.choose()


own = Own(torch.nn.Linear(2, 1))
own.step(torch.randn(3, 2))
"""


@pytest.mark.parametrize(
    ("before", "made"),
    [
        ("", 'self.scaler = torch.amp.GradScaler("cuda", enabled=self.use_amp)'),
        ("self.choose()\n        ", "self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.use_amp)"),
    ],
    ids=["set afterwards", "set before"],
)
def test_a_constructor_reads_no_attribute_that_is_set_later(before: str, made: str) -> None:
    after, _ = fix_text(TRAINER.format(before=before), Settings())
    assert made in after


def test_a_name_that_is_a_module_and_then_what_it_makes() -> None:
    tree = joined(main="import model\nmodel = model.Net()\n", model="class Net:\n    pass\n")
    (call,) = [node for node in tree.nodes() if isinstance(node, cst.Call)]
    assert tree.names.imported(call.func) == {"model.Net"}


def test_the_last_line_of_a_file_without_a_newline_is_erased() -> None:
    first = 'import torch\nscaler = torch.amp.GradScaler("cuda")\nif a:\n    b()\n    scaler.load_state_dict(c)'
    both = SEAM.join((first, "import a\nx = 1\n"))
    assert erase_text(both, paths=("/p/a.py", "/p/b.py")) == SEAM.join(
        ("import torch\nif a:\n    b()\n", "import a\nx = 1\n")
    )
