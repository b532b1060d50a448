"""References to APIs: which, how they are used, and what their arguments provably are."""

from __future__ import annotations

import textwrap

import pytest

from ampify.model.uses import ApiUse, How, Value, find_uses, looks_like_a_flag
from ampify.syntax.tree import Tree

HEAD = "import torch\nimport apex\nfrom torch.cuda.amp import autocast, GradScaler\nfrom torch import nn\n"


def uses(text: str, head: str = HEAD) -> list[ApiUse]:
    return list(find_uses(Tree(head + textwrap.dedent(text))))


def only(text: str, path: str, head: str = HEAD) -> ApiUse:
    [found] = [use for use in uses(text, head) if path in use.paths]
    return found


@pytest.mark.parametrize(
    ("text", "path", "how", "called"),
    [
        ("with autocast(): pass\n", "torch.cuda.amp.autocast", How.CALL, True),
        ("with autocast() as a, f(): pass\n", "torch.cuda.amp.autocast", How.CALL, True),
        ("x = torch.cuda.amp.GradScaler()\n", "torch.cuda.amp.GradScaler", How.CALL, True),
        ("@autocast()\ndef f(): pass\n", "torch.cuda.amp.autocast", How.DECORATOR, True),
        ("@autocast\ndef f(): pass\n", "torch.cuda.amp.autocast", How.DECORATOR, False),
        ("with autocast: pass\n", "torch.cuda.amp.autocast", How.CONTEXT, False),
        ("class A(GradScaler): pass\n", "torch.cuda.amp.GradScaler", How.BASE, False),
        ("class A(nn.Module, metaclass=M): pass\n", "torch.nn.Module", How.BASE, False),
        ("isinstance(x, GradScaler)\n", "torch.cuda.amp.GradScaler", How.INSTANCE_CHECK, False),
        ("isinstance(x, (int, GradScaler))\n", "torch.cuda.amp.GradScaler", How.INSTANCE_CHECK, False),
        ("isinstance(x, GradScaler | None)\n", "torch.cuda.amp.GradScaler", How.INSTANCE_CHECK, False),
        ("isinstance(GradScaler, type)\n", "torch.cuda.amp.GradScaler", How.OTHER, False),
        ("def f(s: GradScaler): pass\n", "torch.cuda.amp.GradScaler", How.ANNOTATION, False),
        ("def f() -> Optional[GradScaler]: pass\n", "torch.cuda.amp.GradScaler", How.ANNOTATION, False),
        ("x: GradScaler | None = None\n", "torch.cuda.amp.GradScaler", How.ANNOTATION, False),
        ("x = [GradScaler]\n", "torch.cuda.amp.GradScaler", How.OTHER, False),
        ("partial(autocast, enabled=True)\n", "torch.cuda.amp.autocast", How.OTHER, False),
        ("f(x=nn.ReLU)\n", "torch.nn.ReLU", How.OTHER, False),
        ("apex.amp.initialize(m)\n", "apex.amp.initialize", How.CALL, True),
    ],
)
def test_how(text: str, path: str, how: How, called: bool) -> None:
    use = only(text, path)
    assert (use.how, use.call is not None) == (how, called)


def test_only_references_count() -> None:
    head = "import torch\n"
    assert uses("x.torch, f(torch=1)\ndef g(torch): return torch.x\n", head) == []
    assert uses("from torch.cuda import amp\nimport torch.cuda.amp as b\n", head) == []
    assert [use.paths for use in uses("torch.ones(1).cuda().half\n", head)] == [{"torch.ones"}]


def test_star_imports_are_a_guess() -> None:
    [use] = uses("autocast()\nlocal = 1\nlocal.x\n", "from torch.cuda.amp import *\nfrom .other import *\n")
    assert use.paths == {"torch.cuda.amp.autocast", ".other.autocast"}
    assert use.conditional


def test_spans() -> None:
    use = only("x = (torch.cuda.amp.GradScaler)(1, *a, enabled=(b), **c)\n", "torch.cuda.amp.GradScaler")
    source = use.tree.source
    assert source[use.span] == "(torch.cuda.amp.GradScaler)"
    assert use.call is not None
    assert source[use.call] == "(torch.cuda.amp.GradScaler)(1, *a, enabled=(b), **c)"
    assert [source[argument.span] for argument in use.arguments] == ["1", "*a", "enabled=(b)", "**c"]
    assert [source[argument.value] for argument in use.arguments] == ["1", "a", "(b)", "c"]
    assert [(argument.keyword, argument.star) for argument in use.arguments] == [
        (None, ""), (None, "*"), ("enabled", ""), (None, "**"),
    ]  # fmt: skip


def test_what_the_file_puts_there_itself() -> None:
    found = uses("torch.cuda.amp.autocast = 1\ntorch.cuda.amp.autocast()\n", "import torch\n")
    assert [use.assigned for use in found] == [True, False]


@pytest.mark.parametrize(
    ("value", "literal"), [("'cuda'", "cuda"), ("'cu' 'da'", "cuda"), ("b'cuda'", None), ("f'cuda'", None), ("x", None)]
)
def test_plain_strings(value: str, literal: str | None) -> None:
    assert only(f"torch.autocast({value})\n", "torch.autocast").arguments[0].literal == literal


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("True", Value.BOOL),
        ("not x", Value.BOOL),
        ("x > 1", Value.BOOL),
        ("x > 1 and True", Value.BOOL),
        ("x and True", Value.UNKNOWN),
        ("torch.cuda.is_available()", Value.BOOL),
        ("bool(x)", Value.BOOL),
        ("on", Value.BOOL),
        ("flag", Value.BOOL),
        ("annotated", Value.BOOL),
        ("twice", Value.UNKNOWN),
        ("param", Value.UNKNOWN),
        ("args.use_amp", Value.UNKNOWN),
        ("1", Value.NUMBER),
        ("-1.5", Value.NUMBER),
        ("2.0**10", Value.NUMBER),
        ("2.0**n", Value.UNKNOWN),
        ("float(x)", Value.NUMBER),
        ("scale", Value.NUMBER),
        ("torch.float16", Value.DTYPE),
        ("dtype", Value.DTYPE),
        ("torch.bfloat16 if x else torch.float16", Value.DTYPE),
        ("torch.bfloat16 if x else None", Value.UNKNOWN),
        ("torch.float_power", Value.UNKNOWN),
        ("'cuda'", Value.STRING),
        ("f'cuda:{x}'", Value.STRING),
        ("None", Value.UNKNOWN),
    ],
)
def test_values(value: str, expected: Value) -> None:
    text = f"""
    on = True
    scale = 2.0 ** 10
    dtype = torch.bfloat16
    def f(param, annotated: bool):
        flag = param is None
        twice = True
        twice = param
        torch.autocast({value})
    """
    assert only(text, "torch.autocast", "import torch\n").arguments[0].is_a is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("args.use_amp", True), ("self.amp", True), ("fp16", True), ("enabled", True), ("cfg.mixed_precision", True),
        ("amp_enabled", True), ("amp_dtype", False), ("dtype", False), ("device", False), ("True", False),
        ("example", False), ("damp", False),
    ],
)  # fmt: skip
def test_names_that_sound_like_a_flag(name: str, expected: bool) -> None:
    assert looks_like_a_flag(only(f"torch.autocast({name})\n", "torch.autocast").arguments[0]) is expected


@pytest.mark.parametrize(
    ("text", "conditional", "switch"),
    [
        ("from torch.cuda.amp import autocast\nautocast()\n", False, False),
        ("try:\n    from torch.cuda.amp import autocast\nexcept:\n    autocast = None\nautocast()\n", True, False),
        ("try:\n    from torch.cuda.amp import autocast\nexcept ImportError:\n    pass\nautocast()\n", True, False),
        (
            "if a:\n    from torch.cuda.amp import autocast\nelse:\n    from b import autocast\nautocast()\n",
            True,
            False,
        ),
        ("import torch\nif a:\n    f = torch.cuda.amp.autocast\nelse:\n    f = g\nf()\n", True, False),
        (
            "import torch\nx = torch.amp.f() if mine._TORCH_GREATER_EQUAL_2_4 else torch.cuda.amp.autocast()\n",
            False,
            True,
        ),
        (
            "import torch\ntry:\n    torch.f('cuda')\nexcept TypeError:\n    torch.cuda.amp.autocast()\n",
            False,
            True,
        ),
        ("import torch\nif hasattr(torch.amp, 'x'):\n    1\nelse:\n    torch.cuda.amp.autocast()\n", False, True),
        ("import torch\nif torch.__version__ < '2':\n    torch.cuda.amp.autocast()\n", False, True),
        (
            "import torch\nOLD = version.parse(torch.__version__) < x\nif OLD:\n    torch.cuda.amp.autocast()\n",
            False,
            True,
        ),
        ("import torch\ntry:\n    1\nexcept AttributeError:\n    torch.cuda.amp.autocast()\n", False, True),
        ("import torch\ntry:\n    torch.cuda.amp.autocast()\nexcept Exception:\n    pass\n", False, False),
        ("import torch\nif args.version:\n    torch.cuda.amp.autocast()\n", False, False),
    ],
)
def test_what_depends_on_the_installation(text: str, conditional: bool, switch: bool) -> None:
    use = [use for use in uses(text, "") if use.call and "torch.cuda.amp.autocast" in use.paths][-1]
    assert (use.conditional, use.version_switch) == (conditional, switch)


def test_the_oldest_torch() -> None:
    [use] = find_uses(Tree("import torch\ntorch.ones\n"), (2, 2))
    assert use.supports((1, 10))
    assert not use.supports((2, 3))
    [newest] = find_uses(Tree("import torch\ntorch.ones\n"))
    assert newest.supports((9, 9))
