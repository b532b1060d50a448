"""Holds a project's training scripts to the ladder in its own test suite: `pytest --ampify`, or a fixture in a test.

Loaded by every pytest that has ampify installed, so it imports nothing of it before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ampify.verify.request import Request
    from ampify.verify.verdict import Verdict
    from ampify.verify.workers import Workers


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ampify")
    group.addoption(
        "--ampify", action="store_true", help="Also verify every `[[tool.ampify.verify]]` of the project's config file."
    )


class NotEquivalent(Exception):
    """A verdict that is no success; the message is its report."""


class VerifyItem(pytest.Item):
    """One script of the config file."""

    def __init__(self, *, wanted: Request, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wanted = wanted

    def runtest(self) -> None:
        from ampify.verify.ladder import climb

        _hold(climb(self.wanted))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, NotEquivalent):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"ampify verify: {self.wanted.title}"


@pytest.hookimpl(tryfirst=True)  # so that `-k` and the like choose among them too
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--ampify"):
        items.extend(_collected(session, config.rootpath))


def _collected(session: pytest.Session, folder: Path) -> Iterator[VerifyItem]:
    from ampify.config import ConfigError, verify_tables
    from ampify.verify.project import requests

    try:
        file, _ = verify_tables(folder)
        for request in requests(folder):
            yield VerifyItem.from_parent(session, name=request.title, path=file, wanted=request)
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def _ampify_workers() -> Iterator[Callable[[Request], Workers]]:
    """One server for each interpreter and folder, for the whole session."""
    from contextlib import ExitStack

    from ampify.verify.workers import Workers

    with ExitStack() as stack:
        opened: dict[tuple[Any, ...], Workers] = {}

        def workers(request: Request) -> Workers:
            key = (request.python, request.cwd, request.launch)
            if key not in opened:
                opened[key] = stack.enter_context(Workers(request.python, cwd=request.cwd, launch=request.launch))
            return opened[key]

        yield workers


@pytest.fixture
def amp_equivalence(
    _ampify_workers: Callable[[Request], Workers], pytestconfig: pytest.Config
) -> Callable[..., Verdict]:
    """`amp_equivalence("train.py", ["--epochs", "1"], steps=8)` fails where the script and its conversion differ.

    Further options are those of `Request`; paths are relative to pytest's root folder. Gives the verdict.
    """

    def hold(script: str | Path, args: Sequence[str] = (), **options: Any) -> Verdict:
        from ampify.verify.ladder import climb
        from ampify.verify.project import build

        values = {"script": Path(script), "args": tuple(args), "cwd": pytestconfig.rootpath, **options}
        request = build(values, pytestconfig.rootpath, None)
        return _hold(climb(request, workers=_ampify_workers(request)))

    return hold


def _hold(verdict: Verdict) -> Verdict:
    """The verdict if it is a success."""
    if verdict.status:
        from ampify.verify.report.text import text

        raise NotEquivalent(text(verdict))
    return verdict
