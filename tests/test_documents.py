"""Notebooks and Markdown: what is not a changed piece of code stays byte for byte, and the code is the same program."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from execution import assert_same, run
from hypothesis import example, given
from hypothesis import strategies as st

from ampify import engine
from ampify.config import Settings
from ampify.engine import Mode, Run, Wanted
from ampify.source import magics
from ampify.source.document import Located, Undecodable, Unwritable
from ampify.source.formats import decode

FIXTURES = Path(__file__).parents[1] / "fixtures"
PAIRS = sorted(path for path in FIXTURES.glob("*/*.amp.*") if path.suffix in (".ipynb", ".md"))
NOTEBOOKS = [path for path in PAIRS if path.suffix == ".ipynb"]


def before(path):
    return path.with_name(path.name.replace(".amp.", "."))


def named(path):
    return path.name


def checked(path, mode=Mode.REPORT, **settings):
    report = engine.check([path], Run(lambda _: Settings(**settings), mode))
    assert not report.errors
    return report


def places(report):
    return [(file.source.place(d.span.start).row, d.code) for file in report.files for d in file.diagnostics]


def notebook(*sources, **keys):
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | keys


def read(*sources, **keys):
    return decode(Path("a.ipynb"), json.dumps(notebook(*sources, **keys)).encode())


def text(*sources):
    (part,) = read(*sources).parts
    return part.text


def program(path):
    return "".join(part.text for part in decode(path, path.read_bytes()).parts)


# ---------------------------------------------------------------------- conversions


@pytest.mark.parametrize("expected", PAIRS, ids=named)
def test_the_conversion_is_what_the_fixture_says_and_a_second_run_changes_nothing(expected, tmp_path):
    copy = tmp_path / before(expected).name
    shutil.copy(before(expected), copy)
    checked(copy, Mode.WRITE)
    assert copy.read_bytes() == expected.read_bytes()
    checked(copy, Mode.WRITE)
    assert copy.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("expected", PAIRS, ids=named)
def test_erasing_gives_the_file_back(expected, tmp_path):
    copy = tmp_path / before(expected).name
    shutil.copy(expected, copy)
    report = engine.erase([copy], Run(mode=Mode.WRITE))
    assert not report.errors
    if expected.name == "guide.amp.md":  # one block of it makes a scaler, and is nothing without
        assert "scaler" not in re.sub("(?s)pycon.*", "", copy.read_text("utf-8"))
    else:
        assert copy.read_bytes() == before(expected).read_bytes()


@pytest.mark.parametrize("expected", NOTEBOOKS, ids=named)
@pytest.mark.parametrize("mode", ["off", "scaled", "full"])
def test_the_converted_notebook_trains_the_same(expected, mode):
    original, converted = run(program(before(expected))), run(program(expected), mode)
    assert original.log
    if mode == "full":
        assert converted.finite
        assert converted.regions
    else:
        assert_same(original, converted)


@pytest.mark.parametrize("expected", NOTEBOOKS, ids=named)
def test_nothing_but_the_sources_of_changed_cells_is_rewritten(expected):
    old, new = (json.loads(path.read_text("utf-8")) for path in (before(expected), expected))
    sheets = ((n["worksheets"][0] if n["nbformat"] == 3 else n)["cells"] for n in (old, new))
    changed = 0
    for one, other in zip(*sheets, strict=True):
        key = "input" if "input" in one else "source"
        changed += one[key] != other[key] if key in one else 0
        assert type(one.get(key)) is type(other.get(key))
        one.pop(key, None), other.pop(key, None)
    assert changed
    assert old == new


def test_outputs_and_markdown_of_a_converted_notebook_are_the_same_bytes():
    old, new = ((FIXTURES / "notebooks" / f"tutorial{amp}.ipynb").read_text("utf-8") for amp in ("", ".amp"))
    pieces = re.findall(
        r'"outputs": \[\n.*?\n   \]|"metadata": \{\n.*?\}|"source": \[\n    "%%bash.*?\n   \]', old, re.S
    )
    assert len(pieces) == 5
    assert all(piece in new for piece in pieces)
    assert "– in four cells" in new
    assert new.endswith("}\n")


def test_the_writing_of_strings_is_kept():
    new = (FIXTURES / "notebooks" / "split_step.amp.ipynb").read_bytes()
    assert b'"# Netz f\\u00fcr die \\u00dcbung\\nmodel' in new
    assert new.isascii()
    assert not new.endswith(b"\n")


def test_a_cell_that_is_not_read_may_call_what_would_change():
    report = checked(FIXTURES / "notebooks" / "hidden_caller.ipynb")
    assert places(report) == [("cell 2:2", "AMP017")]
    assert "`cell 4` calls it too" in report.files[0].diagnostics[0].message


def test_another_block_may_call_what_would_change(tmp_path):
    script = """import torch
def train(model, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x.cuda()), y)
        loss.backward()
        optimizer.step()
model = torch.nn.Linear(1, 1).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train(model, optimizer)
"""
    page = tmp_path / "a.md"
    page.write_text(f"```python\n{script}```\n")
    assert places(checked(page)) == [("4", "AMP001")]
    page.write_text(f"```python\n{script}```\nAgain:\n```python\ntrain(model, Adam(model.parameters()))\n```\n")
    assert places(checked(page)) == []


def test_a_region_does_not_go_over_the_border_of_cells():
    converted = program(FIXTURES / "notebooks" / "split_step.amp.ipynb")
    assert converted.count("with torch.autocast") == 2


# ---------------------------------------------------------------------- findings


def test_findings_name_cell_and_line_and_show_the_lines_of_the_cell(tmp_path, capsys):
    from ampify.cli import main

    path = tmp_path / "train.ipynb"
    path.write_text(json.dumps(notebook("import torch\n", ["!ls\n", "%time\n", "torch.cuda.amp.GradScaler()"])))
    with pytest.raises(SystemExit):
        main([str(path), "--output-format", "text"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert f"--> {path}:cell 2:3:1\n" in shown
    assert "1 | !ls\n2 | %time\n3 | torch.cuda.amp.GradScaler()\n" in shown
    assert "import torch" not in shown
    with pytest.raises(SystemExit):
        main([str(path), "--output-format", "json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)["diagnostics"][0]
    assert found["start"] == {"cell": 2, "line": 3, "column": 1}


def test_the_diff_goes_by_cells(tmp_path, capsys):
    from ampify.cli import main

    path = tmp_path / "train.ipynb"
    path.write_text(json.dumps(notebook("import torch\n", "%%time\nscaler = torch.cuda.amp.GradScaler()")))
    with pytest.raises(SystemExit):
        main([str(path), "--diff"], standalone_mode=False)
    head, old, *_ = capsys.readouterr().out.partition("-scaler")
    assert head == f"--- {path}:cell 2\n+++ {path}:cell 2\n@@ -1,2 +1,2 @@\n %%time\n"
    assert old


def test_ignores_work_in_cells_and_skip_file_in_any(tmp_path):
    path = tmp_path / "train.ipynb"
    bad = "torch.cuda.amp.GradScaler()"
    path.write_text(json.dumps(notebook("import torch", f"{bad}  # ampify: ignore[AMP102]", bad)))
    assert places(checked(path)) == [("cell 3:1", "AMP102")]
    path.write_text(json.dumps(notebook("import torch", bad, "# ampify: skip-file")))
    assert places(checked(path)) == []


def test_one_step_is_chosen_by_cell_and_line(tmp_path):
    path = tmp_path / "redefined.ipynb"
    shutil.copy(FIXTURES / "notebooks" / path.name, path)
    rows, _ = engine.steps([path], Run(step=Wanted(path, 1, 3)))
    assert [(row.cell, row.line, row.decision) for row in rows] == [(3, 1, "convert")]
    with pytest.raises(engine.ConfigError, match="has no code at cell 9:1"):
        engine.steps([path], Run(step=Wanted(path, 1, 9)))


def test_steps_are_listed_with_their_cells():
    rows, _ = engine.steps([FIXTURES / "notebooks" / "tutorial.ipynb"], Run())
    assert [(row.cell, row.line, row.decision) for row in rows] == [(9, 3, "convert")]


def test_a_cell_that_does_not_parse_is_reported_and_the_others_are_converted():
    report = checked(FIXTURES / "notebooks" / "broken_cell.ipynb")
    assert places(report) == [("cell 3:3", "AMP900"), ("cell 4:1", "AMP001")]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"cells": [torch', "AMP900"),
        (b'{"cells": [], "nbformat": 4,} torch', "AMP900"),
        (b'{"cells": [{"cell_type": "code", "source": 1}], "nbformat": 4, "a": "torch"}', "AMP900"),
        (b'{"nbformat": 2, "worksheets": [], "metadata": "torch"}', "AMP905"),
        (b'["torch"]', "AMP900"),
        (b'{"cells": [], "nbformat": 4, "torch": "\xff"}', "AMP900"),
        (json.dumps(notebook("torch = '\uf8a7'")).encode(), "AMP905"),
    ],
)
def test_what_is_no_notebook_is_one_finding(tmp_path, raw, code):
    path = tmp_path / "a.ipynb"
    path.write_bytes(raw)
    (file,) = checked(path).files
    assert [d.code for d in file.diagnostics] == [code]


@pytest.mark.parametrize(
    "metadata",
    [
        {"kernelspec": {"language": "julia", "name": "julia-1.9"}},
        {"language_info": {"name": "R"}},
        {"kernelspec": {"name": "ir"}},
    ],
)
def test_other_languages_are_left_alone(metadata):
    assert read("import torch", metadata=metadata).parts == ()
    assert read("import torch", metadata={"kernelspec": {"name": "my-env"}}).parts


# ---------------------------------------------------------------------- magics


@pytest.mark.parametrize(
    ("cell", "masked"),
    [
        ("%matplotlib inline", "pass"),
        ("if colab:\n    !pip install torch", "if colab:\n    pass"),
        ("!pip install \\\n  torch\nx = 1", "pass\n\nx = 1"),
        ("files = !ls", "files = get_ipython()"),
        ("a, b = %sql select", "a, b = get_ipython()"),
        ("?nn.Linear", "pass"),
        ("nn.Linear??", "pass"),
        ("%time x = f(y)", "x = f(y)"),
        ("%timeit -n 10 -r3 f(y)", "f(y)"),
        ("%lprun -f train train(model)", "train(model)"),
        ("%time", "pass"),
        ("x = (5\n % 3)", "x = (5\n % 3)"),
        ("text = '''\n!ls\n'''", "text = '''\n!ls\n'''"),
        ("x = 5 \\\n % 3", "x = 5 \\\n % 3"),
        ("await train()", "await train()"),
        ("plot(x);", "plot(x);"),
        ("a != b", "a != b"),
        ("print('what?')  # why?", "print('what?')  # why?"),
    ],
)
def test_magics_are_masked_as_python_and_given_back(cell, masked):
    code = magics.read(cell).code
    assert re.sub(r"#[\uf8a8\uf8a9].*", "", code) == masked
    compile(code, "cell", "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT
    assert magics.unmask(code) == cell


@pytest.mark.parametrize("cell", ["%%bash\nls", "%%writefile a.py\nimport torch", "%%timeit\nf(x)", "%%html\n<b>"])
def test_cells_of_other_languages_and_namespaces_are_left_out(cell):
    assert magics.read(cell).code is None


def test_the_line_of_a_cell_magic_stays_first():
    assert magics.read("\n%%time\nx = 1") == magics.Cell("\n%%time\n", "x = 1")


def test_an_edit_that_breaks_a_border_or_a_magic_is_not_written():
    document = read("import torch", "!ls", "x = 1")
    whole = document.parts[0].text
    with pytest.raises(Unwritable, match="border"):
        document.encode([whole.replace("#\uf8a73", "  #\uf8a73")])
    with pytest.raises(Unwritable, match="magic of cell 2"):
        document.encode([whole.replace("pass#", "passed#")])


# ---------------------------------------------------------------------- random notebooks

LINES = st.sampled_from(
    ["x = 1", "%matplotlib inline", "!ls \\", "    y = 'ä\u2028'", "", "# \U0001f600", 'z = """', '"""', "f(", ")",
     "a?", "b = !cat", "if x:", "%time f(x)", "await g()", "\tw = '\\\\n'", "x;", "%%time", "%%bash", "import torch"]
)  # fmt: skip
SOURCES = st.lists(LINES).map("\n".join)
WRITERS = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 1, 2, "\t"]),
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ": "), (", ", ":"), (" ,", " : ")]),
    }
)


@st.composite
def notebooks(draw):
    def cell(source):
        kind = draw(st.sampled_from(["code", "code", "markdown", "raw"]))
        listed = draw(st.booleans())
        made = {"cell_type": kind, "source": source.splitlines(keepends=True) if listed else source}
        return dict(draw(st.permutations([*made.items(), ("metadata", {"source": "x"}), ("outputs", ["loss"])])))

    keys = {"cells": [cell(source) for source in draw(st.lists(SOURCES, max_size=4))], "nbformat": 4, "metadata": {}}
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    text = json.dumps(dict(draw(st.permutations([*keys.items()]))), **draw(WRITERS))
    return mark + (text + draw(st.sampled_from(["", "\n", "\r\n"]))).encode()


@given(notebooks())
def test_a_notebook_in_which_nothing_changes_is_the_same_bytes(raw):
    document = decode(Path("a.ipynb"), raw)
    texts = [part.text for part in document.parts]
    assert document.encode(texts) == raw


@given(notebooks())
@example(b'{"cells": [{"cell_type": "code", "source": "%%time"}], "nbformat": 4, "metadata": {}}')
def test_a_line_that_is_added_to_each_cell_is_all_that_changes(raw):
    document = decode(Path("a.ipynb"), raw)
    (part,) = document.parts
    new = re.sub("(?m)^(#\uf8a7.*\n)(?!#\uf8a8)", r"\1added = 'é'\n", part.text)
    again = decode(Path("a.ipynb"), document.encode([new]))
    assert "".join(p.text for p in again.parts).count("added = 'é'\n") == new.count("added = 'é'\n")
    old, now = (json.loads(r.removeprefix(b"\xef\xbb\xbf"))["cells"] for r in (raw, document.encode([new])))
    assert [c | {"source": 0} for c in old] == [c | {"source": 0} for c in now]


@given(st.lists(SOURCES, min_size=1, max_size=4))
def test_every_line_has_its_place(sources):
    document = read(*sources)
    (part,) = document.parts
    source = Located(part.text, part)
    for cell, whole in enumerate(sources, 1):
        for line, shown in enumerate(whole.split("\n"), 1):
            if (at := source.line_at(cell, line)) is not None:
                assert source.shown(at) == shown
                assert source.place(source.offset(at, 0)).row == f"cell {cell}:{line}"


# ---------------------------------------------------------------------- Markdown


def blocks(page):
    return [part.text for part in decode(Path("a.md"), page.encode()).parts]


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("```python\nx\n```\n", ["x\n"]),
        ("```py title='a'\nx\n```", ["x\n"]),
        ("``` python3\r\nx\r\n```\r\n", ["x\r\n"]),
        ("~~~{.python .numberLines}\nx\n~~~~\n", ["x\n"]),
        ("```{.python}\n%%time\nx\n```", ["x\n"]),
        ("- item\n\n  ```python\n  if x:\n\n      y\n  ```\n", ["if x:\n\n    y\n"]),
        ("1. ```python\n   x\n   ```\n", ["x\n"]),
        ("```python\n    x\n    y\n```\n", ["x\ny\n"]),
        ("```pycon\n>>> x\n```\n```console\n$ x\n```\n```\nx\n```\n```pytb\nx\n```\n", []),
        ("````\n```python\nx\n```\n````\n", []),
        ("text ```python x```\n", []),
        ("```python\nnever closed\n", []),
        ("```python\n%%bash\nls\n```\n", []),
    ],
)
def test_blocks_of_python_are_found(page, found):
    assert blocks(page) == found


def test_an_excerpt_gets_the_imports_that_it_counts_on():
    page = "```python\nloss = F.mse_loss(nn.Linear(1, 1)(x))\n```\n```python\nfrom mxnet.gluon import nn\n```\n"
    assert blocks(page)[0].startswith("from torch.nn import functional as F#\uf8aa\nfrom mxnet.gluon import nn")


def test_findings_in_markdown_have_the_lines_of_the_file(tmp_path):
    page = tmp_path / "a.md"
    page.write_bytes(b"# T\r\n\r\n- a\r\n\r\n  ```python\r\n  scaler = torch.cuda.amp.GradScaler()\r\n  ```\r\n")
    report = checked(page)
    (file,) = report.files
    assert [str(file.source.place(d.span.start)) for d in file.diagnostics] == ["6:12"]
    checked(page, Mode.WRITE)
    new = page.read_bytes()
    assert new == b'# T\r\n\r\n- a\r\n\r\n  ```python\r\n  scaler = torch.amp.GradScaler("cuda")\r\n  ```\r\n'


def test_a_block_that_does_not_parse_is_silent_unless_it_is_asked_for(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("torch\n```python\nimport torch\nloss.backward(\n```\n")
    assert places(checked(page)) == []
    assert places(checked(page, select=("AMP900",))) == [("4", "AMP900")]


def test_a_loop_without_its_optimizer_is_not_half_converted():
    report = checked(before(FIXTURES / "markdown" / "guide.amp.md"), Mode.DIFF)
    (change,) = report.changes
    assert "    loss = criterion(model(x.cuda()), y.cuda())\n    loss.backward()\n" in change.after


def test_markdown_that_is_not_utf_8_is_one_finding(tmp_path):
    page = tmp_path / "a.md"
    page.write_bytes(b"torch \xff")
    assert places(checked(page)) == [("1", "AMP900")]
    with pytest.raises(Undecodable):
        decode(page, b"\xff")
