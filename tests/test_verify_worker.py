"""Scripts of every kind in the worker: what each run tells, that it ends, and that it leaves nothing behind."""

import contextlib
import dataclasses
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from textwrap import dedent

import pytest

from ampify.verify import job as host_job
from ampify.verify.job import Job
from ampify.verify.record import Lines, Params, Touched, Value
from ampify.verify.worker import job as worker_job
from ampify.verify.workers import Printed, WorkerFailed, Workers

MARK = f"AMPIFY_TEST_{os.getpid()}"
STEPS = """
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def step():
    loss = model(torch.randn(4, 2)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
"""


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """One worker for all tests, in a folder for temporary files of its own that must be empty at the end."""
    folder = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        with Workers(env={MARK: "1", "TMPDIR": str(folder)}) as opened:
            yield opened
    assert list(folder.iterdir()) == []
    assert marked() == []


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def run(workers, project):
    """Runs a script; whatever it does, the disk stays as it was and only the worker itself lives on."""

    def run(text, *, workers=workers, **fields):
        script = project / "train.py"
        if text is not None:
            script.write_text(dedent(text), "utf-8")
            fields["script"] = script
        before = snapshot(project)
        fields = {"cwd": project, "roots": (project,), "steps": 3, "timeout": 60.0} | fields
        outcome = workers.run(Job(out=workers.arm("test"), **fields))
        assert snapshot(project) == before
        assert len(marked()) == 1
        return outcome

    return run


def snapshot(folder):
    return {path: path.is_dir() or (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def marked():
    """The processes that were started with the mark of this test run in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"\0{MARK}=".encode() in b"\0" + path.read_bytes():
                found.append(int(path.parent.name))
    return found


def values(outcome):
    return [event.x for event in outcome.record.of(Value)]


def test_the_host_and_the_worker_mean_the_same_job(tmp_path):
    sent = Job(out=tmp_path, cwd=tmp_path, roots=(tmp_path,), watch={tmp_path: (1, 2)}, keep=(("grads", 0, 1, 2),))
    sent.dump(tmp_path / "job.json")
    got = worker_job.Job.load(str(tmp_path / "job.json"))
    names = [each.name for each in dataclasses.fields(host_job.Job)]
    assert names == [each.name for each in dataclasses.fields(worker_job.Job)]
    assert (got.out, got.watch, got.keep) == (str(tmp_path), {str(tmp_path): [1, 2]}, [["grads", 0, 1, 2]])


def test_a_run_stops_after_its_steps(run):
    outcome = run(STEPS + "for i in range(100):\n    step()\n    print('made', i)\n")
    end = outcome.record.end
    assert (outcome.ended, outcome.code, end.status, end.attempts, end.swallowed) == (
        "exit",
        0,
        "stopped",
        {0: 3},
        False,
    )
    assert [event.n for event in outcome.record.of(Params)] == [1, 2, 3]
    assert outcome.output.splitlines() == ["made 0", "made 1", "made 2"]


def test_finally_blocks_and_exit_handlers_run(run):
    outcome = run(
        STEPS
        + """
import atexit
atexit.register(print, "handler")
try:
    while True:
        step()
finally:
    print("finally")
"""
    )
    assert outcome.output.splitlines() == ["finally", "handler"]
    assert outcome.record.end.status == "stopped"


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("x = 1\n", "completed", 0),
        ("import sys\nsys.exit()\n", "exit", 0),
        ("import sys\nsys.exit(3)\n", "exit", 3),
        ("import sys\nsys.exit('no data')\n", "exit", 1),
        ("import os\nos._exit(7)\n", "os._exit", 7),
    ],
)
def test_ends(run, text, status, code):
    outcome = run(text)
    end = outcome.record.end
    assert (outcome.ended, outcome.code, end.status, end.code, end.attempts) == ("exit", code, status, code, {})


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        ("x = 1\nif x\n    y = 2\n", "SyntaxError", 2),
        ("x = 1\nimport no_such_module\n", "ModuleNotFoundError", 2),
        ("def f():\n    raise KeyError('a')\n\nf()\n", "KeyError", 2),
        ("import torch\n\ntorch.ones(2) @ torch.ones(3)\n", "RuntimeError", 3),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt", 1),
    ],
)
def test_an_exception_is_told_with_its_place(run, project, text, kind, line):
    outcome = run(text)
    end = outcome.record.end
    assert (end.status, end.error.type, end.error.at) == ("error", kind, (str(project / "train.py"), line))
    assert text.splitlines()[line - 1].strip() in end.error.traceback
    assert "worker" not in end.error.traceback


def test_an_endless_loop_before_the_first_step(run):
    outcome = run("import torch\nwhile True:\n    pass\n", timeout=2.0)
    assert (outcome.ended, outcome.record.end) == ("timeout", None)
    assert 'train.py", line 3' in outcome.stacks or 'train.py", line 2' in outcome.stacks
    assert outcome.seconds < 10


def test_a_process_that_kills_itself(run):
    outcome = run(STEPS + "import os, signal\nstep()\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert (outcome.ended, outcome.code, outcome.record.end) == ("signal", signal.SIGKILL, None)
    assert [event.n for event in outcome.record.of(Params)] == [1]


def test_a_loader_whose_worker_crashes(run):
    outcome = run("""
        import os
        import torch
        class Data(torch.utils.data.Dataset):
            def __len__(self):
                return 8
            def __getitem__(self, index):
                os.abort()
        for batch in torch.utils.data.DataLoader(Data(), num_workers=1):
            pass
        """)
    end = outcome.record.end
    assert (end.status, end.error.type) == ("error", "RuntimeError")
    assert "DataLoader worker" in end.error.message


def test_loader_workers_write_nothing_into_the_record(run):
    outcome = run(
        STEPS
        + """
class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return float(torch.ones(1).item())
for batch in torch.utils.data.DataLoader(Data(), num_workers=2):
    step()
"""
    )
    assert outcome.record.end.status == "stopped"
    assert len(values(outcome)) == 3
    assert outcome.left == ()


def test_a_daemon_does_not_outlive_its_run(run):
    outcome = run("""
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        os.wait()
        """)
    assert outcome.record.end.status == "completed"
    assert len(outcome.left) == 1


def test_children_end_with_their_run_at_the_limit(run):
    outcome = run("import subprocess\nsubprocess.run(['sleep', '600'])\n", timeout=2.0)
    assert outcome.ended == "timeout"


def test_a_forked_copy_of_the_script_writes_nothing_into_the_record(run):
    outcome = run(
        STEPS + "import os\npid = os.fork()\nstep()\nif pid == 0:\n    os._exit(5)\nos.waitpid(pid, 0)\nstep()\n"
    )
    assert [event.n for event in outcome.record.of(Params)] == [1, 2]
    assert (outcome.record.end.status, len(values(outcome))) == ("completed", 2)


def test_200_megabytes_of_output(run):
    outcome = run("""
        import sys
        print("first")
        for _ in range(200):
            sys.stdout.write("x" * 1_000_000)
        print("last")
        """)
    assert outcome.record.end.status == "completed"
    assert outcome.output.startswith("first\n")
    assert outcome.output.endswith("last\n")
    assert len(outcome.output) < 100_000


@pytest.mark.parametrize("parts", [[b"ab"], [b"a" * 90_000], [b"abc" * 9_000] * 40, [b"x" * 16_384, b"y" * 65_536]])
def test_head_and_tail_are_kept(parts):
    printed, all_of_it = Printed(), b"".join(parts).decode()
    for part in parts:
        printed.add(part)
    shown = str(printed)
    if len(all_of_it) <= 16_384 + 65_536:
        assert shown == all_of_it
    else:
        assert shown.startswith(all_of_it[:16_384] + "\n... ")
        assert shown.endswith(" bytes ...\n" + all_of_it[-65_536:])


@pytest.mark.parametrize("handler", ["except BaseException:\n        pass", "except:\n        print('caught')"])
def test_a_script_that_catches_everything(run, handler):
    outcome = run(STEPS + f"while True:\n    try:\n        step()\n    {handler}\n")
    end = outcome.record.end
    assert (outcome.ended, end.status, end.swallowed, end.attempts) == ("exit", "stopped", True, {0: 3})


@pytest.mark.parametrize(
    "loop",
    [
        "import atexit, time\natexit.register(time.sleep, 600)\nwhile True:\n    step()\n",
        "import time\ntry:\n    while True:\n        step()\nfinally:\n    time.sleep(600)\n",
    ],
)
def test_a_clean_up_that_never_ends(run, loop):
    outcome = run(STEPS + loop)
    assert (outcome.ended, outcome.record.end.status) == ("exit", "stopped")


def test_a_script_that_trains_in_a_thread(run):
    loop = "import threading\ndef train():\n    while True:\n        step()\nthreading.Thread(target=train).start()\n"
    end = run(STEPS + loop).record.end
    assert (end.status, end.attempts) == ("stopped", {0: 3})


def test_idle_threads_do_not_hold_the_end_up(run):
    text = "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor()\npool.submit(print, 'ran')\n"
    outcome = run(text)
    assert (outcome.record.end.status, outcome.output) == ("completed", "ran\n")


def test_changes_of_the_folder(run, project):
    (project / "data").mkdir()
    (project / "data" / "x.txt").write_text("on disk")
    outcome = run("""
        import os
        os.makedirs("runs/1")
        os.chdir("runs/1")
        open("a.txt", "w").write("written")
        print(os.getcwd(), open("a.txt").read(), open("../../data/x.txt").read())
        os.chdir("../../data")
        print(os.getcwd(), os.listdir("."), os.path.exists("../runs/1/a.txt"))
        """)
    assert outcome.output.splitlines() == [
        f"{project}/runs/1 written on disk",
        f"{project}/data ['x.txt'] True",
    ]


def test_a_script_that_deletes_itself(run):
    outcome = run(
        STEPS
        + """
import os
os.remove(__file__)
print(os.path.exists(__file__), os.listdir(os.path.dirname(__file__)))
while True:
    step()
"""
    )
    assert outcome.output.splitlines() == ["False []"]
    assert outcome.record.end.status == "stopped"


def test_a_checkpoint_is_found_again(run):
    outcome = run(
        STEPS
        + """
from pathlib import Path
Path("out").mkdir(exist_ok=True)
torch.save(model.state_dict(), "out/last.pt")
torch.save(model.state_dict(), Path("out") / "best.pt")
saved = torch.load("out/last.pt")
print(sorted(path.name for path in Path("out").iterdir()), torch.equal(saved["weight"], model.weight))
"""
    )
    assert outcome.output.splitlines() == ["['best.pt', 'last.pt'] True"]
    assert outcome.record.of(Touched) == ()


def test_the_mirror_answers_as_the_disk_would(run, project):
    """The same operations print the same things, on the disk itself and in the mirror."""
    text = """
        import bz2, glob, os, pathlib, shutil, sys, tarfile, tempfile, zipfile
        def tried(function, *arguments):
            try:
                return function(*arguments)
            except OSError as error:
                return type(error).__name__, error.errno, error.filename
        os.makedirs("a/b/c")
        for name in ("a/1.txt", "a/b/2.txt", "old/new.txt"):
            with open(name, "w") as file:
                file.write(name)
        with open("old/kept.txt", "a") as file:
            file.write(" more")
        with open("old/other.txt", "r+") as file:
            file.write("O")
        print(pathlib.Path("old/kept.txt").read_text(), pathlib.Path("old/other.txt").read_text())
        print(tried(open, "old/kept.txt", "x"), tried(open, "none/x", "w"), tried(open, "none"), tried(open, "a", "w"))
        print(tried(os.mkdir, "old"), tried(os.rmdir, "old"), tried(os.remove, "none"), tried(os.listdir, "none"))
        print(tried(os.remove, "old"), tried(os.rmdir, "old/kept.txt"), tried(os.rename, "none", "b"))
        os.rename("old/gone.txt", "a/moved.txt")
        os.replace("a/1.txt", "old/kept.txt")
        print(sorted(os.listdir("old")), sorted(os.listdir("a")), sorted(glob.glob("*/*.txt")))
        print(sorted((entry.name, entry.path, entry.is_dir(), entry.is_file()) for entry in os.scandir("a")))
        shutil.rmtree("tree")
        print(os.path.exists("tree/deep/x"), tried(open, "tree/deep/x"))
        os.mkdir("tree")
        print(os.listdir("tree"), os.path.exists("tree/deep"))
        shutil.copytree("a", "copy")
        os.rename("copy", "tree/copy")
        print(sorted((root, sorted(folders), sorted(files)) for root, folders, files in os.walk(".")))
        shutil.move("second", "moved")
        print(sorted(str(path) for path in pathlib.Path("moved").rglob("*")), os.path.exists("second"))
        os.symlink("a", "link")
        with open("link/through.txt", "w") as file:
            file.write("link")
        print(os.path.islink("link"), open("a/through.txt").read(), os.path.realpath("link") == os.path.abspath("a"))
        os.symlink("real.txt", "to_disk")
        with open("to_disk", "w") as file:
            file.write("over")
        print(open("real.txt").read(), os.stat("real.txt").st_size)
        os.link("real.txt", "hard.txt")
        os.truncate("real.txt", 2)
        print(open("real.txt").read(), os.path.getsize("hard.txt"))
        number = os.open("raw.bin", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.write(number, b"123")
        os.close(number)
        print(os.path.getsize("raw.bin"), tried(os.open, "raw.bin", os.O_CREAT | os.O_EXCL))
        with zipfile.ZipFile("z.zip", "w") as archive:
            archive.writestr("a", "b")
        with tarfile.open("t.tgz", "w:gz") as archive:
            archive.add("a")
        with bz2.open("b.bz2", "w") as file:
            file.write(b"1")
        print(zipfile.ZipFile("z.zip").namelist(), sorted(tarfile.open("t.tgz").getnames()), bz2.open("b.bz2").read())
        for make in (tempfile.TemporaryFile, tempfile.NamedTemporaryFile, tempfile.SpooledTemporaryFile):
            with make() as file:
                file.write(b"x")
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "x").touch()
        os.chmod("a/moved.txt", 0o600)
        print(oct(os.stat("a/moved.txt").st_mode), os.access("a", os.R_OK), os.listdir(b"old/sub"))
        os.removedirs("a/b/c") if not os.listdir("a/b/c") and os.remove("a/b/2.txt") is None else None
        print(os.path.exists("a/b"), os.path.exists("a"))
        print(os.fspath(pathlib.Path("x").absolute()), os.getcwd())
        """
    for name in ("old/kept.txt", "old/other.txt", "old/gone.txt", "old/sub/s", "tree/deep/x", "second/s/t", "real.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(f"the content of {name}")
    outcome = run(text)
    assert outcome.record.end.error is None
    on_disk = shutil.copytree(project, project.parent / "disk")
    told = subprocess.run([sys.executable, "train.py"], cwd=on_disk, capture_output=True, text=True, check=True)
    assert outcome.output.replace(str(project), str(on_disk)).splitlines() == told.stdout.splitlines()


def test_what_a_script_wrote_goes_with_its_run(run):
    outcome = run("open('checkpoint', 'w').write('x' * 1000)\n")
    assert {path.name for path in outcome.record.folder.iterdir()} == {"job.json", "record.jsonl", "stacks.txt"}


def test_what_goes_past_the_mirror_is_told(run):
    outcome = run("""
        import os, socket, sqlite3, subprocess
        subprocess.run(["true", "1"])
        folder = os.open(".", os.O_RDONLY)
        try:
            os.open("x/y", os.O_WRONLY | os.O_CREAT, dir_fd=folder)
        except OSError:
            pass
        try:
            socket.create_connection(("192.0.2.1", 9), timeout=0.01)
        except OSError:
            pass
        sqlite3.connect(":memory:")
        """)
    told = {(event.what, Path(event.name).name) for event in outcome.record.of(Touched)}
    assert told == {("process", "true 1"), ("write", "y"), ("network", "192.0.2.1")}


def test_services_are_switched_off(run):
    outcome = run(
        "import os\nprint(os.environ['WANDB_MODE'], os.environ['HF_HUB_OFFLINE'], os.environ['MPLBACKEND'])\n"
    )
    assert outcome.output.split() == ["disabled", "1", "Agg"]


def test_arguments_and_standard_input(run, project):
    outcome = run("import sys\nprint(sys.argv, sys.path[0], repr(sys.stdin.read()))\n", argv=("--epochs", "1"))
    assert outcome.output == f"['{project}/train.py', '--epochs', '1'] {project} ''\n"


def test_the_overlay_is_what_runs(run, project, tmp_path):
    """In the script and in what it imports, also for tracebacks and `inspect`; `.pyc` files play no part."""
    (project / "net.py").write_text("def f():\n    return 'disk'\n")
    subprocess.run([sys.executable, "-c", "import net"], cwd=project, check=True)
    served = {"train": "import inspect, net, sys\nprint(net.f(), inspect.getsource(net.f))\nnet.g()\n"}
    served["net"] = "def f():\n    return 'overlay'\n\ndef g():\n    return 1 / 0  # here\n"
    overlay = {}
    for name, text in served.items():
        overlay[project / f"{name}.py"] = tmp_path / name
        (tmp_path / name).write_text(text)
    outcome = run("print('disk')\n", overlay=overlay)
    assert outcome.output.startswith("overlay def f():\n    return 'overlay'\n")
    assert "return 1 / 0  # here" in outcome.record.end.error.traceback
    assert outcome.record.end.error.at == (str(project / "net.py"), 5)
    assert set(outcome.record.loaded) == set(overlay)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_started_afresh_see_the_same_files(run, project, tmp_path, method):
    """The overlay of the script and of what it imports, and the mirror, into which they write as well."""
    (project / "net.py").write_text("NAME = 'disk'\n")
    (tmp_path / "net").write_text("NAME = 'overlay'\n")
    (tmp_path / "train").write_text(f"""\
import multiprocessing, net, os, torch

def work(name):
    os.makedirs("out", exist_ok=True)
    torch.save(torch.ones(2), f"out/{{name}}.pt")
    print(name, net.NAME, open("before.txt").read(), flush=True)

if __name__ == "__main__":
    open("before.txt", "w").write("seen")
    process = multiprocessing.get_context("{method}").Process(target=work, args=("child",))
    process.start()
    process.join()
    print(torch.load("out/child.pt"), process.exitcode)
""")
    overlay = {project / "train.py": tmp_path / "train", project / "net.py": tmp_path / "net"}
    outcome = run("raise NotImplementedError\n", overlay=overlay)
    assert outcome.output == "child overlay seen\ntensor([1., 1.]) 0\n"
    assert [event.name for event in outcome.record.of(Touched)] == ["multiprocessing"]


def test_a_class_of_the_script_can_be_pickled(run):
    outcome = run("""
        import pickle, sys
        class Config:
            pass
        print(type(pickle.loads(pickle.dumps(Config()))) is Config, sys.modules["__main__"].Config is Config)
        """)
    assert outcome.output == "True True\n"


@pytest.mark.parametrize("module", ["package.train", "package"])
def test_modules(run, project, tmp_path, module):
    package = project / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("NAME = 'other'\n")
    text = "import sys\nfrom .other import NAME\nprint(NAME, __name__, __package__, __spec__.name, sys.argv)\n"
    (package / "train.py").write_text(text)
    (package / "__main__.py").write_text("from . import nothing\n")
    (tmp_path / "main").write_text(text)
    outcome = run(None, module=module, argv=("a",), overlay={package / "__main__.py": tmp_path / "main"})
    name = "package.train" if module == "package.train" else "package.__main__"
    path = package / f"{name.rpartition('.')[2]}.py"
    assert outcome.output == f"other __main__ package {name} ['{path}', 'a']\n"
    assert set(outcome.record.loaded) == {package / "__init__.py", package / "other.py", path}


@pytest.mark.parametrize("module", ["nothing", "package.nothing", "package"])
def test_a_module_that_is_not_there(run, project, module):
    (project / "package").mkdir()
    (project / "package" / "__init__.py").write_text("")
    end = run(None, module=module).record.end
    assert end.status == "error"
    assert end.error.type in ("ImportError", "ModuleNotFoundError")


def test_a_file_of_the_project_hides_a_module_of_the_standard_library(run, project):
    (project / "profile.py").write_text("NAME = 'own'\n")
    outcome = run("import torch, profile\nprint(profile.NAME)\n")
    assert outcome.output == "own\n"


def test_executed_lines(run, project):
    text = """\
import net
for i in range(2):
    if i == 7:
        print("never")
    net.f(i)
"""
    (project / "net.py").write_text(
        "def f(x):\n    if x == 1:\n        return 1\n    return 2\n\ndef g():\n    return 3\n"
    )
    outcome = run(text, watch={project / "train.py": (1, 3, 4, 5), project / "net.py": (2, 3, 4, 7)})
    assert outcome.record.ran == {project / "train.py": {1, 3, 5}, project / "net.py": {2, 3, 4}}
    assert run(text).record.of(Lines) == ()


def test_runs_are_alike(run):
    text = (
        STEPS
        + """
import os, random
import numpy
drawn = [random.random(), numpy.random.rand(), numpy.random.default_rng().random(), torch.rand(()).item(), torch.seed()]
random.seed(), numpy.random.seed(), print(drawn, random.random(), numpy.random.rand(), hash("a"))
print(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)
torch.backends.cudnn.benchmark = True
torch.use_deterministic_algorithms(False)
print(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.get_num_threads())
step()
"""
    )
    first, second, other = run(text, threads=1), run(text, threads=1), run(text, seed=1)
    assert first.output == second.output != other.output
    assert first.output.splitlines()[1:] == ["True False", "True False 1"]
    assert values(first) == values(second) != values(other)


def test_the_scripts_own_seed_wins(run):
    text = "import random, torch\ntorch.manual_seed(5)\nrandom.seed(5)\nprint(torch.rand(()), random.random())\n"
    assert run(text, seed=0).output == run(text, seed=1).output


def test_an_operation_that_is_not_deterministic_is_named(run):
    text = "import torch\nx = torch.zeros(4)\nx.put_(torch.tensor([0, 0]), torch.ones(2))\n"
    assert run(text).record.named("nondeterministic") == ({"op": "put_"},)
    end = run(text, strict=True).record.end
    assert (end.status, end.error.type) == ("error", "RuntimeError")
    assert "put_ does not have a deterministic implementation" in end.error.message


def test_a_cpu_run_sees_no_other_device(run):
    text = "import torch\nprint(torch.cuda.is_available(), torch.backends.mps.is_available())\n"
    assert run(text, device="cpu").output == "False False\n"


def test_compilation_is_off(run):
    text = "import torch\nf = torch.compile(lambda x: x + 1, backend=lambda *_: 1 / 0)\nprint(f(torch.ones(1)))\n"
    assert run(text).output == "tensor([2.])\n"
    assert run(text, compile=True).record.end.status == "error"


def test_a_fresh_interpreter(run, project, tmp_path):
    """What `--launch` and systems without a reliable fork use."""
    served = tmp_path / "served"
    served.write_text(STEPS + "import sys\nprint(sys.path[0], hash('a'))\nwhile True:\n    step()\n")
    with Workers(env={MARK: "1"}, launch=(sys.executable,)) as launching:
        folder = launching.scratch
        outcome = launching.run(
            Job(
                out=launching.arm("a"), script=project / "train.py", cwd=project, roots=(project,), steps=2,
                overlay={project / "train.py": served},
            )
        )  # fmt: skip
    assert (outcome.ended, outcome.record.end.status, outcome.record.end.attempts) == ("exit", "stopped", {0: 2})
    assert outcome.output.startswith(f"{project} ")
    assert not folder.exists()


def test_an_interpreter_without_torch(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    with Workers(str(python)) as workers, pytest.raises(WorkerFailed, match="No module named 'torch'"):
        workers.run(Job(out=workers.arm("a"), script=tmp_path / "x.py", cwd=tmp_path, roots=(tmp_path,)))


def test_no_interpreter(tmp_path):
    with Workers(str(tmp_path / "none")) as workers, pytest.raises(WorkerFailed, match="No such file"):
        workers.run(Job(out=workers.arm("a"), script=tmp_path / "x.py", cwd=tmp_path, roots=(tmp_path,)))


HOST = """
import sys
from pathlib import Path
from ampify.verify.job import Job
from ampify.verify.workers import Workers
folder = Path(sys.argv[1])
with Workers() as workers:
    workers.run(Job(out=workers.arm("a"), script=folder / "train.py", cwd=folder, roots=(folder,)))
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_host(project, tmp_path, ending):
    """Also where it was killed, and could not clean up."""
    (project / "train.py").write_text("import time\nprint('x')\nopen('started', 'w').close()\ntime.sleep(600)\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mark = {"AMPIFY_HOST": str(tmp_path)}
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, project],
        env={**os.environ, **mark, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        preexec_fn=listening,
    )
    wait_for(lambda: list(scratch.rglob("started")))
    host.send_signal(ending)
    host.communicate(timeout=30)
    wait_for(lambda: not any(str(tmp_path).encode() in environment for environment in environments()))
    assert list(scratch.iterdir()) == []


def listening():
    """A shell starts what it puts into the background deaf to Ctrl-C, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def environments():
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            yield path.read_bytes() if int(path.parent.name) != os.getpid() else b""


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
