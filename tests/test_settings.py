"""Settings in layers: files that extend others, `--config`, selection as ruff has it; the schema; flaws."""

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import NEEDLE
from jsonschema import Draft7Validator

from ampify.cli import main
from ampify.config import OPTIONS, ConfigError, Lookup, Settings, load, parse_file_ignores, parse_inline
from ampify.schema import SCRIPT, schema
from ampify.source.edits import Applicability, Fix
from ampify.verify.project import READERS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def layers(*tables):
    """Settings of config files that extend each other, the last one first in rank."""
    found = Lookup(tables[-1], None, tuple(tables[:-1]))
    return found(Path("/nowhere/train.py"))


def on(*tables, codes=("AMP001", "AMP101", "AMP206", "AMP301")):
    return [code for code in codes if layers(*tables).enables(code)]


class TestSelection:
    """Each row was tried with ruff 0.17, with E501, E7, F401 and the like in the place of these codes."""

    @pytest.mark.parametrize(
        ("tables", "codes"),
        [
            ([{}], ["AMP001", "AMP101", "AMP206", "AMP301"]),
            ([{"select": ("AMP1", "AMP206")}], ["AMP101", "AMP206"]),
            ([{"select": ()}], []),
            ([{"ignore": ("AMP2",), "select": ("AMP206", "AMP1")}], ["AMP101", "AMP206"]),
            ([{"ignore": ("AMP206",), "select": ("AMP2", "AMP1")}], ["AMP101"]),
            ([{"ignore": ("AMP206",), "select": ("AMP206",)}], []),
            ([{"select": ("AMP1",), "extend_select": ("AMP3",)}], ["AMP101", "AMP301"]),
            ([{"extend_select": ("AMP3",), "ignore": ("AMP",)}], ["AMP301"]),
            ([{"select": ("AMP1",)}, {"select": ("AMP2",)}], ["AMP206"]),
            ([{"select": ("AMP1",)}, {"extend_select": ("AMP2",)}], ["AMP101", "AMP206"]),
            ([{"ignore": ("AMP1",)}, {"select": ("AMP1", "AMP2")}], ["AMP101", "AMP206"]),
            ([{"select": ("AMP206", "AMP1")}, {"ignore": ("AMP2",)}], ["AMP101"]),
            ([{"ignore": ("AMP2",)}, {"ignore": ("AMP1",)}], ["AMP001", "AMP301"]),
        ],
    )
    def test_layers(self, tables, codes):
        assert on(*tables) == codes

    @pytest.mark.parametrize(
        ("table", "codes"),
        [
            ({}, ["AMP101", "AMP206"]),
            ({"fixable": ("AMP1",)}, ["AMP101"]),
            ({"unfixable": ("AMP1",)}, ["AMP206"]),
            ({"fixable": ("AMP1",), "extend_fixable": ("AMP206",)}, ["AMP101", "AMP206"]),
            ({"unfixable": ("AMP",), "extend_fixable": ("AMP101",)}, ["AMP101"]),
        ],
    )
    def test_fixable(self, table, codes):
        settings = layers(table)
        assert [code for code in ("AMP101", "AMP206") if settings.fix(code, Fix("Mend it", ()))] == codes

    @pytest.mark.parametrize(
        ("table", "before", "after"),
        [
            ({"extend_safe_fixes": ("AMP1",)}, Applicability.UNSAFE, Applicability.SAFE),
            ({"extend_unsafe_fixes": ("AMP1",)}, Applicability.SAFE, Applicability.UNSAFE),
            ({"extend_unsafe_fixes": ("AMP2",)}, Applicability.SAFE, Applicability.SAFE),
            ({"extend_safe_fixes": ("AMP101",), "extend_unsafe_fixes": ("AMP1",)},
             Applicability.UNSAFE, Applicability.SAFE),
            ({"extend_safe_fixes": ("AMP1",), "extend_unsafe_fixes": ("AMP1",)},
             Applicability.SAFE, Applicability.UNSAFE),
            ({"extend_safe_fixes": ("AMP1",)}, Applicability.MANUAL, Applicability.MANUAL),
        ],
    )  # fmt: skip
    def test_how_safe_a_fix_is(self, table, before, after):
        fix = layers(table).fix("AMP101", Fix("Mend it", (), before))
        assert fix is not None
        assert fix.applicability is after

    @pytest.mark.parametrize(
        ("pattern", "covered"),
        [
            ("tests/*", ["tests/a.py", "tests/deep/a.py"]),
            ("a.py", ["a.py", "tests/a.py", "tests/deep/a.py"]),
            ("tests/**/a.py", ["tests/a.py", "tests/deep/a.py"]),
            ("!tests/*", ["a.py", "b.py"]),
            ("{b,c}.py", ["b.py"]),
            ("deep/*", []),
        ],
    )
    def test_per_file_ignores(self, folder, pattern, covered):
        settings = Settings(per_file_ignores=parse_file_ignores(f"{pattern}:AMP1") if "," not in pattern else
                            load_pattern(folder, pattern))  # fmt: skip
        files = ["a.py", "b.py", "tests/a.py", "tests/deep/a.py"]
        assert [name for name in files if not settings.enables("AMP101", name)] == covered
        assert all(settings.enables("AMP206", name) for name in files)


def load_pattern(folder, pattern):
    (folder / "ampify.toml").write_text(f'[per-file-ignores]\n"{pattern}" = ["AMP1"]\n')
    return load(folder).per_file_ignores


class TestExtend:
    def test_what_extends_goes_first(self, folder):
        (folder / "base.toml").write_text('select = ["AMP1"]\ndtype = "bfloat16"\nextend-safe-fixes = ["AMP1"]\n')
        (folder / "src").mkdir()
        (folder / "src" / "pyproject.toml").write_text(
            '[tool.ampify]\nextend = "../base.toml"\nextend-select = ["AMP206"]\nextend-safe-fixes = ["AMP2"]\n'
        )
        found = load(folder / "src" / "a.py")
        assert found.dtype == "bfloat16"
        assert found.extend_safe_fixes == ("AMP1", "AMP2")
        assert [code for code in ("AMP101", "AMP206", "AMP301") if found.enables(code)] == ["AMP101", "AMP206"]

    def test_patterns_and_paths_belong_to_their_file(self, folder):
        (folder / "base").mkdir()
        (folder / "base" / "b.toml").write_text('baseline = "known.json"\nper-file-ignores = { "x/*" = ["AMP1"] }\n')
        (folder / "ampify.toml").write_text('extend = "base/b.toml"\n')
        found = load(folder)
        assert found.baseline == folder / "base" / "known.json"
        assert not found.enables("AMP101", str(folder / "base" / "x" / "a.py"))
        assert found.enables("AMP101", str(folder / "x" / "a.py"))

    def test_variables_and_the_home_folder(self, folder, monkeypatch):
        (folder / "b.toml").write_text('dtype = "bfloat16"\n')
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("SHARED", str(folder))
        for name in ("~/b.toml", "${SHARED}/b.toml"):
            (folder / "c.toml").write_text(f'extend = "{name}"\n')
            assert Lookup({}, folder / "c.toml", isolated=False).files(folder) != []
            load.__globals__["_of_folder"].cache_clear()
            load.__globals__["toml_files"].read.cache_clear()
            assert load(folder, folder / "c.toml").dtype == "bfloat16"

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"ampify.toml": "\nextend = 'ampify.toml'"}, "ampify.toml:2: `extend` goes in a circle: ampify.toml → "),
            ({"ampify.toml": "extend = 'b.toml'", "b.toml": "dtype = 'float16'\nextend = 'ampify.toml'"},
             "b.toml:2: `extend` goes in a circle: ampify.toml → b.toml → ampify.toml"),
            ({"ampify.toml": "extend = 'no.toml'"}, "no.toml: there are no settings for ampify, which `extend` of"),
            ({"ampify.toml": "extend = 'b.toml'", "b.toml": "x = 1"}, "b.toml:1: unknown key `x`"),
        ],
    )  # fmt: skip
    def test_flaws(self, folder, files, message):
        for name, text in files.items():
            (folder / name).write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(folder)
        assert message in str(caught.value)


class TestInline:
    def test_goes_before_files_and_after_options(self, folder):
        (folder / "ampify.toml").write_text('dtype = "bfloat16"\ndevice = "cuda"\nfail-level = "error"\n')
        text = run(
            "--config", "dtype=float16", "--config", 'device = "auto"', "--device", "cpu", "--show-settings", "."
        )
        found = tomllib.loads(text.stdout)
        assert (found["dtype"], found["device"], found["fail-level"]) == ("float16", "cpu", "error")

    @pytest.mark.parametrize("text", ["a/b=c.toml", "no pair", "dtype"])
    def test_what_is_no_pair_is_a_file(self, text):
        assert parse_inline(text) is None

    def test_values_are_toml(self):
        assert parse_inline('select = ["AMP1"]') == {"select": ("AMP1",)}
        assert parse_inline("unsafe-fixes=true") == {"unsafe_fixes": True}
        assert parse_inline("per-file-ignores={'a.py'=['AMP1']}") is not None

    def test_isolated(self, folder):
        (folder / "ampify.toml").write_text('dtype = "bfloat16"\nextend = "missing.toml"\n')
        assert tomllib.loads(run("--isolated", "--show-settings", ".").stdout)["dtype"] == "float16"
        assert run("--show-settings", ".").exit_code == 2


class TestFlaws:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('[tool.other]\nx = 1\n\n[tool.ampify]\n\n# a note\ndtyp = "float16"\n',
             "pyproject.toml:7: unknown key `dtyp`, did you mean `dtype`?"),
            ('[tool.ampify]\nselect = [\n    "AMP1",\n    "AMP9x",\n]\n', "pyproject.toml:2: `AMP9X` is not a code"),
            ('[tool.ampify]\nselect = [\n    "AMP1",\n    "AMP299",\n]\n',
             "pyproject.toml:4: no code begins with `AMP299`, did you mean `AMP"),
            ('[tool]\nampify.line-length = 0\n', "pyproject.toml:2: `line-length` must be a positive number"),
            ('[tool.ampify]\ndtype = "float16"\n[tool.ampify.per-file-ignores]\n"a.py" = "AMP1"\n',
             "pyproject.toml:3: `per-file-ignores` must be a table of patterns"),
            ("[tool.ampify]\nx = [\n", "pyproject.toml: "),
            ("[tool.ampify]\ndtype = \n", "pyproject.toml:2: Invalid value"),
        ],
    )  # fmt: skip
    def test_name_file_line_and_nearest_key(self, folder, text, message):
        (folder / "pyproject.toml").write_text(text)
        (folder / "a.py").write_text(NEEDLE)
        result = run("a.py")
        assert result.exit_code == 2
        assert message.replace("pyproject.toml: ", "pyproject.toml") in result.stderr.splitlines()[-1]
        assert len(result.stderr.splitlines()) == 1


class TestShow:
    def test_files(self, folder):
        for name in ("a.py", "sub/b.ipynb", "sub/c.md", "d.txt", ".venv/e.py"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        assert run("--show-files", ".").stdout.split() == ["a.py", "sub/b.ipynb", "sub/c.md"]
        missing = run("--show-files", "no.py")
        assert (missing.exit_code, missing.stderr) == (2, "ampify: no.py: No such file or directory\n")

    def test_settings_are_toml_and_say_where_they_come_from(self, folder):
        (folder / "base.toml").write_text('ignore = ["AMP2"]\n')
        (folder / "ampify.toml").write_text('extend = "base.toml"\ntarget-torch = "2.1"\n')
        (folder / "a.py").touch()
        shown = run("--show-settings", "a.py", "--select", "AMP206,AMP101").stdout
        assert shown.splitlines()[:3] == ["# a.py", f"# from {folder}/base.toml", f"# from {folder}/ampify.toml"]
        assert tomllib.loads(shown)["target-torch"] == "2.1"
        assert "# 2 rules are on here:\n#   AMP101, AMP206\n" in shown
        assert all(len(line) <= 80 or "# from" in line for line in shown.splitlines())


class TestSchema:
    def test_the_file_is_what_the_code_says(self):
        assert json.loads((ROOT / "docs" / "ampify.schema.json").read_text()) == schema()
        assert SCRIPT.keys() == READERS.keys()

    def test_it_is_a_schema_of_all_options(self):
        Draft7Validator.check_schema(schema())
        assert schema()["properties"].keys() == {*OPTIONS, "verify"}

    @pytest.mark.parametrize("key", [*OPTIONS])
    def test_the_examples_are_valid_for_both(self, key, folder):
        (folder / "sub").mkdir()
        text = f"{key} = {OPTIONS[key].example}\n"
        assert [*Draft7Validator(schema()).iter_errors(tomllib.loads(text))] == []
        (folder / "ampify.toml").write_text("dtype = 'float16'\n")
        (folder / "sub" / "ampify.toml").write_text(text)
        assert load(folder / "sub") != load(folder) or key in ("extend", "dtype")

    @pytest.mark.parametrize(
        "text",
        ["x = 1", "dtype = 'half'", "select = 'AMP1'", "select = ['E501']", "line-length = 0", "unsafe-fixes = 1",
         "target-torch = 2.1", "per-file-ignores = { a = 'AMP1' }", "per-file-ignores = []", "extend = 1",
         "baseline = ''", "line-length = true", "fail-level = 1", "max-file-size = -1", "max-file-size = '2 MB'",
         "max-file-size = true"],
    )  # fmt: skip
    def test_both_refuse_the_same(self, text, folder):
        assert [*Draft7Validator(schema()).iter_errors(tomllib.loads(text))] != []
        (folder / "ampify.toml").write_text(text)
        with pytest.raises(ConfigError, match=r"^ampify\.toml:1: "):
            load(folder)

    def test_scripts_to_verify(self):
        check = Draft7Validator(schema()).is_valid
        assert check({"verify": [{"script": "a.py", "args": "--x 1", "steps": 4}]})
        assert not check({"verify": [{"script": "a.py", "module": "a"}]})
        assert not check({"verify": [{"args": []}]})
