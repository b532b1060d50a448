"""The language server: what the client asks and is told. Texts are looked at in a thread, one at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, TypeVar

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from ampify import __version__
from ampify.config import ConfigError, Lookup
from ampify.diagnostic import TOOL_CODES
from ampify.rule import load, page
from ampify.server.actions import FIX_ALL, Offer, changes, findings, offers
from ampify.server.desk import Desk, Study
from ampify.server.papers import Paper, Papers, keep_lines
from ampify.server.protocol import diagnostic, extent, file_uri, text_edits
from ampify.unit import Change

PAUSE = 0.3
"""Seconds after the last key until a text is looked at."""
_WATCHED = ("**/*.py", "**/pyproject.toml", "**/ampify.toml")
_CODE = re.compile(r"\bAMP\d{3}\b")
Answer = TypeVar("Answer")


class Session(LanguageServer):
    """One client and what it has open."""

    def __init__(self, settings: Lookup) -> None:
        languages = [types.NotebookCellLanguage("python")]
        books = types.NotebookDocumentFilterWithCells(
            languages, types.NotebookDocumentFilterNotebookType("jupyter-notebook")
        )
        super().__init__(
            "ampify", __version__, notebook_document_sync=types.NotebookDocumentSyncOptions([books], save=True)
        )
        self.desk = Desk(settings)
        self.editions = count(1)
        self.edition = 0
        """Grows with everything that changes; what is known of an older one is stale."""
        self.studies: dict[str, tuple[int, Study]] = {}
        self.waiting: dict[str, asyncio.Task[None]] = {}
        self.lock = asyncio.Lock()
        self.told: set[str] = set()

    @property
    def papers(self) -> Papers:
        return Papers(self.workspace)

    @property
    def encoding(self) -> str:
        return str(getattr(self.workspace.position_encoding, "value", self.workspace.position_encoding) or "utf-16")

    def changed(self, uri: str, pause: float = PAUSE) -> None:
        """A text is another one now: look at it when it has been left alone for a while."""
        self.edition = next(self.editions)
        home = self.papers.home(uri)
        if (task := self.waiting.pop(home, None)) is not None:
            task.cancel()
        self.waiting[home] = asyncio.get_running_loop().create_task(self.look(home, pause))

    def changed_outside(self) -> None:
        """Files on disk are others now."""
        self.desk.forget()
        for paper in self.papers.all():
            self.changed(paper.uri)

    async def look(self, uri: str, pause: float) -> None:
        """Publish what there is to say about an open document, and about the open ones it is one program with."""
        await asyncio.sleep(pause)
        if (study := await self.study(uri)) is None:
            return
        if await self.ask(lambda: study.report) is None:
            return
        for error in study.report.errors:
            self.tell(error)
        for paper in self.papers.all():
            if paper.uri == uri or any(paper.path == each.path for each in study.group.documents):
                self.publish(paper, study)

    def publish(self, paper: Paper, study: Study) -> None:
        for cell, (uri, version) in paper.pages.items():
            told = [diagnostic(source, found, paper.uri_of, self.encoding)
                    for source, found in findings(study, paper, cell)]  # fmt: skip
            self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, told, version))

    async def study(self, uri: str) -> Study | None:
        """What is known of an open document as it is now."""
        edition, study = self.studies.get(uri, (0, None))
        if study is not None and edition == self.edition:
            return study
        if (paper := self.papers.paper(uri)) is None:
            return None
        edition, lying = self.edition, {each.path: each.document for each in self.papers.all()}
        root = self.papers.root(paper.path)
        study = await self.ask(lambda: self.desk.study(paper.document, lying, root))
        if study is not None:
            self.studies[uri] = edition, study
        return study

    async def ask(self, work: Callable[[], Answer]) -> Answer | None:
        """The work done in a thread; what is wrong with the settings is told."""
        try:
            async with self.lock:
                return await asyncio.to_thread(work)
        except ConfigError as error:
            self.tell(str(error))
            return None

    def tell(self, message: str) -> None:
        """Say something to the user, once."""
        if message not in self.told:
            self.told.add(message)
            self.window_show_message(types.ShowMessageParams(types.MessageType.Error, f"ampify: {message}"))

    def edit(self, changes: Iterable[Change]) -> types.WorkspaceEdit:
        """The changes of pages, files or cells, as the client applies them."""
        papers = [*self.papers.all()]
        edits = []
        for change in changes:
            known = (target for paper in papers if (target := paper.target(change.title)) is not None)
            uri, version = next(known, (file_uri(change.title), None))
            edits.append((uri, version, text_edits(change.before, change.after, self.encoding)))
        workspace = self.client_capabilities.workspace
        if workspace and workspace.workspace_edit and workspace.workspace_edit.document_changes:
            return types.WorkspaceEdit(
                document_changes=[
                    types.TextDocumentEdit(types.OptionalVersionedTextDocumentIdentifier(uri, version), [*wanted])
                    for uri, version, wanted in edits
                ]
            )
        return types.WorkspaceEdit(changes={uri: wanted for uri, _, wanted in edits})


def serve(settings: Lookup) -> None:
    """Serve one client on standard input and output."""
    started(settings).start_io()


def started(settings: Lookup) -> Session:
    session = Session(settings)
    _listen(session)
    _answer(session)
    return session


def _listen(session: Session) -> None:
    """What the client tells."""

    @session.feature(types.INITIALIZE)
    def initialize(_params: types.InitializeParams) -> None:
        keep_lines(session.workspace)

    @session.feature(types.INITIALIZED)
    async def initialized(_params: types.InitializedParams) -> None:
        workspace = session.client_capabilities.workspace
        watched = workspace and workspace.did_change_watched_files
        if watched and watched.dynamic_registration:
            watchers = [types.FileSystemWatcher(pattern) for pattern in _WATCHED]
            options = types.DidChangeWatchedFilesRegistrationOptions(watchers)
            registration = types.Registration("ampify-files", types.WORKSPACE_DID_CHANGE_WATCHED_FILES, options)
            await session.client_register_capability_async(types.RegistrationParams([registration]))

    @session.feature(types.TEXT_DOCUMENT_DID_OPEN)
    async def opened(params: types.DidOpenTextDocumentParams) -> None:
        session.changed(params.text_document.uri, 0)

    @session.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    async def typed(params: types.DidChangeTextDocumentParams) -> None:
        session.changed(params.text_document.uri)

    @session.feature(types.TEXT_DOCUMENT_DID_SAVE)
    async def saved(_params: types.DidSaveTextDocumentParams) -> None:
        session.changed_outside()

    @session.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    async def watched(_params: types.DidChangeWatchedFilesParams) -> None:
        session.changed_outside()

    @session.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    async def closed(params: types.DidCloseTextDocumentParams) -> None:
        _clear(session, params.text_document.uri, [params.text_document.uri])

    @session.feature(types.NOTEBOOK_DOCUMENT_DID_OPEN)
    async def book_opened(params: types.DidOpenNotebookDocumentParams) -> None:
        session.changed(params.notebook_document.uri, 0)

    @session.feature(types.NOTEBOOK_DOCUMENT_DID_CHANGE)
    async def book_typed(params: types.DidChangeNotebookDocumentParams) -> None:
        session.changed(params.notebook_document.uri)

    @session.feature(types.NOTEBOOK_DOCUMENT_DID_SAVE)
    async def book_saved(_params: types.DidSaveNotebookDocumentParams) -> None:
        session.changed_outside()

    @session.feature(types.NOTEBOOK_DOCUMENT_DID_CLOSE)
    async def book_closed(params: types.DidCloseNotebookDocumentParams) -> None:
        _clear(session, params.notebook_document.uri, [cell.uri for cell in params.cell_text_documents])


def _clear(session: Session, home: str, uris: Iterable[str]) -> None:
    """A document is closed: nothing more is said of it."""
    session.studies.pop(home, None)
    if (task := session.waiting.pop(home, None)) is not None:
        task.cancel()
    for uri in uris:
        session.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, []))


def _answer(session: Session) -> None:
    """What the client asks."""
    kinds = [types.CodeActionKind.QuickFix, types.CodeActionKind.RefactorRewrite, FIX_ALL]

    @session.feature(types.TEXT_DOCUMENT_HOVER)
    async def hover(params: types.HoverParams) -> types.Hover | None:
        return await _pages(session, params.text_document.uri, params.position)

    @session.feature(types.TEXT_DOCUMENT_CODE_ACTION, types.CodeActionOptions(kinds, resolve_provider=True))
    async def actions(params: types.CodeActionParams) -> list[types.CodeAction]:
        return await _actions(session, params)

    @session.feature(types.CODE_ACTION_RESOLVE)
    async def resolve(action: types.CodeAction) -> types.CodeAction:
        return await _resolved(session, action)


async def _pages(session: Session, uri: str, position: types.Position) -> types.Hover | None:
    """The pages of the findings at a place, and of a code that is written there."""
    home, cell = session.papers.home(uri), session.papers.cell(uri)
    study, paper = await session.study(home), session.papers.paper(home)
    if study is None or paper is None or await session.ask(lambda: study.report) is None:
        return None
    here = [found.code for source, found in findings(study, paper, cell)
            if within(position, extent(source, found.span, session.encoding))]  # fmt: skip
    codes = dict.fromkeys([*here, *_written(session, uri, position)])
    if not codes:
        return None
    text = "\n---\n\n".join([page(code) for code in codes])
    return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, text))


def _written(session: Session, uri: str, position: types.Position) -> Iterator[str]:
    lines = session.workspace.get_text_document(uri).lines
    line = lines[position.line] if position.line < len(lines) else ""
    for match in _CODE.finditer(line):
        known = match[0] in TOOL_CODES or match[0] in load()
        if known and match.start() <= position.character <= match.end():
            yield match[0]


def within(position: types.Position, span: types.Range) -> bool:
    return span.start <= position <= span.end


async def _actions(session: Session, params: types.CodeActionParams) -> list[types.CodeAction]:
    home, cell = session.papers.home(params.text_document.uri), session.papers.cell(params.text_document.uri)
    study, paper = await session.study(home), session.papers.paper(home)
    if study is None or paper is None:
        return []
    offered = await session.ask(lambda: [*offers(study, paper, params, cell, session.encoding)])
    takes = session.client_capabilities.text_document and session.client_capabilities.text_document.code_action
    found = [_action(session, home, offer) for offer in offered or []]
    if not (takes and takes.disabled_support):
        found = [action for action in found if not action.disabled]
    if takes and takes.resolve_support and "edit" in takes.resolve_support.properties:
        return found
    resolved = [await _resolved(session, action) for action in found]
    return [action for action in resolved if action.edit or action.disabled]


def _action(session: Session, home: str, offer: Offer) -> types.CodeAction:
    return types.CodeAction(
        title=offer.title,
        kind=offer.kind,
        diagnostics=offer.diagnostics or None,
        is_preferred=offer.preferred or None,
        disabled=types.CodeActionDisabled(offer.refusal) if offer.refusal else None,
        data={"home": home, **offer.data},
    )


async def _resolved(session: Session, action: types.CodeAction) -> types.CodeAction:
    data: Any = action.data
    study = await session.study(data["home"])
    if study is None or action.disabled:
        return action
    done = await session.ask(lambda: changes(study, data))
    if done:
        action.edit = session.edit(done)
    return action
