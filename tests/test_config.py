"""Where settings come from."""

from pathlib import Path

import pytest

from ampify.config import ConfigError, Lookup, Settings, load, parse_codes, parse_torch


def write(root, **contents):
    """Files by name; a double underscore stands for a dot."""
    root.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


def test_defaults(tmp_path):
    assert load(tmp_path) == Settings()
    assert Settings().enables("AMP206")


def test_pyproject(tmp_path):
    text = """
        [tool.ampify]
        select = ["AMP1", "amp206"]
        ignore = ["AMP103"]
        fail-level = "error"
        dtype = "bfloat16"
        device = "cuda"
        target-torch = "2.1"
        unsafe-fixes = true
        line-length = 100
    """
    write(tmp_path, pyproject__toml=text)
    wanted = Settings(("AMP1", "AMP206"), ("AMP103",), "error", "bfloat16", "cuda", (2, 1), True, 100)
    assert load(tmp_path / "sub" / "train.py") == wanted
    assert [code for code in ("AMP101", "AMP103", "AMP206", "AMP301") if wanted.enables(code)] == ["AMP101", "AMP206"]


def test_the_nearest_file_counts_and_ampify_toml_goes_first(tmp_path):
    write(tmp_path, pyproject__toml='[tool.ampify]\ndtype = "bfloat16"')
    write(tmp_path / "a", ampify__toml='device = "cpu"', pyproject__toml='[tool.ampify]\ndevice = "cuda"')
    write(tmp_path / "b", pyproject__toml="[project]\n")
    assert load(tmp_path / "a" / "x.py") == Settings(device="cpu")
    assert load(tmp_path / "b") == Settings(dtype="bfloat16")


def test_options_go_before_files_and_a_named_file_before_the_nearest(tmp_path):
    write(tmp_path, pyproject__toml="[tool.ampify]\nunsafe-fixes = true", other__toml='dtype = "bfloat16"')
    assert Lookup({"device": "cpu"})(tmp_path) == Settings(device="cpu", unsafe_fixes=True)
    assert Lookup({}, tmp_path / "other.toml")(tmp_path) == Settings(dtype="bfloat16")
    with pytest.raises(ConfigError, match="there are no settings"):
        Lookup({}, tmp_path / "missing.toml")(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("selct = []", "unknown key `selct`, did you mean `select`?"),
        ("target_torch = '2.1'", "unknown key `target_torch`, did you mean `target-torch`?"),
        ("dtype = 'half'", "`dtype` must be one of float16, bfloat16"),
        ("select = 'AMP1'", "`select` must be a list of codes"),
        ("select = ['E501']", "`E501` is not a code"),
        ("target-torch = 2.1", "`target-torch` must be a version"),
        ("target-torch = '1.8'", "torch 1.8 has no `torch.autocast`; the oldest target is 1.10"),
        ("line-length = true", "`line-length` must be a positive number"),
        ("unsafe-fixes = 1", "`unsafe-fixes` must be true or false"),
        ("x = [", "ampify.toml"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, line, message):
    write(tmp_path, ampify__toml=line)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("files", "length"),
    [
        ({"pyproject__toml": "[tool.ruff]\nline-length = 100"}, 100),
        ({"pyproject__toml": "[tool.black]\nline-length = 90"}, 90),
        ({"ruff__toml": "line-length = 79", "pyproject__toml": "[tool.black]\nline-length = 90"}, 79),
        ({"__ruff__toml": "line-length = 80"}, 80),
        ({"pyproject__toml": "[tool]\nruff = 3"}, 88),
    ],
)
def test_line_length(tmp_path, files, length):
    write(tmp_path, **files)
    assert load(tmp_path / "src" / "train.py").line_length == length


@pytest.mark.parametrize(
    ("requirements", "torch"),
    [
        ("torch", None),
        ("torchvision==0.20.0", None),
        ("torch==1.13.1", (1, 13)),
        ("torch==2.0.1+cu118", (2, 0)),
        ("torch >= 1.10, < 2.3  # old", (1, 10)),
        ("torch~=2.1", (2, 1)),
        ("torch==2.1.*", (2, 1)),
        ("torch!=2.2", None),
        ("torch<2.3", (2, 2)),
        ("torch<2.0", (1, 13)),
        ("torch<=1.12", (1, 12)),
        ("torch<2.3.1", (2, 3)),
        ("torch>=1.7", (1, 7)),
        ("torch===nonsense", None),
        ("torch @ https://example.org/torch.whl", None),
        ("numpy\ntorch==2.1.0 \\\n    --hash=sha256:abc\n", (2, 1)),
        ('torch>=1.11; python_version < "3.10"\ntorch>=2.1; python_version >= "3.10"', (1, 11)),
    ],
)
def test_pins_in_requirements(tmp_path, requirements, torch):
    write(tmp_path, requirements__txt=requirements)
    assert load(tmp_path / "train.py").target_torch == torch


@pytest.mark.parametrize(
    ("line", "torch"),
    [
        ("- pytorch=1.12", (1, 12)),
        ("- pytorch=2.1.*", (2, 1)),
        ("- pytorch==2.1.0=py3.10_cuda11.8_cudnn8.7.0_0", (2, 1)),
        ("- pytorch::pytorch=2.1.0  # the last one", (2, 1)),
        ("- 'pytorch>=2.0,<2.3'", (2, 0)),
        ("- pytorch >=2.0", (2, 0)),
        ("- pytorch 1.13.1", (1, 13)),
        ("- pip:\n    - torch==2.2.1", (2, 2)),
        ("- pytorch", None),
        ("- pytorch-cuda=11.8", None),
        ("- pytorch-lightning=1.9", None),
        ("- torchvision=0.15", None),
        ("- pytorch=nonsense", None),
        ("# - pytorch=1.12", None),
    ],
)
def test_pins_in_an_environment_of_conda(tmp_path, line, torch):
    write(tmp_path, environment__yml=f"name: train\nchannels:\n  - pytorch\ndependencies:\n  - python=3.10\n  {line}\n")
    assert load(tmp_path / "train.py").target_torch == torch


@pytest.mark.parametrize(
    "files",
    [
        {"environment-gpu__yaml": "dependencies: [python]\n- pytorch=2.2\n"},
        {"requirements-gpu__txt": "torch>=2.2"},
        {"pyproject__toml": '[project]\ndependencies = ["numpy", "torch>=2.2"]'},
        {"pyproject__toml": '[project.optional-dependencies]\ngpu = ["torch>=2.2"]'},
        {"pyproject__toml": '[dependency-groups]\ndev = [{include-group = "x"}, "torch>=2.2"]'},
        {"pyproject__toml": '[tool.poetry.dependencies]\ntorch = "^2.2"'},
        {"pyproject__toml": '[tool.poetry.dependencies]\ntorch = {version = ">=2.2,<3"}'},
        {"setup__cfg": "[options]\ninstall_requires =\n    numpy\n    torch>=2.2\n"},
        {"setup__cfg": "[options.extras_require]\ngpu = torch>=2.2\n"},
        {"requirements__txt": "torch>=2.4", "requirements-old__txt": "torch>=2.2"},
    ],
)
def test_places_of_pins(tmp_path, files):
    write(tmp_path, **files)
    assert load(tmp_path / "src" / "train.py").target_torch == (2, 2)


def test_the_nearest_pin_counts_and_none_outside_the_repository(tmp_path):
    write(tmp_path, requirements__txt="torch==1.12")
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    write(tmp_path / "repo" / "old", requirements__txt="torch==1.13")
    assert load(tmp_path / "repo" / "train.py").target_torch is None
    assert load(tmp_path / "repo" / "old" / "src" / "train.py").target_torch == (1, 13)


def test_a_given_target_goes_before_the_pin(tmp_path):
    write(tmp_path, requirements__txt="torch==1.12", ampify__toml='target-torch = "2.3"')
    assert load(tmp_path).target_torch == (2, 3)
    assert Lookup({"target_torch": (2, 5)})(Path(tmp_path)).target_torch == (2, 5)


@pytest.mark.parametrize("version", ["2", "two", "", "2.x", "1.9"])
def test_bad_versions(version):
    with pytest.raises(ConfigError):
        parse_torch(version)


def test_good_versions_and_codes():
    assert [parse_torch(v) for v in ("1.10", "2.3.1", "2.13.0+cpu")] == [(1, 10), (2, 3), (2, 13)]
    assert parse_codes("AMP1, amp206,") == ("AMP1", "AMP206")
