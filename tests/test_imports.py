"""Edits of imports: what is needed comes, what nobody needs goes, the rest stays as it is."""

from __future__ import annotations

import ast

import libcst as cst
import pytest

from ampify.rewrite.imports import drop, need
from ampify.source.edits import splice
from ampify.syntax.tree import Tree


def at(tree: Tree) -> cst.CSTNode:
    return next(node for node in tree.nodes() if isinstance(node, cst.Name) and node.value == "HERE")


NEEDED = {
    "there": ("import torch\nHERE\n", "torch", None),
    "there under another name": ("import torch as th\nHERE\n", "th", None),
    "there if installed": ("try:\n    import torch\nexcept ImportError:\n    torch = None\nHERE\n", "torch", None),
    "empty head": ("HERE\n", "torch", "import torch\nHERE\n"),
    "comment": ("#!/usr/bin/env python\n# c\nHERE\n", "torch", "#!/usr/bin/env python\n# c\nimport torch\nHERE\n"),
    "docstring": ("'''Doc.'''\nHERE\n", "torch", "'''Doc.'''\nimport torch\nHERE\n"),
    "future": (
        "'''Doc.'''\nfrom __future__ import annotations\nHERE\n",
        "torch",
        "'''Doc.'''\nfrom __future__ import annotations\nimport torch\nHERE\n",
    ),
    "after its relatives": (
        "import os\nfrom torch import nn  # layers\nimport sys\nHERE\n",
        "torch",
        "import os\nfrom torch import nn  # layers\nimport torch\nimport sys\nHERE\n",
    ),
    "after the others": ("import os\n\nx = 1\nHERE\n", "torch", "import os\nimport torch\n\nx = 1\nHERE\n"),
    "a prefix is no relative": (
        "import torchvision\nimport os\nHERE\n",
        "torch",
        "import torchvision\nimport os\nimport torch\nHERE\n",
    ),
    "never inside try": (
        "import os\ntry:\n    from torch import nn\nexcept ImportError:\n    nn = None\nHERE\n",
        "torch",
        "import os\nimport torch\ntry:\n    from torch import nn\nexcept ImportError:\n    nn = None\nHERE\n",
    ),
    "for type checkers only": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nHERE\n",
        "torch",
        "from typing import TYPE_CHECKING\nimport torch\nif TYPE_CHECKING:\n    import torch\nHERE\n",
    ),
    "above what runs": (
        "import os\ndef f():\n    HERE\nf()\nfrom torch import nn\n",
        "torch",
        "import os\nimport torch\ndef f():\n    HERE\nf()\nfrom torch import nn\n",
    ),
    "local elsewhere": (
        "def f():\n    import torch\ndef g():\n    HERE\n",
        "torch",
        "import torch\ndef f():\n    import torch\ndef g():\n    HERE\n",
    ),
    "hidden": (
        "import os\ndef f(torch):\n    HERE\n",
        "_torch",
        "import os\nimport torch as _torch\ndef f(torch):\n    HERE\n",
    ),
    "several lines": (
        "from torch import (\n    nn,\n)\nHERE\n",
        "torch",
        "from torch import (\n    nn,\n)\nimport torch\nHERE\n",
    ),
    "carriage returns": ("import os\r\nHERE\r\n", "torch", "import os\r\nimport torch\r\nHERE\r\n"),
    "no final newline": ("HERE; import os", "torch", "HERE; import os\nimport torch"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "spelled", "after"), NEEDED.values(), ids=NEEDED)
def test_need(text: str, spelled: str, after: str | None) -> None:
    tree = Tree(text)
    name, edits = need(tree, "torch", at(tree))
    assert name == spelled
    assert splice(text, edits) == (text if after is None else after)


@pytest.mark.parametrize(
    ("text", "spelled", "after"),
    [
        ("import torch\nHERE\n", "torch.amp.GradScaler", None),
        ("from torch import amp\nHERE\n", "amp.GradScaler", None),
        ("from torch.amp import autocast\nHERE\n", "GradScaler", "from torch.amp import autocast, GradScaler\nHERE\n"),
        (
            "from torch.amp import (\n    autocast,  # region\n)\nHERE\n",
            "GradScaler",
            "from torch.amp import (\n    autocast, GradScaler,  # region\n)\nHERE\n",
        ),
        (
            "from torch.amp import autocast\ndef f(GradScaler):\n    HERE\n",
            "torch.amp.GradScaler",
            "from torch.amp import autocast\nimport torch\ndef f(GradScaler):\n    HERE\n",
        ),
        (
            "from .torch.amp import autocast\nHERE\n",
            "torch.amp.GradScaler",
            "from .torch.amp import autocast\nimport torch\nHERE\n",
        ),
    ],
)
def test_need_of_a_longer_path(text: str, spelled: str, after: str | None) -> None:
    tree = Tree(text)
    name, edits = need(tree, "torch.amp.GradScaler", at(tree))
    assert name == spelled
    assert splice(text, edits) == (text if after is None else after)


DROPPED = {
    "alone": ("from a import x\ny\n", "y\n"),
    "alone with a comment": ("from a import x  # noqa\ny\n", "y\n"),
    "first": ("from a import x, y\n", "from a import y\n"),
    "last": ("from a import y, x  # both\n", "from a import y  # both\n"),
    "under another name": ("from a import y, x as x2, z\n", None),
    "middle": ("from a import y, x, z\n", "from a import y, z\n"),
    "other name": ("from a import y as x, z\n", "from a import z\n"),
    "own line": ("from a import (\n    y,  # c\n    x,  # d\n    z\n)\n", "from a import (\n    y,  # c\n    z\n)\n"),
    "own last line": ("from a import (\n    y,\n    x\n)\n", "from a import (\n    y,\n)\n"),
    "shared line": ("from a import (\n    y, x,  # c\n    z,\n)\n", "from a import (\n    y,  # c\n    z,\n)\n"),
    "first in parentheses": ("from a import (x,\n               y)\n", "from a import (y)\n"),
    "last in parentheses": ("from a import (y,\n               x)\n", "from a import (y)\n"),
    "first of many": ("from a import (\n    x,\n    y)\n", "from a import (\n    y)\n"),
    "backslash": ("from a import y, \\\n    x\n", "from a import y\n"),
    "module": ("import x.y\n", ""),
    "module in a list": ("import os, x.y, sys\n", "import os, sys\n"),
    "module as": ("import a.b as x\nb\n", "b\n"),
    "after a semicolon": ("import os; from a import x\n", "import os\n"),
    "before a semicolon": ("from a import x; import os\n", "import os\n"),
    "carriage returns": ("from a import x\r\ny\r\n", "y\r\n"),
    "only statement of a block": ("if a:\n    from b import x\n", None),
    "in a block": ("if a:\n    from b import x\n    y\n", "if a:\n    y\n"),
    "used": ("from a import x\nx()\n", None),
    "used in a function": ("from a import x\ndef f():\n    return x.y\n", None),
    "attribute of another": ("from a import x\ny.x, f(x=1)\n", "y.x, f(x=1)\n"),
    "hidden": ("from a import x\ndef f(x):\n    return x\n", "def f(x):\n    return x\n"),
    "exported": ("from a import x\n__all__ = ['x']\n", None),
    "string annotation": ("from a import x\ny: 'list[x]'\n", None),
    "in running text": ("from a import x\ny('the x of it')\n", "y('the x of it')\n"),
    "re-exported": ("from a import x as x\n", None),
    "assigned too": ("from a import x\nx = 1\n", None),
    "conditional": ("try:\n    from a import x\nexcept E:\n    from b import x\n", None),
    "star": ("from a import *\n", None),
}


@pytest.mark.parametrize(("text", "after"), DROPPED.values(), ids=DROPPED)
def test_drop(text: str, after: str | None) -> None:
    tree = Tree(text)
    result = splice(text, drop(tree, "x", tree.modules[0]))
    assert result == (text if after is None else after)
    ast.parse(result)


def test_drop_of_what_only_changed_references_need() -> None:
    tree = Tree("from a import x\nx(x.y)\n")
    uses = [node for node in tree.nodes() if isinstance(node, cst.Name) and node.value == "x"][1:]
    assert drop(tree, "x", uses[0], uses[:1]) == ()
    assert splice(tree.source.text, drop(tree, "x", uses[0], uses)) == "x(x.y)\n"


def test_drop_of_a_local_import() -> None:
    tree = Tree("from a import x\nx\ndef f():\n    from b import x\n    HERE\n")
    assert splice(tree.source.text, drop(tree, "x", at(tree))) == "from a import x\nx\ndef f():\n    HERE\n"


def test_a_block_does_not_begin_with_what_parted_the_import_from_it() -> None:
    text = "def f(x):\n    from library import name\n\n    # note\n    HERE\n"
    tree = Tree(text)
    edits = drop(tree, "name", at(tree))
    assert splice(text, edits) == "def f(x):\n    # note\n    HERE\n"
