"""Which files are looked at, how they are decoded, and how they are replaced."""

import os
import stat
import time
from pathlib import Path

import pytest

from ampify.source import files
from ampify.source.document import Undecodable
from ampify.source.python import decode


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def found(root, *paths):
    errors = []
    names = [str(path.relative_to(root)) for path in files.find(paths or [root], errors.append)]
    assert not errors
    return names


@pytest.mark.parametrize(
    ("text", "matters"),
    [
        ("import torch", True),
        ("# by torch", True),
        ("from accelerate import Accelerator", True),
        ("import os, transformers", True),
        ("import \\\n    lightning as L", True),
        ('"import accelerate\\n"', True),
        ("importlib.import_module('transformers')", True),
        ("# this may accelerate it; faster than lightning", False),
        ("def test_accelerated(): pass", False),
    ],
)
def test_english_words_count_as_names_alone(text, matters):
    assert files.matters(text.encode()) is matters


class TestFind:
    def test_files_first_then_folders_by_name(self, tmp_path):
        make(tmp_path, "b/c.py", "b.py", "a/z.py", "a.pyi", "a.txt", "B.py")
        assert found(tmp_path) == ["B.py", "a.pyi", "b.py", "a/z.py", "b/c.py"]

    def test_a_named_file_is_always_taken_and_once(self, tmp_path):
        make(tmp_path, "script", "b.py", ".gitignore")
        (tmp_path / ".gitignore").write_text("b.py\n")
        script, b = tmp_path / "script", tmp_path / "b.py"
        assert found(tmp_path, script, b, script, tmp_path) == ["script", "b.py"]

    def test_what_git_ignores_is_skipped(self, tmp_path):
        make(tmp_path, "build/a.py", "out/a.py", "src/gen.py", "src/kept.py", "src/build/a.py", "src/out/a.py")
        (tmp_path / ".gitignore").write_text("build/\n/out\n*gen.py\n")
        assert found(tmp_path) == ["src/kept.py", "src/out/a.py"]

    def test_inner_patterns_overrule_outer_ones(self, tmp_path):
        make(tmp_path, "a.py", "sub/a.py", "sub/b.py")
        (tmp_path / ".gitignore").write_text("a.py\n")
        (tmp_path / "sub" / ".gitignore").write_text("!a.py\nb.py\n")
        assert found(tmp_path) == ["sub/a.py"]

    def test_patterns_above_the_folder_count_up_to_the_root_of_the_repository(self, tmp_path):
        make(tmp_path, "repo/.git/info/exclude", "repo/sub/a.py", "repo/sub/b.py", "repo/sub/c.py", "repo/sub/d.py")
        (tmp_path / ".gitignore").write_text("c.py\n")
        (tmp_path / "repo/.gitignore").write_text("/sub/a.py\n")
        (tmp_path / "repo/.git/info/exclude").write_text("b.py\n")
        assert found(tmp_path, tmp_path / "repo/sub") == ["repo/sub/c.py", "repo/sub/d.py"]

    def test_an_ignored_folder_that_is_named_is_taken(self, tmp_path):
        make(tmp_path, ".git/x", "build/a.py")
        (tmp_path / ".gitignore").write_text("build/\n")
        assert found(tmp_path, tmp_path / "build") == ["build/a.py"]

    def test_environments_and_caches_are_skipped(self, tmp_path):
        make(tmp_path, ".venv/a.py", "node_modules/a.py", "__pycache__/a.py", "mine/pyvenv.cfg", "mine/a.py", "a.py")
        assert found(tmp_path) == ["a.py"]

    def test_an_environment_that_is_named_is_taken(self, tmp_path):
        make(tmp_path, "env/pyvenv.cfg", "env/a.py", "env/inner/pyvenv.cfg", "env/inner/b.py")
        assert found(tmp_path, tmp_path / "env") == ["env/a.py"]

    def test_a_link_within_the_tree_is_the_file_it_leads_to(self, tmp_path):
        make(tmp_path, "b.py", "deep/c.py")
        (tmp_path / "a.py").symlink_to(tmp_path / "deep" / "c.py")
        assert found(tmp_path) == ["a.py", "b.py"]

    def test_links_to_folders_are_not_followed(self, tmp_path):
        make(tmp_path, "a/b/c.py")
        (tmp_path / "a/b/up").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "self").symlink_to("self")
        assert found(tmp_path) == ["a/b/c.py"]

    def test_a_folder_that_cannot_be_listed_is_an_error(self, tmp_path, monkeypatch):
        make(tmp_path, "a/b.py", "c.py")
        listing = os.scandir

        def refuse(folder):
            if Path(folder).name == "a":
                raise PermissionError(13, "Permission denied", str(folder))
            return listing(folder)

        monkeypatch.setattr(os, "scandir", refuse)
        errors = []
        assert [path.name for path in files.find([tmp_path], errors.append)] == ["c.py"]
        assert [error.filename for error in errors] == [str(tmp_path / "a")]


class TestWrite:
    def test_replaces_and_leaves_nothing_behind(self, tmp_path):
        file = tmp_path / "a.py"
        file.write_bytes(b"old")
        files.write(file, b"old", b"new")
        assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.py", b"new")]

    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
    def test_keeps_the_mode(self, tmp_path, mode):
        file = tmp_path / "a.py"
        file.write_bytes(b"old")
        file.chmod(mode)
        files.write(file, b"old", b"new")
        assert stat.S_IMODE(file.stat().st_mode) == mode

    def test_keeps_a_link_and_replaces_what_it_leads_to(self, tmp_path):
        make(tmp_path, "real/a.py")
        link = tmp_path / "link.py"
        link.symlink_to("real/a.py")
        files.write(link, b"", b"new")
        assert link.is_symlink()
        assert (tmp_path / "real/a.py").read_bytes() == b"new"

    def test_a_file_that_has_changed_is_not_overwritten(self, tmp_path):
        file = tmp_path / "a.py"
        file.write_bytes(b"edited")
        with pytest.raises(files.FileChanged, match="was changed"):
            files.write(file, b"old", b"new")
        assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"edited"]

    def test_a_read_only_file_is_left_alone(self, tmp_path):
        file = tmp_path / "a.py"
        file.write_bytes(b"old")
        file.chmod(0o444)
        with pytest.raises(PermissionError, match="read-only"):
            files.write(file, b"old", b"new")
        assert file.read_bytes() == b"old"

    def test_a_vanished_file_does_not_come_back(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            files.write(tmp_path / "a.py", b"old", b"new")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_what_fails_midway_leaves_the_old_file_only(self, tmp_path, monkeypatch, call):
        file = tmp_path / "a.py"
        file.write_bytes(b"old")

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space"):
            files.write(file, b"old", b"new")
        assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


class TestWriteAll:
    @pytest.fixture
    def three(self, tmp_path):
        paths = [tmp_path / name for name in ("a.py", "b.py", "c.py")]
        for path in paths:
            path.write_bytes(b"old")
        return paths

    def held(self, folder):
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def test_all_are_replaced(self, tmp_path, three):
        assert files.write_all((path, b"old", b"new") for path in three) == []
        assert self.held(tmp_path) == dict.fromkeys(("a.py", "b.py", "c.py"), b"new")

    def test_a_disk_that_is_full_for_one_changes_none(self, tmp_path, three, monkeypatch):
        calls, replaced, sync = [], [], os.fsync

        def fail(handle):
            calls.append(handle)
            if len(calls) == 3:
                raise OSError(28, "No space left on device")
            sync(handle)

        monkeypatch.setattr(os, "fsync", fail)
        monkeypatch.setattr(os, "replace", lambda *names: replaced.append(names))
        ((path, error),) = files.write_all((path, b"old", b"new") for path in three)
        assert (path.name, error.errno, replaced) == ("c.py", 28, [])
        assert self.held(tmp_path) == dict.fromkeys(("a.py", "b.py", "c.py"), b"old")

    def test_one_that_has_changed_puts_the_others_back(self, tmp_path, three):
        three[2].write_bytes(b"mine")
        ((path, error),) = files.write_all((path, b"old", b"new") for path in three)
        assert (path.name, type(error)) == ("c.py", files.FileChanged)
        assert self.held(tmp_path) == {"a.py": b"old", "b.py": b"old", "c.py": b"mine"}

    def test_what_cannot_be_put_back_is_told(self, tmp_path, three, monkeypatch):
        """Somebody writes the first file just before the second one turns out to be changed."""
        three[1].write_bytes(b"mine")
        rename = os.replace

        def meddled(temporary, real):
            rename(temporary, real)
            three[0].write_bytes(b"theirs")

        monkeypatch.setattr(os, "replace", meddled)
        failures = files.write_all((path, b"old", b"new") for path in three)
        assert [path.name for path, _ in failures] == ["b.py", "a.py"]
        assert self.held(tmp_path) == {"a.py": b"theirs", "b.py": b"mine", "c.py": b"old"}

    def test_an_interrupt_puts_the_others_back(self, tmp_path, three, monkeypatch):
        rename, calls = os.replace, []

        def interrupted(temporary, real):
            calls.append(real)
            if len(calls) == 2:
                raise KeyboardInterrupt
            rename(temporary, real)

        monkeypatch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            files.write_all([(path, b"old", b"new") for path in three])
        assert self.held(tmp_path) == dict.fromkeys(("a.py", "b.py", "c.py"), b"old")


@pytest.mark.parametrize(("age", "kept"), [(3600, False), (0, True)])
def test_what_a_killed_run_has_left_is_removed_once_it_is_old(tmp_path, age, kept):
    file, rest, other = tmp_path / "a.py", tmp_path / ".a.py.ampify-x1y2.tmp", tmp_path / ".a.py.mine.tmp"
    for path in (file, rest, other):
        path.write_bytes(b"old")
        os.utime(path, (time.time() - age,) * 2)
    files.write(file, b"old", b"new")
    assert file.read_bytes() == b"new"
    assert (rest.exists(), other.exists()) == (kept, True)


class TestDecode:
    @pytest.mark.parametrize(
        "raw",
        [
            b"x = 1\r\ny = 2\r\n",
            b"x = 1\n\ty = 2",
            b"\xef\xbb\xbfx = '\xc3\xa9'\r",
            b"# coding: latin-1\nx = '\xe9'\n",
            "# -*- coding: cp1251 -*-\nx = 'ж'\n".encode("cp1251"),
            b"",
        ],
    )
    def test_there_and_back(self, raw):
        document = decode(Path("a.py"), raw)
        assert "\ufeff" not in document.text
        assert document.encode([document.text]) == raw

    @pytest.mark.parametrize(
        ("raw", "code", "line"),
        [
            (b"x\ny\nz = '\xff'\n", "AMP900", 3),
            (b"# coding: nonsense\n", "AMP900", 1),
            (b"# coding: rot13\n", "AMP900", 1),
            (b"\x89PNG\r\n\x1a\n\x00\x00", "AMP900", 1),
            (b"# coding: utf-7\nx = '+AGE-'\n", "AMP905", 1),
        ],
    )
    def test_what_is_no_text(self, raw, code, line):
        with pytest.raises(Undecodable) as caught:
            decode(Path("a.py"), raw)
        assert (caught.value.code, caught.value.line) == (code, line)
