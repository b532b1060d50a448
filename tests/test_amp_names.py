"""The tables of the rules about names against the PyTorch at hand, and what the model knows of arguments."""

from __future__ import annotations

import textwrap
import warnings
from operator import attrgetter

import pytest
import torch

from ampify.config import Settings
from ampify.engine import check_text, fix_text
from ampify.rule import load, table

load()


def rule_table(name: str) -> dict:
    return table(str(next(r.page for r in load().values() if r.name == name)))


def codes(text: str, *wanted: str, **settings: object) -> list[tuple[str, int]]:
    """The findings of some rules as codes and lines."""
    text = textwrap.dedent(text).lstrip("\n")
    found = check_text(text, Settings(select=wanted, **settings), "example.py")
    return [(each.code, text.count("\n", 0, each.span.start) + 1) for each in found]


@pytest.mark.parametrize("module", ["torch.amp", "torch.cuda.amp", "torch.cpu.amp"])
def test_every_name_of_pytorch_is_known(module: str) -> None:
    names = {name for name in dir(attrgetter(module.removeprefix("torch."))(torch)) if not name.startswith("__")}
    assert names <= {*rule_table("unknown-amp-attribute")["modules"][module]}


def test_ghosts_do_not_exist() -> None:
    rows = rule_table("unknown-amp-attribute")
    for name in rows["ghosts"]:
        assert not any(hasattr(module, name) for module in (torch.amp, torch.cuda.amp, torch.cpu.amp))
    assert not hasattr(torch.autograd, "Optimizer")
    assert {m for m in dir(torch.amp.GradScaler) if not m.startswith("_")} == {*rows["scaler"]["methods"]}


def test_the_questions_about_autocast_and_their_successors_exist() -> None:
    rows = rule_table("deprecated-autocast-state-api")
    for names in (names for names in rows.values() if isinstance(names, dict)):
        assert all(hasattr(torch, name) for pair in names.items() for name in pair)


def test_the_questions_give_the_same_answers() -> None:
    for device, names in rule_table("deprecated-autocast-state-api").items():
        for old, new in names.items() if isinstance(names, dict) else ():
            if old.startswith(("get", "is")):
                with warnings.catch_warnings(action="ignore"):
                    assert getattr(torch, old)() == getattr(torch, new)(device)


def test_what_needs_a_newer_pytorch_exists_in_this_one() -> None:
    for api in rule_table("api-newer-than-minimum-torch")["api"]:
        for path in api["paths"]:
            assert attrgetter(path.removeprefix("torch."))(torch) is not None


@pytest.mark.parametrize(
    ("given", "reported"),
    [
        ("torch.device('cuda')", True),
        ("device", True),
        ("self.device", True),
        ("given", True),
        ("x.device", True),
        ("next(model.parameters()).device", True),
        ("here if on else device", True),
        ("device.type", False),
        ("text", False),
        ("either", False),
        ("lied", False),
        ("unknown", False),
        ("args.device", False),
        ("batch.device", False),
        ("loop", False),
        ("'cuda'", False),
        ("'cuda:0'", False),
        ("'gpu'", True),
        ("3", True),
        ("True", True),
        ("torch.float16", True),
    ],
)
def test_what_is_no_device_type(given: str, reported: bool) -> None:
    text = f"""
    import torch
    device = torch.device("cuda")
    here = device
    text = "cuda"
    class Trainer:
        def __init__(self):
            self.device = torch.device("cuda")
        def run(self, model, batch, unknown, given: torch.device, x: torch.Tensor, lied: torch.device = "cuda"):
            either = torch.device("cuda")
            either = either.type
            loop = turn
            turn = loop
            with torch.autocast({given}):
                model(x)
    """
    assert (codes(text, "AMP109") == [("AMP109", 13)]) is reported


def test_an_index_is_refused_by_old_versions_only() -> None:
    text = "import torch\nplace = 'cuda:1'\nwith torch.autocast(place): pass\n"
    assert codes(text, "AMP109") == []
    assert codes(text, "AMP109", target_torch=(2, 4)) == [("AMP109", 3)]


def test_a_probe_of_the_signature_is_a_version_switch() -> None:
    text = """
    import torch
    def enabled(device):
        try:
            return torch.is_autocast_enabled(device)
        except TypeError:
            return torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled()
    """
    assert codes(text, "AMP105", "AMP106", "AMP115", target_torch=(2, 0)) == []
    assert codes(text, "AMP105", "AMP106") == []


@pytest.mark.parametrize(
    "line",
    ["import triton", "from mine import _C", "from kernels import my_cuda", "torch.cuda.synchronize()", "model.cuda()"],
)
def test_code_for_cuda_alone_may_ask_about_cuda(line: str) -> None:
    text = "import torch\n{}\n\n\ndef mixed():\n    return torch.is_autocast_enabled()\n"
    assert codes(text.format(line), "AMP106") == []
    assert codes(text.format("on = torch.cuda.is_available()"), "AMP106") == [("AMP106", 6)]


def test_a_device_keeps_its_other_arguments() -> None:
    text = "import torch\na = torch.device('cuda', dtype=torch.half,)\nb = torch.device(dtype=torch.half,)\n"
    fixed, left = fix_text(text, Settings(select=("AMP111",), unsafe_fixes=True))
    assert fixed == "import torch\na = torch.device('cuda',)\nb = torch.device(dtype=torch.half,)\n"
    assert len(left) == 1


@pytest.mark.parametrize(
    ("scaler", "reported"),
    [("torch.amp.GradScaler()", True), ("NativeScaler()", False), ("torch.amp.GradScaler() if on else Mine()", False)],
)
def test_methods_are_those_of_a_scaler_of_pytorch(scaler: str, reported: bool) -> None:
    text = f"import torch\nfrom mine import Mine, NativeScaler\nscaler = {scaler}\nscaler.backward(loss)\n"
    assert (codes(text, "AMP110") == [("AMP110", 4)]) is reported


def test_a_subclass_may_have_more_methods() -> None:
    text = """
    import torch
    class Loud(torch.amp.GradScaler):
        def backward(self, loss): self.scale(loss).backward()
    scaler = Loud()
    scaler.backward(loss)
    """
    assert codes(text, "AMP110") == []


@pytest.mark.parametrize(
    "use",
    [
        "with context: pass",
        "leave(context)",
        "context.__exit__(None, None, None)",
        "def stop(): return context",
    ],
)
def test_a_context_that_is_used_again_may_be_left(use: str) -> None:
    text = "import torch\ncontext = torch.autocast('cuda'){}\ncontext.__enter__()\n{}\n"
    assert codes(text.format("", use), "AMP116") == []
    assert codes(text.format("", "other = 1"), "AMP116") == [("AMP116", 3)]


def test_the_result_of_entering_is_the_context() -> None:
    text = "import torch\ncontext = torch.autocast('cuda').__enter__()\n"
    assert codes(text, "AMP116") == [("AMP116", 2)]
    assert codes(text + "context.__exit__(None, None, None)\n", "AMP116") == []


@pytest.mark.parametrize(
    ("region", "reported"),
    [
        ('torch.autocast("cpu")', True),
        ("torch.cpu.amp.autocast()", True),
        ('torch.autocast("cuda")', False),
        ("torch.cuda.amp.autocast()", False),
        ('torch.autocast("cpu", enabled=False)', False),
        ("torch.autocast(device)", False),
        ('torch.autocast("cpu"), torch.autocast("cuda")', False),
        ("torch.no_grad()", False),
    ],
)
def test_where_a_function_is_applied(region: str, reported: bool) -> None:
    text = f"""
    import torch
    class Double(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cuda")
        def forward(ctx, x): return 2 * x
    double = Double.apply
    with {region}:
        double(x)
    """
    assert (codes(text, "AMP114") == [("AMP114", 4)]) is reported


def test_a_function_that_is_applied_elsewhere_too_is_left_alone() -> None:
    text = """
    import torch
    class Double(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cuda")
        def forward(ctx, x): return 2 * x
    with torch.autocast("cpu"):
        Double.apply(x)
    Double.apply(x)
    """
    assert codes(text, "AMP114") == []


RAISES = {
    "AMP109": """
        import torch
        device = torch.device("cpu")
        with torch.autocast(device):
            pass
    """,
    "AMP111": """
        import torch
        device = torch.device("cpu", dtype=torch.float16)
    """,
    "AMP112": """
        import torch
        x = torch.zeros(2, dtype=float16)
    """,
    "AMP113": """
        import torch
        with torch.cpu.amp.autocast:
            pass
    """,
    "AMP114": """
        import torch
        class Multiply(torch.autograd.Function):
            @staticmethod
            @torch.amp.custom_fwd(device_type="cuda")
            def forward(ctx, a, b):
                ctx.save_for_backward(a, b)
                return a @ b
            @staticmethod
            @torch.amp.custom_bwd(device_type="cuda")
            def backward(ctx, gradient):
                a, b = ctx.saved_tensors
                return gradient @ b.T, a.T @ gradient
        x = torch.ones(2, 2, requires_grad=True)
        with torch.autocast("cpu"):
            out = Multiply.apply(x, x)
        out.sum().backward()
    """,
}


@pytest.mark.parametrize(("code", "text"), RAISES.items(), ids=RAISES)
def test_code_that_raises_runs_after_the_fix(code: str, text: str) -> None:
    text = textwrap.dedent(text)
    with pytest.raises((TypeError, ValueError, NameError, AttributeError, RuntimeError)):
        exec(text, {})
    fixed, left = fix_text(text, Settings(select=(code, "AMP103"), unsafe_fixes=True))
    exec(fixed, {})
    assert not left
