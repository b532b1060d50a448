"""What people see: on a terminal of 80 columns, in a pipe, with colours on and off, with Windows line endings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")
ROOT = Path(__file__).parents[1]
SOURCE = """import torch


def train(model, loader, optimizer, criterion):
    for images, labels in loader:
        with torch.cuda.amp.autocast():
            loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
"""
PLAIN = {name: value for name, value in os.environ.items()
         if name not in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS")}  # fmt: skip
ESCAPE = "\x1b["


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(SOURCE)
    return tmp_path


def environment(**variables):
    return {**PLAIN, "TERM": "xterm", "PYTHONPATH": str(ROOT), **variables}


def command(*arguments):
    return [sys.executable, "-m", "ampify", *arguments]


def in_a_pipe(folder, *arguments, **variables):
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(**variables), capture_output=True, check=False
    )
    return done.stdout.decode()


def on_a_terminal(folder, *arguments, answers="", **variables):
    """What a terminal of 80 columns is sent."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        command(*arguments), cwd=folder, env=environment(**variables), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, answers.encode())
    said = b""
    while piece := _read(ours):
        said += piece
    os.close(ours)
    process.wait(60)
    return said.decode()


def _read(handle):
    try:
        return os.read(handle, 4096)
    except OSError:  # nobody is on the other side any longer
        return b""


@pytest.mark.parametrize(
    ("variables", "pipe", "terminal"),
    [
        ({}, False, True),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, False, True),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": ""}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"CLICOLOR_FORCE": "1"}, True, True),
        ({"CLICOLOR_FORCE": "0"}, False, True),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False, False),
        ({"CLICOLOR": "0"}, False, False),
        ({"CLICOLOR": "0", "CLICOLOR_FORCE": "1"}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
    ],
)
def test_colours(folder, variables, pipe, terminal):
    """As ruff 0.17 does, tried with each row but `CLICOLOR_FORCE=0`, which forces colours there."""
    piped, shown = in_a_pipe(folder, ".", **variables), on_a_terminal(folder, ".", **variables)
    assert "AMP101" in piped
    assert "AMP101" in shown
    assert (ESCAPE in piped, ESCAPE in shown) == (pipe, terminal)


def test_a_file_is_never_coloured(folder):
    in_a_pipe(folder, ".", "-o", "report.txt", FORCE_COLOR="1")
    assert ESCAPE not in (folder / "report.txt").read_text()


@pytest.mark.parametrize(
    "arguments", [("steps", "."), ("--help",), ("check", "--help"), ("rules",), ("--show-settings", ".")]
)
def test_80_columns(folder, arguments):
    lines = on_a_terminal(folder, *arguments, NO_COLOR="1").replace("\r\n", "\n").splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    assert max(map(len, in_a_pipe(folder, *arguments).splitlines())) <= 80


def test_a_terminal_and_a_pipe_say_the_same(folder):
    assert on_a_terminal(folder, ".", NO_COLOR="1").replace("\r\n", "\n") == in_a_pipe(folder, ".")


def test_questions_on_a_terminal(folder):
    shown = on_a_terminal(folder, "--fix", "--interactive", ".", answers="y\n")
    assert "Apply this fix [y,n,q,a,d,?]?" in shown
    assert "torch.autocast" in (folder / "train.py").read_text()
    assert "Fixed 1 finding" in shown


@pytest.mark.parametrize("form", ["text", "concise", "grouped"])
def test_windows_line_endings_are_not_shown_and_not_lost(folder, form):
    plain = in_a_pipe(folder, ".", "--output-format", form)
    (folder / "train.py").write_bytes(SOURCE.replace("\n", "\r\n").encode())
    assert in_a_pipe(folder, ".", "--output-format", form) == plain
    in_a_pipe(folder, ".", "--fix")
    raw = (folder / "train.py").read_bytes()
    assert b"torch.autocast" in raw
    assert raw.count(b"\n") == raw.count(b"\r\n")
