"""Files that are broken, huge, deep or gone: each is one finding or one error line, never a traceback."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ampify.config import Settings
from ampify.engine import Mode, Run, check, check_text
from ampify.source import files

ROOT = Path(__file__).parents[1]
HEAD = b"import torch\nautocast = None\n"
"""What the screens let through: a word of mixed precision."""
CHAIN = b" + 1"

ONE_FINDING = {
    "python_2": (HEAD + b"print 'loss', loss\n", "AMP900"),
    "binary": (b"\x7fELF\x02\x01\x01\x00\xfe\xfftorch\x00", "AMP900"),
    "nul": (HEAD + b"x = 1\x00\n", "AMP900"),
    "undecodable": (HEAD + b"x = '\xff'\n", "AMP900"),
    "unknown_encoding": (b"# coding: klingon\n" + HEAD, "AMP900"),
    "broken_indentation": (HEAD + b"  x\n y\n", "AMP900"),
    "unfinished": (HEAD + b"f(", "AMP900"),
    "twenty_megabytes": (HEAD + b"x = 1\n" * 3_500_000, "AMP905"),
    "chain_of_1500": (HEAD + b"x = 1" + CHAIN * 1_500 + b"\n", "AMP905"),
    "chain_of_12000": (HEAD + b"x = 1" + CHAIN * 12_000 + b"\n", "AMP905"),
    "chain_of_200000": (HEAD + b"x = 1" + CHAIN * 200_000 + b"\n", "AMP905"),
    "calls": (HEAD + b"x" + b"()" * 5_000 + b"\n", "AMP905"),
    "minus": (HEAD + b"-" * 2_000 + b"1\n", "AMP905"),
    "carriage_returns": (b"import torch\rautocast = 1\r", "AMP905"),
}
NOTHING = {
    "empty": b"",
    "blank": b"\n\n",
    "mark_only": b"\xef\xbb\xbf",
    "binary_without_torch": b"\x7fELF\x00\xff",
    "no_newline": b"import torch",
    "invalid_escape": HEAD + b"x = '\\d'\n",
}


def ampify(*arguments, folder, **variables):
    """The real program: a crash of the process is seen as what it is."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-m", "ampify", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", ONE_FINDING)
def test_one_finding(tmp_path, name):
    raw, code = ONE_FINDING[name]
    (tmp_path / "train.py").write_bytes(raw)
    result = ampify("train.py", "--fix", "--output-format", "concise", folder=tmp_path)
    lines = result.stdout.splitlines()
    assert [f" {code} " in line for line in lines] == [True, False]
    assert lines[1] == "Found 1 finding"
    assert (result.returncode, result.stderr) == (int(code == "AMP900"), "")
    assert (tmp_path / "train.py").read_bytes() == raw


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_to_say(tmp_path, name):
    (tmp_path / "train.py").write_bytes(NOTHING[name])
    result = ampify("train.py", "--fix", folder=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "Nothing to report in 1 file\n", "")


@pytest.mark.parametrize("opening", ["(", "[", "f(", "{1:", "if x:", "lambda: ", "not ", "x if y else "])
def test_deep_nesting(tmp_path, opening):
    blocks = "\n".join(" " * depth + opening for depth in range(95)) + "\n" + " " * 95 + "pass\n"
    closing = {"(": ")", "[": "]", "f(": ")", "{1:": "}"}.get(opening, "")
    deep = blocks if opening == "if x:" else opening * 3_000 + "1" + closing * 3_000 + "\n"
    (tmp_path / "train.py").write_text(HEAD.decode() + deep)
    result = ampify("train.py", "--output-format", "concise", folder=tmp_path)
    assert result.stderr == ""
    assert result.returncode in (0, 1)
    assert len(result.stdout.splitlines()) <= 2


def test_a_loop_of_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "train.py").write_bytes(HEAD)
    assert ampify(".", folder=tmp_path).stdout == "Nothing to report in 1 file\n"


def test_strange_names(tmp_path):
    names = ["a b.py", "é.py", "new\nline.py", os.fsdecode(b"\xff.py")]
    for name in names:
        (tmp_path / name).write_bytes(HEAD + b"f(")
    result = ampify(".", "--output-format", "concise", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.count("AMP900") == len(names)


@pytest.mark.usefixtures("fakes")
class TestWriting:
    def test_a_file_that_disappears_is_one_error_and_the_others_are_done(self, tmp_path):
        gone, kept = tmp_path / "a.py", tmp_path / "b.py"
        for file in (gone, kept):
            file.write_bytes(HEAD + b"old\n")

        def track(found):
            gone.unlink()
            return found

        report = check([tmp_path], Run(mode=Mode.WRITE), track)
        assert report.errors == (f"{gone}: No such file or directory",)
        assert report.status == 2
        assert kept.read_bytes() == HEAD + b"new\n"

    @pytest.mark.parametrize("what", ["read_only", "changed", "removed"])
    def test_a_file_that_cannot_be_written_is_one_error_and_keeps_its_findings(self, tmp_path, monkeypatch, what):
        file, other, write = tmp_path / "a.py", tmp_path / "b.py", files.write_all
        file.write_bytes(HEAD + b"old\n")
        other.write_bytes(HEAD + b"old\n")
        harm = {
            "read_only": lambda: file.chmod(0o444),
            "changed": lambda: file.write_bytes(HEAD + b"edited\n"),
            "removed": lambda: file.unlink(missing_ok=True),
        }[what]

        def write_late(changes):
            if [path for path, _, _ in changes] == [file]:
                harm()
            return write(changes)

        monkeypatch.setattr(files, "write_all", write_late)
        report = check([tmp_path], Run(mode=Mode.WRITE))
        assert len(report.errors) == 1
        assert report.errors[0].startswith(f"{file}: ")
        assert [d.code for d in report.files[0].diagnostics] == ["AMP801"]
        assert other.read_bytes() == HEAD + b"new\n"
        assert {path.name for path in tmp_path.iterdir()} <= {"a.py", "b.py"}

    @pytest.mark.parametrize(
        "raw",
        [
            b"import torch\r\nold  # kept\r\n\r\n",
            b"\xef\xbb\xbfimport torch\nold\n",
            b"# coding: latin-1\nimport torch\nold, '\xe9'\n",
            b"import torch\nif old:\n\tx\n",
            b"import torch\nold",
            b"import torch\r\nold\nold\r\n",
        ],
    )
    def test_everything_but_the_fix_is_kept(self, tmp_path, raw):
        real, link = tmp_path / "real.txt", tmp_path / "train.py"
        real.write_bytes(raw)
        real.chmod(0o750)
        link.symlink_to("real.txt")
        assert check([link], Run(mode=Mode.WRITE)).status == 0
        assert real.read_bytes() == raw.replace(b"old", b"new")
        assert stat.S_IMODE(real.stat().st_mode) == 0o750
        assert link.readlink() == Path("real.txt")


def test_what_is_made_of_its_own_elements():
    text = """\
import torch


class Data:
    def __init__(self):
        self.put(self.read)

    def put(self, given):
        self.read = given[0]

    def __len__(self):
        return self.read()
"""
    assert check_text(text, Settings()) == []
