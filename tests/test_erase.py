"""AMP out of hand-written code and out of conversions, text in and text out."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampify.rewrite.cut import comments
from ampify.rewrite.erase import EraseFailed, Hints, erase_text
from ampify.source.text import Span

LOOPS = sorted((Path(__file__).parent.parent / "fixtures" / "loops").glob("*.py"))

CASES = {
    "the tutorial": (
        """
        import torch
        from torch.cuda.amp import GradScaler, autocast

        use_amp = torch.cuda.is_available()
        scaler = GradScaler(enabled=use_amp)
        for x, y in loader:
            opt.zero_grad()
            with autocast(enabled=use_amp):
                # the forward pass
                out = model(x)
                loss = crit(out, y)
            scaler.scale(loss).backward()  # scaled
            scaler.step(opt)
            scaler.update()
        """,
        """
        import torch

        for x, y in loader:
            opt.zero_grad()
            # the forward pass
            out = model(x)
            loss = crit(out, y)
            loss.backward()  # scaled
            opt.step()
        """,
    ),
    "a context in a name": (
        """
        import torch
        from contextlib import nullcontext
        device_type = "cuda" if "cuda" in device else "cpu"
        ctx = nullcontext() if device_type == "cpu" else torch.amp.autocast(device_type=device_type, dtype=ptdtype)
        scaler = torch.cuda.amp.GradScaler(enabled=(dtype == "float16"))

        @torch.no_grad()
        def estimate_loss():
            with ctx:
                logits, loss = model(X, Y)
            return loss

        while True:
            for micro_step in range(steps):
                with ctx:
                    logits, loss = model(X, Y)
                    loss = loss / steps
                X, Y = get_batch("train")
                scaler.scale(loss).backward()
            if grad_clip != 0.0:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
            # step the optimizer and scaler if training in fp16
            scaler.step(optimizer)
            scaler.update()
        """,
        """
        import torch
        from contextlib import nullcontext
        device_type = "cuda" if "cuda" in device else "cpu"

        @torch.no_grad()
        def estimate_loss():
            logits, loss = model(X, Y)
            return loss

        while True:
            for micro_step in range(steps):
                logits, loss = model(X, Y)
                loss = loss / steps
                X, Y = get_batch("train")
                loss.backward()
            if grad_clip != 0.0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
            # step the optimizer and scaler if training in fp16
            optimizer.step()
        """,
    ),
    "branches that become the same": (
        """
        import torch
        scaler = torch.amp.GradScaler() if args.amp else None
        for x, y in loader:
            with torch.autocast("cuda", enabled=scaler is not None):
                loss = crit(model(x), y)
            if scaler is not None:
                scaler.scale(loss).backward()
                scaler.step(opt)
                scaler.update()
            else:
                loss.backward()
                opt.step()
        """,
        """
        import torch
        for x, y in loader:
            loss = crit(model(x), y)
            loss.backward()
            opt.step()
        """,
    ),
    "branches that stay different": (
        """
        import torch
        scaler = torch.amp.GradScaler()
        for x, y in loader:
            if use_amp:
                with torch.autocast("cuda"):
                    loss = crit(model(x), y)
                scaler.scale(loss).backward()
                scaler.step(opt)
                scaler.update()
            else:
                loss = crit(model(x), y)
                loss.backward()
                clip(model)
                opt.step()
        """,
        """
        import torch
        for x, y in loader:
            if use_amp:
                loss = crit(model(x), y)
                loss.backward()
                opt.step()
            else:
                loss = crit(model(x), y)
                loss.backward()
                clip(model)
                opt.step()
        """,
    ),
    "several items": (
        """
        import torch
        with torch.no_grad(), torch.autocast("cuda"):
            a = f(x)
        with torch.autocast("cuda"), torch.no_grad():
            a = f(x)
        with (
            torch.no_grad(),  # no graph
            torch.autocast("cuda"),  # half
            open(p) as file,
        ):
            a = f(x)
        """,
        """
        import torch
        with torch.no_grad():
            a = f(x)
        with torch.no_grad():
            a = f(x)
        with (
            torch.no_grad(),  # no graph
            # half
            open(p) as file,
        ):
            a = f(x)
        """,
    ),
    "decorators and a region in a function": (
        '''
        import torch

        class Net(torch.nn.Module):
            @torch.autocast("cuda")  # cast
            def forward(self, x):
                with torch.autocast("cuda", enabled=False):
                    text = """
            not indented
                """
                    y = self.a(
                x)
                    # last
                return y
        ''',
        '''
        import torch

        class Net(torch.nn.Module):
            # cast
            def forward(self, x):
                text = """
            not indented
                """
                y = self.a(
            x)
                # last
                return y
        ''',
    ),
    "one-line suites and semicolons": (
        """
        import torch
        scaler = torch.GradScaler()
        with torch.autocast("cuda"): loss = f(x); g(loss)
        scaler.scale(loss).backward(); scaler.step(opt); scaler.update()
        if done: scaler.unscale_(opt); clip(); scaler.step(opt); scaler.update()
        if done: scaler.update()
        for p in ps: scaler.unscale_(p)
        scaler.update(); a = 1; scaler.update()
        """,
        """
        import torch
        loss = f(x); g(loss)
        loss.backward(); opt.step()
        if done: clip(); opt.step()
        for p in ps: pass
        a = 1
        """,
    ),
    "expressions that need parentheses": (
        """
        import torch
        scaler = torch.GradScaler()
        scaler.scale(a + b).backward()
        scaler.scale([a, b])[0].backward()
        scaler.scale(
            a
            + b  # both
        ).backward(retain_graph=True)
        scaler.scale(
            crit(a, b)
            .mean()
        ).backward()
        g = torch.autograd.grad(outputs=scaler.scale(a + b), inputs=x)
        loss = scaler.scale(loss)
        loss = scaler.scale(loss) if use else loss
        scaler.step(opt if first else other)
        scaler.step(opts[0], closure)
        scaler.step(
            opt,
        )
        """,
        """
        import torch
        (a + b).backward()
        [a, b][0].backward()
        (a
            + b  # both
        ).backward(retain_graph=True)
        (crit(a, b)
            .mean()).backward()
        g = torch.autograd.grad(outputs=a + b, inputs=x)
        (opt if first else other).step()
        opts[0].step(closure)
        opt.step()
        """,
    ),
    "checkpoints": (
        """
        import torch
        scaler = torch.GradScaler()
        torch.save({"model": m.state_dict(), "scaler": scaler.state_dict(), "epoch": 1}, path)
        ckpt = {
            "model": m.state_dict(),
            "amp": scaler.state_dict() if scaler else None,  # scale
        }
        ckpt["scaler"] = scaler.state_dict()
        dict(a=1, scaler=scaler.state_dict())
        # resume
        if scaler is not None and "scaler" in ckpt:
            scaler.load_state_dict(ckpt["scaler"])
        """,
        """
        import torch
        torch.save({"model": m.state_dict(), "epoch": 1}, path)
        ckpt = {
            "model": m.state_dict(),  # scale
        }
        dict(a=1)
        # resume
        """,
    ),
    "parameters and arguments": (
        """
        import torch

        def train(model, opt, *, scaler=None):
            step(opt, scaler)

        def step(
            opt,
            scaler,  # for half
        ):
            scaler.step(opt)
            scaler.update()

        class Trainer:
            def __init__(self, opt, scaler: torch.amp.GradScaler):
                self.opt = opt
                self.scaler = scaler

            def run(self):
                self.scaler.step(self.opt)
                self.scaler.update()

        scaler = torch.GradScaler()
        train(model, opt, scaler=scaler)
        Trainer(opt, scaler).run()
        """,
        """
        import torch

        def train(model, opt):
            step(opt)

        def step(
            opt,  # for half
        ):
            opt.step()

        class Trainer:
            def __init__(self, opt):
                self.opt = opt

            def run(self):
                self.opt.step()

        train(model, opt)
        Trainer(opt).run()
        """,
    ),
    "a scaler that is still wanted": (
        """
        import torch
        def train(opt, scaler):
            scaler.step(opt)
            log(scale=scaler.get_scale())
        scaler = torch.GradScaler()
        train(opt, scaler)
        """,
        """
        import torch
        def train(opt, scaler):
            opt.step()
            log(scale=scaler.get_scale())
        scaler = torch.GradScaler()
        train(opt, scaler)
        """,
    ),
    "guarded schedulers": (
        """
        import torch
        scaler = torch.GradScaler()
        for x in loader:
            scale_before = scaler.get_scale()
            scaler.step(opt)
            scaler.update()
            if scaler.get_scale() >= scale_before:  # not skipped
                scheduler.step()
            skipped = scale_before > scaler.get_scale()
            if not skipped:
                warmup.step()
            if skipped:
                count()
        """,
        """
        import torch
        for x in loader:
            opt.step()
            # not skipped
            scheduler.step()
            warmup.step()
        """,
    ),
    "gradient penalty": (
        """
        import torch
        scaler = torch.GradScaler()
        scaled = torch.autograd.grad(scaler.scale(loss), ps, create_graph=True)
        inv_scale = 1.0 / scaler.get_scale()
        grads = [g * inv_scale for g in scaled]
        grads = [g * inv_scale for g in grads]
        grad = grad * (1.0 / scaler.get_scale())
        grad /= scaler.get_scale()
        """,
        """
        import torch
        scaled = torch.autograd.grad(loss, ps, create_graph=True)
        grads = [g for g in scaled]
        """,
    ),
    "a bound that is scaled": (
        """
        import torch
        scaler = torch.GradScaler()
        scaler.scale(loss).backward()
        torch.nn.utils.clip_grad_norm_(ps, max_norm * scaler.get_scale())
        torch.nn.utils.clip_grad_value_(ps, scaler.get_scale() * 0.5)
        bound *= scaler.get_scale()
        """,
        """
        import torch
        loss.backward()
        torch.nn.utils.clip_grad_norm_(ps, max_norm)
        torch.nn.utils.clip_grad_value_(ps, 0.5)
        """,
    ),
    "empty blocks": (
        """
        import torch
        scaler = torch.GradScaler()
        if amp:
            # about scaling
            scaler.update()  # now
        else:
            scaler.update()
        try:
            scaler.update()
        finally:
            done()
        while next(it):
            scaler.update()
        if next(it):
            scaler.update()
        """,
        """
        import torch
        # about scaling
        # now
        try:
            pass
        finally:
            done()
        while next(it):
            pass
        if next(it):
            pass
        """,
    ),
    "switches in a class": (
        """
        import torch
        class T:
            def __init__(self, device):
                self.device_type = torch.device(device).type
                self.use_amp = self.device_type == "cuda"
                self.scaler = torch.amp.GradScaler(self.device_type, enabled=self.use_amp)
        """,
        """
        import torch
        class T:
            def __init__(self, device):
                pass
        """,
    ),
    "a switch as a parameter": (
        """
        import torch
        def compute_loss(model, batch, use_amp):
            with torch.autocast("cuda", enabled=use_amp):
                return model(batch)
        use_amp = device.type == "cuda"
        compute_loss(model, batch, use_amp)
        """,
        """
        import torch
        def compute_loss(model, batch):
            return model(batch)
        compute_loss(model, batch)
        """,
    ),
}


def program(text: str) -> str:
    return ast.dump(ast.parse(text))


@pytest.mark.parametrize("name", CASES)
def test_hand_written_amp(name: str) -> None:
    amp, plain = (dedent(text).lstrip("\n") for text in CASES[name])
    assert erase_text(amp) == plain
    assert erase_text(plain) == plain


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("final", [True, False])
def test_line_endings_and_final_newline(name: str, newline: str, final: bool) -> None:
    amp, plain = (dedent(text).lstrip("\n").replace("\n", newline) for text in CASES[name])
    amp = amp if final else amp.removesuffix(newline)
    assert program(erase_text(amp)) == program(plain)
    assert newline == "\n" or "\n" not in erase_text(amp).replace("\r\n", "")


@pytest.mark.parametrize("path", LOOPS, ids=lambda p: p.name)
def test_erasing_twice_changes_nothing_more(path: Path) -> None:
    once = erase_text(path.read_text("utf-8"))
    assert erase_text(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "from sklearn.preprocessing import StandardScaler\nscaler = StandardScaler()\nx = scaler.fit_transform(x)\n",
        "def f(scaler):\n    scaler.update(1)\n    return scaler.scale(3)\n",
        "ema.step(model)\nema.update()\n",
        "use_amp = device.type == 'cuda'\n",
        "if a:\n    f()\nelse:\n    f()\n",
        "import torch\nx = [g * inv_scale for g in gs]\n",
    ],
)
def test_code_without_amp_comes_back(text: str) -> None:
    assert erase_text(text) == text


def test_a_name_is_folded_into_the_use_that_follows() -> None:
    after = dedent("""
        import torch
        with torch.autocast("cuda"):
            output = D(real)  # real
        loss = bce(output.float(), ones)
        with torch.autocast("cuda"):
            output = D(fake)
        loss = bce(output.float(), ones)
        with torch.autocast("cuda"):
            output = a + b
        output.backward()
        """)
    floats = tuple(Span(i, i + 8) for i in range(len(after)) if after.startswith(".float()", i))
    assert erase_text(after, Hints(folds=("output",), floats=floats)) == dedent("""
        import torch
        # real
        loss = bce(D(real), ones)
        loss = bce(D(fake), ones)
        (a + b).backward()
        """)


def test_a_name_with_two_uses_is_not_folded() -> None:
    text = "import torch\nwith torch.autocast('cuda'):\n    loss = f(x)\nloss.backward()\nlog(loss)\n"
    assert "loss = f(x)\nloss.backward()" in erase_text(text, Hints(folds=("loss",)))


def test_only_a_float_is_taken_out_as_one() -> None:
    with pytest.raises(EraseFailed):
        erase_text("x = y.half()\n", Hints(floats=(Span(5, 12),)))


def test_an_import_goes_only_when_a_plan_added_it() -> None:
    text = "import torch\nwith torch.autocast('cuda'):\n    f(x)\n"
    assert erase_text(text) == "import torch\nf(x)\n"
    assert erase_text(text, Hints(imports=frozenset({(0, "import torch")}))) == "f(x)\n"


def test_a_parameter_known_from_another_file() -> None:
    text = "def run(opt, scaler):\n    train(opt, scaler)\n\nfrom lib import train\n"
    hints = Hints(carried=frozenset({"scaler"}))
    assert erase_text(text, hints) == "def run(opt):\n    train(opt)\n\nfrom lib import train\n"


TRAINING = """\
import torch
def run(opt, loss{param}):
    {step}
def main(opt, loss):
{made}    run(opt, loss{given})
"""
OTHER = """\
def step(loss, scaler=None):
    if scaler:
        loss = scaler.scale(loss)
    return loss
def own(loss):
    grad = torch.amp.GradScaler()
    show(grad.get_scale() if grad else 1)
    return step(loss, grad)
"""


def test_a_scaler_that_is_still_read_keeps_no_other_one() -> None:
    plain = TRAINING.format(param="", step="opt.step()", made="", given="")
    made = "    scaler = torch.amp.GradScaler()\n"
    mixed = TRAINING.format(param=", scaler", step="scaler.step(opt); scaler.update()", made=made, given=", scaler")
    assert erase_text(mixed) == plain
    kept = erase_text("import torch\n" + OTHER).removeprefix("import torch\n")
    assert "GradScaler" in kept
    assert erase_text(mixed + OTHER) == plain + kept


def test_unreadable_text() -> None:
    with pytest.raises(EraseFailed):
        erase_text("with torch.autocast(:\n")


STATEMENTS = st.sampled_from(
    [
        "a = f(x)  # note",
        "scaler.scale(a + b).backward()",
        "scaler.scale(a).backward()",
        "scaler.step(opt); scaler.update()",
        "scaler.unscale_(opt)  # now",
        's = """\n  data\n"""',
        "call(\n  1,  # one\n)",
        'state = {"m": m, "s": scaler.state_dict()}',
    ]
)


def indented(text: str) -> str:
    inside, lines = False, []
    for line in text.split("\n"):
        lines.append(line if inside or not line else "    " + line)
        inside ^= line.count('"""') % 2 == 1
    return "\n".join(lines)


def compound(blocks: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    heads = st.sampled_from(
        ["with torch.autocast('cuda'):  # half", "if flag:", "for i in n:", "with a, torch.autocast('cuda'):"]
    )
    nested = st.tuples(heads, blocks).map(lambda p: f"{p[0]}\n{indented(p[1])}")
    return st.lists(nested | STATEMENTS, min_size=1, max_size=4).map("\n".join)


def test_comments_of_what_goes_move_with_the_block_around() -> None:
    left = erase_text(
        """\
import torch
scaler = torch.GradScaler()
with torch.autocast("cuda"):
    call()
    if flag:
        scaler.unscale_(opt)  # one
    if flag:
        if flag:
            scaler.unscale_(opt)  # two
"""
    )
    assert left == "import torch\ncall()\n# one\n# two\n"


@given(st.recursive(STATEMENTS, compound, max_leaves=12))
def test_any_nesting(body: str) -> None:
    text = f"import torch\nscaler = torch.GradScaler()\n{body}\n"
    once = erase_text(text)
    assert "autocast" not in once
    assert "scaler" not in once
    assert erase_text(once) == once
    assert notes(once) == notes(text)


def notes(text: str) -> list[str]:
    return [text[c.start : c.end] for c in comments(text)]
