"""pre-commit, GitHub and GitLab: each file is accepted by the tool it is for, and does what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
OLD = "import torch\n\nscaler = torch.cuda.amp.GradScaler()\n"
NEW = OLD.replace("torch.cuda.amp.GradScaler()", 'torch.amp.GradScaler("cuda")')
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
UNREACHABLE = re.compile(r"No matching distribution|Could not find a version|Temporary failure|Connection|ProxyError")


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def repository(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")
    return folder


@pytest.fixture(scope="module")
def hooks(tmp_path_factory):
    """A repository with what the hooks are installed from."""
    copy = tmp_path_factory.mktemp("hooks")
    for name in ("ampify", "rules"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, copy)
    return repository(copy)


def test_pre_commit_takes_the_hooks(hooks, tmp_path):
    work = repository(tmp_path / "work", train=OLD, good=NEW, other="x = 1\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GIT_DIR")}
    environment |= {"PRE_COMMIT_HOME": str(tmp_path / "home"), "PRE_COMMIT_COLOR": "never"}
    config = tmp_path / "config.yaml"
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=hooks, text=True).strip()
    repo = {"repo": str(hooks), "rev": commit, "hooks": [{"id": "ampify"}]}
    config.write_text(yaml.safe_dump({"repos": [repo]}))

    def run(*words):
        command = [sys.executable, "-m", "pre_commit", *words, "--all-files"]
        return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)

    tried = run("try-repo", str(hooks))
    if UNREACHABLE.search(tried.stdout):
        pytest.skip("pip reaches no index, and a hook is installed with its dependencies")
    assert re.findall(r"^ampify.*(Failed|Passed)$", tried.stdout, re.M) == ["Failed", "Failed"], tried.stdout
    assert "train.py:3:10" in tried.stdout
    assert "files were modified by this hook" in tried.stdout
    assert [(work / f"{name}.py").read_text() for name in ("train", "good", "other")] == [NEW, NEW, "x = 1\n"]
    green = run("run", "--config", str(config))
    assert (green.returncode, re.findall(r"(Failed|Passed)$", green.stdout, re.M)) == (0, ["Passed"]), green.stdout


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("github-actions", "action.yml"),
        ("github-workflows", "docs/integrations/github-workflow.yml"),
        ("gitlab-ci", "docs/integrations/gitlab-ci.yml"),
    ],
)
def test_the_file_is_what_its_schema_says(schema, file, tmp_path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    command += ["--data-transform", "gitlab-ci"] if schema == "gitlab-ci" else []
    good = subprocess.run([*command, ROOT / file], capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stdout
    broken = tmp_path / Path(file).name
    broken.write_text("runs: 1\njobs: 2\nampify:\n  script: 3\n")
    assert subprocess.run([*command, broken], capture_output=True, check=False).returncode == 1


def test_the_workflow_gives_the_action_inputs_that_it_has():
    workflow = yaml.safe_load((ROOT / "docs" / "integrations" / "github-workflow.yml").read_text("utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"] if "/ampify@" in step.get("uses", "")]
    given = {name for step in steps for name in step["with"]}
    assert len(steps) == 2
    assert given < {*ACTION["inputs"]}


def played(folder, **inputs):
    """The steps of the action as a runner runs them: environment, outputs and conditions; what it uses is left out."""
    values = {name: each["default"] for name, each in ACTION["inputs"].items()} | inputs | {"install": ""}
    outputs, log, status = {}, "", 0

    def filled(text):
        names = {**{f"inputs.{name}": value for name, value in values.items()}, **outputs, "runner.temp": str(folder)}
        return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda match: names.get(match[1], ""), text)

    for step in ACTION["runs"]["steps"]:
        wanted = re.fullmatch(r"inputs\.([\w-]+) (==|!=) '(.*)'", step.get("if", "inputs.paths != ''"))
        if (values[wanted[1]] == wanted[3]) != (wanted[2] == "==") or "run" not in step:
            continue
        files = {f"GITHUB_{name}": str(folder / name) for name in ("OUTPUT", "STEP_SUMMARY")}
        environment = {**os.environ, **files, "RUNNER_TEMP": str(folder), "PYTHONPATH": str(ROOT)}
        environment |= {name: filled(text) for name, text in step["env"].items()}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        (folder / "OUTPUT").write_text("")
        done = subprocess.run(
            command, cwd=folder / "work", env=environment, capture_output=True, text=True, check=False
        )
        log, status = log + done.stdout + done.stderr, done.returncode
        for line in (folder / "OUTPUT").read_text().splitlines():
            name, _, value = line.partition("=")
            outputs[f"steps.{step['id']}.outputs.{name}"] = value
        if status:
            break
    return status, log, outputs


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work" / "a folder").mkdir(parents=True)
    (tmp_path / "work" / "train.py").write_text(OLD)
    return tmp_path


def test_the_action_annotates_and_sums_up(work):
    status, log, outputs = played(work)
    assert (status, outputs["steps.check.outputs.status"]) == (1, "1")
    assert log.startswith("::warning title=ampify (AMP102),file=train.py,line=3")
    assert "| **warning** | `train.py:3:10` | AMP102" in (work / "STEP_SUMMARY").read_text()
    assert not (work / "ampify.sarif").exists()


def test_the_action_takes_options_and_writes_sarif(work):
    status, log, outputs = played(work, args="--ignore AMP102", sarif="true", summary="false", paths="train.py")
    assert (status, log) == (0, "")
    assert Path(outputs["steps.sarif.outputs.file"]).is_file()
    assert not (work / "STEP_SUMMARY").exists()
    assert played(work, **{"fail-level": "error"})[0] == 0


def test_nothing_in_an_input_is_run(work):
    status, _, _ = played(work, paths="$(touch x) `touch x` ;touch x", args='"; touch x')
    assert status == 2
    assert not (work / "work" / "x").exists()


def test_the_action_verifies(work):
    (work / "work" / "train.py").write_text("import torch\n\nprint(torch.ones(1))\n")
    status, log, outputs = played(work, verify="true", **{"verify-args": "train.py --device cpu --steps 2"})
    assert (status, outputs["steps.verify.outputs.status"]) == (2, "2")
    assert "**CANNOT RUN**" in log
    assert "**CANNOT RUN**" in (work / "STEP_SUMMARY").read_text()
