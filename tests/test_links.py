"""Which file an import leads to, by the paths of the files alone."""

from __future__ import annotations

import pytest

from ampify.syntax.links import Links, member

PATHS = [
    "/p/main.py",
    "/p/engine.py",
    "/p/pkg/__init__.py",
    "/p/pkg/engine.py",
    "/p/pkg/deep/__init__.py",
    "/p/pkg/deep/losses.py",
    "/p/src/lib/steps.py",
    "/p/tools/run.py",
    "/p/tools/engine.py",
]


@pytest.mark.parametrize(
    ("importer", "path", "target", "left"),
    [
        ("/p/main.py", "engine", "/p/engine.py", ()),
        ("/p/main.py", "engine.train", "/p/engine.py", ("train",)),
        ("/p/tools/run.py", "engine.train", "/p/tools/engine.py", ("train",)),
        ("/p/main.py", "pkg.engine.Trainer.fit", "/p/pkg/engine.py", ("Trainer", "fit")),
        ("/p/main.py", "pkg.train", "/p/pkg/__init__.py", ("train",)),
        ("/p/pkg/engine.py", ".deep.losses.total", "/p/pkg/deep/losses.py", ("total",)),
        ("/p/pkg/deep/losses.py", "..engine.train", "/p/pkg/engine.py", ("train",)),
        ("/p/pkg/deep/losses.py", "..train", "/p/pkg/__init__.py", ("train",)),
        ("/p/pkg/deep/__init__.py", ".losses", "/p/pkg/deep/losses.py", ()),
        ("/p/tools/run.py", "lib.steps.advance", "/p/src/lib/steps.py", ("advance",)),
        ("/p/tools/run.py", "pkg.deep.losses.total", "/p/pkg/deep/losses.py", ("total",)),
    ],
)
def test_target(importer: str, path: str, target: str, left: tuple[str, ...]) -> None:
    assert Links(PATHS).target(path, PATHS.index(importer)) == (PATHS.index(target), left)


@pytest.mark.parametrize(
    ("importer", "path"),
    [
        ("/p/main.py", "torch.nn"),
        ("/p/main.py", "steps.advance"),
        ("/p/engine.py", "engine.train"),
        ("/p/main.py", ".missing"),
    ],
)
def test_no_target(importer: str, path: str) -> None:
    assert Links(PATHS).target(path, PATHS.index(importer)) is None


def test_of_two_files_with_the_same_end_neither_is_taken() -> None:
    paths = ["/a/lib/steps.py", "/b/lib/steps.py", "/c/main.py"]
    assert Links(paths).target("lib.steps.advance", 2) is None


@pytest.mark.parametrize(
    ("module", "path"), [("engine", "engine.x"), (".", ".x"), ("..", "..x"), (".losses", ".losses.x")]
)
def test_member(module: str, path: str) -> None:
    assert member(module, "x") == path
