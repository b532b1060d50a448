"""What is compared, which statements changed, and which of them ran."""

from pathlib import Path

import pytest
from records import outcome

from ampify.config import ConfigError, Lookup, load
from ampify.verify.coverage import unverified, watched
from ampify.verify.project import requests
from ampify.verify.request import Request
from ampify.verify.sources import Nothing, Sources, find

PLAIN = (Path(__file__).parents[1] / "fixtures" / "quickstart" / "train.py").read_text("utf-8")
HELPER = "import torch\n\n\ndef seed():\n    torch.manual_seed(0)\n"
SIMPLE = """\
import torch

model = torch.nn.Linear(2, 1).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(9):
    optimizer.zero_grad()
    loss = model(torch.ones(1, 2).cuda()).sum()
    loss.backward()
    optimizer.step()
"""
LBFGS = """\
import torch

model = torch.nn.Linear(2, 1).cuda()
optimizer = torch.optim.LBFGS(model.parameters())


def closure():
    optimizer.zero_grad()
    loss = model(torch.ones(1, 2).cuda()).sum()
    loss.backward()
    return loss


optimizer.step(closure)
"""


def write(folder, **texts):
    paths = [folder / f"{name}.py" for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, "utf-8")
    return paths


class TestFind:
    def test_float32_code_is_compared_with_its_conversion(self, tmp_path):
        train, helper = write(tmp_path, train=PLAIN, helper=HELPER)
        found = find([train, helper], Lookup())
        assert (found.mode, found.reference, list(found.candidate)) == ("convert", {}, [train])
        assert "torch.amp.GradScaler" in found.candidate[train]

    def test_amp_code_is_compared_with_what_is_left_without(self, tmp_path):
        (train,) = write(tmp_path, train=PLAIN)
        converted = find([train], Lookup()).candidate[train]
        train.write_text(converted, "utf-8")
        found = find([train], Lookup())
        assert (found.mode, found.candidate, found.reference) == ("audit", {}, {train: PLAIN})

    def test_settings_decide_what_the_conversion_is(self, tmp_path):
        (train,) = write(tmp_path, train=SIMPLE)
        found = find([train], Lookup({"dtype": "bfloat16"}))
        assert "bfloat16" in found.candidate[train]
        assert "GradScaler" not in found.candidate[train]

    def test_refusals_are_told(self, tmp_path):
        (train,) = write(tmp_path, train=LBFGS)
        found = find([train], Lookup())
        assert isinstance(found, Nothing)
        assert "no training step can be converted" in found.reason
        assert any("AMP0" in why and place.path == str(train) for place, why in found.places)

    @pytest.mark.parametrize("text", [HELPER, "print(1)\n", "# ampify: skip-file\n" + PLAIN])
    def test_nothing_to_compare(self, tmp_path, text):
        found = find(write(tmp_path, train=text), Lookup())
        assert "there is no training step" in found.reason
        assert found.places == ()

    def test_files_that_cannot_be_read_are_left_out(self, tmp_path):
        (train,) = write(tmp_path, train=PLAIN)
        (tmp_path / "bytes.py").write_bytes(b"import torch\n\xff\n")
        found = find([tmp_path / "gone.py", tmp_path / "bytes.py", train], Lookup())
        assert list(found.candidate) == [train]


def changed(before, after):
    path = Path("/project/a.py")
    return [tuple(head) for head in Sources({path: before}, {path: after}).changed.get(path, ())]


class TestChanged:
    def test_inserted_and_replaced_lines(self):
        assert changed("a = 1\nb = 2\n", "a = 1\nnew = 0\nb = 3\n") == [(2,), (3,)]

    def test_indentation_alone_is_no_change(self):
        assert changed("a = 1\nb = 2\n", "with c:\n    a = 1\n    b = 2\n") == [(1,)]

    def test_a_line_inside_a_statement_is_that_statement(self):
        assert changed("f(\n    1,\n)\n", "f(\n    1,\n    2,\n)\n") == [(1, 2, 3, 4)]

    def test_heads_stand_for_themselves(self):
        before = "@d\ndef f(a):\n    return a\n"
        assert changed(before, "@d\ndef f(a, b):\n    return a\n") == [(1, 2)]
        assert changed("if a:\n    b()\n", "if c:\n    b()\n") == [(1,)]

    def test_what_leaves_no_trace_is_left_out(self):
        after = "# comment\n'doc'\n\nx: int\n\n\ndef f():\n    global y\n    y = 1\n"
        assert changed("\n", after) == [(7,), (9,)]

    def test_files_that_are_the_same_are_left_out(self):
        assert Sources({Path("/a.py"): "x\n"}, {Path("/a.py"): "x\n"}).changed == {}


class TestCoverage:
    PATH = Path("/project/a.py")
    SOURCES = Sources({PATH: "a()\n"}, {PATH: "a()\nb(\n    1,\n)\nc()\n"}, "given")

    def ran(self, *lines):
        return outcome({"k": "lines", str(self.PATH): list(lines)})

    def test_every_line_is_watched(self):
        assert watched(self.SOURCES) == {self.PATH: (2, 3, 4, 5)}

    def test_what_never_ran_is_not_verified(self):
        assert [(p.line, p.text) for p in unverified(self.SOURCES, [self.ran(5)])] == [(2, "b(")]
        assert [p.line for p in unverified(self.SOURCES, [outcome()])] == [2, 5]

    def test_any_line_of_a_statement_and_any_run_will_do(self):
        assert unverified(self.SOURCES, [self.ran(3), self.ran(5)]) == ()


class TestRequests:
    def project(self, folder, tables):
        (folder / "pyproject.toml").write_text(tables, "utf-8")
        (folder / "src").mkdir()
        return folder / "src"

    def test_tables_become_requests(self, tmp_path):
        below = self.project(
            tmp_path,
            '[[tool.ampify.verify]]\nscript = "train.py"\nargs = "--lr 1"\nsteps = 4\nnumerics = true\n'
            '[[tool.ampify.verify]]\nname = "gan"\nmodule = "pkg.gan"\nargs = ["a b"]\ncwd = "src"\n'
            'launch = "torchrun --nproc-per-node 2"\n',
        )
        first, second = requests(below)
        assert (first.script, first.args, first.steps, first.numerics) == (
            tmp_path / "train.py",
            ("--lr", "1"),
            4,
            True,
        )
        assert (first.title, first.cwd) == ("train.py --lr 1", tmp_path)
        assert (second.title, second.module, second.args, second.cwd) == ("gan", "pkg.gan", ("a b",), tmp_path / "src")
        assert second.launch == ("torchrun", "--nproc-per-node", "2")

    def test_options_take_precedence(self, tmp_path):
        below = self.project(tmp_path, '[[tool.ampify.verify]]\nscript = "a.py"\nsteps = 4\n')
        (request,) = requests(below, steps=6, unsafe_fixes=True, dtype="bfloat16")
        settings = request.settings(tmp_path / "a.py")
        assert (request.steps, settings.unsafe_fixes, settings.dtype) == (6, True, "bfloat16")

    def test_the_tables_do_not_disturb_the_settings(self, tmp_path):
        below = self.project(tmp_path, '[tool.ampify]\nselect = ["AMP1"]\n[[tool.ampify.verify]]\nscript = "a.py"\n')
        assert load(below).select == ("AMP1",)

    @pytest.mark.parametrize(
        ("tables", "words"),
        [
            ('[[tool.ampify.verify]]\nscripts = "a.py"\n', "unknown key `scripts`, did you mean `script`?"),
            ("[[tool.ampify.verify]]\nsteps = 4\n", "either a `script` or a `module`"),
            ('[[tool.ampify.verify]]\nscript = "a.py"\nmodule = "a"\n', "either a `script` or a `module`"),
            ('[[tool.ampify.verify]]\nscript = "a.py"\nsteps = true\n', "`steps` must be a number of steps"),
            ('[[tool.ampify.verify]]\nscript = "a.py"\ntimeout = 0\n', "`timeout` must be a number of seconds"),
            ('[[tool.ampify.verify]]\nscript = "a.py"\nbench = 1\n', "`bench` must be true or false"),
            ('[[tool.ampify.verify]]\nscript = "a.py"\ndtype = "half"\n', "one of float16, bfloat16"),
            ('[tool.ampify.verify]\nscript = "a.py"\n', "must be an array of tables"),
            ("[tool.ampify]\nverify = []\n", "`verify` is empty"),
            ("[tool.ampify]\n", "no script is given"),
        ],
    )
    def test_mistakes_are_told(self, tmp_path, tables, words):
        with pytest.raises(ConfigError) as raised:
            requests(self.project(tmp_path, tables))
        assert words in str(raised.value)

    def test_they_are_told_with_their_line(self, tmp_path):
        tables = '[tool.ampify]\n\n[[verify]]\n[[tool.ampify.verify]]\nscript = "a.py"\n\n[[tool.ampify.verify]]\n'
        tables = tables.replace("[[verify]]\n", "# two scripts\n") + 'script = "b.py"\n# few\nsteps = 1\n'
        with pytest.raises(ConfigError, match=r"pyproject\.toml:10: in `verify`: `steps` must be"):
            requests(self.project(tmp_path, tables))

    def test_a_request_names_one_program(self):
        with pytest.raises(ValueError, match="script or a module"):
            Request()

    def test_the_roots_are_the_folders_of_the_project(self, tmp_path):
        below = self.project(tmp_path, "")
        request = Request(script=Path("train.py"), cwd=below)
        assert request.roots == (below, tmp_path)
        assert request.path == below / "train.py"
