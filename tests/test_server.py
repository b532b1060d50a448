"""The language server, driven by a client that speaks the protocol with it over the pipes of a process."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_lsp
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from ampify.rule import page

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "ampify", "server"]
STEP = """import torch
from torch import nn

model = nn.Linear(4, 1).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for inputs, targets in loader:
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
"""
LONG = 60
"""Seconds; nothing takes as long."""
OLD = "import torch\n\nscaler = torch.cuda.amp.GradScaler()\n"


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("workspace")


@pytest_lsp.fixture(scope="module", loop_scope="module", config=ClientServerConfig(server_command=COMMAND))
async def client(lsp_client: LanguageClient, workspace):
    """A client such as VS Code, with one folder open."""

    @lsp_client.feature(types.CLIENT_REGISTER_CAPABILITY)
    def register(params: types.RegistrationParams) -> None:
        lsp_client.registered = [each.method for each in params.registrations]

    folders = [types.WorkspaceFolder(workspace.as_uri(), "work")]
    capabilities = client_capabilities("visual_studio_code")
    await lsp_client.initialize_session(
        types.InitializeParams(capabilities, root_uri=workspace.as_uri(), workspace_folders=folders)
    )
    yield lsp_client
    await lsp_client.shutdown_session()


@pytest_lsp.fixture(loop_scope="module", config=ClientServerConfig(server_command=COMMAND))
async def simple(lsp_client: LanguageClient):
    """A client that can do nothing beyond what every client can."""
    await lsp_client.initialize_session(types.InitializeParams(types.ClientCapabilities()))
    yield lsp_client
    await lsp_client.shutdown_session()


class Editor:
    """What a person does in an editor."""

    def __init__(self, client, folder):
        self.client, self.folder, self.texts, self.books = client, folder, {}, []

    def close(self):
        for book in self.books:
            self.client.notebook_document_did_close(book.closed())
        self.books = []
        for uri in self.texts:
            if uri.startswith("file:"):
                self.client.text_document_did_close(types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(uri)))

    async def open(self, text, name="train.py", language="python"):
        uri = (self.folder / name).as_uri()
        self.texts[uri] = text
        item = types.TextDocumentItem(uri, language, 1, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))
        return uri, await self.told(uri)

    async def told(self, uri):
        """The next diagnostics of a document."""
        async with asyncio.timeout(LONG):
            while uri not in self.client.diagnostics:
                await asyncio.sleep(0.02)
        return self.client.diagnostics.pop(uri)

    def type(self, uri, text, version, span=None):
        identifier = types.VersionedTextDocumentIdentifier(uri=uri, version=version)
        change = (
            types.TextDocumentContentChangePartial(span, text)
            if span
            else types.TextDocumentContentChangeWholeDocument(text)
        )
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(identifier, [change]))

    async def actions(self, uri, span, only=None):
        context = types.CodeActionContext([], only=only)
        params = types.CodeActionParams(types.TextDocumentIdentifier(uri), span, context)
        found = await self.client.text_document_code_action_async(params)
        return {action.title: action for action in found}

    async def resolved(self, action):
        """The texts once the action is done, by URI."""
        done = await self.client.code_action_resolve_async(action)
        after = dict(self.texts)
        for change in done.edit.document_changes:
            uri = change.text_document.uri
            before = after.get(uri)
            after[uri] = applied(
                Path(uri.removeprefix("file://")).read_text() if before is None else before, change.edits
            )
        return after


def applied(text, edits):
    """A text after edits, as an editor does them: positions count UTF-16 units."""
    lines = text.split("\n")

    def offset(position):
        head = lines[position.line].encode("utf-16-le")[: position.character * 2].decode("utf-16-le")
        return sum(len(line) + 1 for line in lines[: position.line]) + len(head)

    for edit in sorted(edits, key=lambda edit: offset(edit.range.start), reverse=True):
        text = text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]
    return text


@pytest.fixture
def editor(client, workspace, request):
    (folder := workspace / request.node.name).mkdir()
    editor = Editor(client, folder)
    yield editor
    editor.close()


def at(line, character=0):
    position = types.Position(line, character)
    return types.Range(position, position)


def codes(diagnostics):
    return [each.code for each in diagnostics]


def fixed_by_the_command(folder, text, *options):
    file = folder / "by_hand.py"
    file.write_text(text)
    subprocess.run(
        [sys.executable, "-m", "ampify", "--fix", *options, file], check=False, capture_output=True, cwd=ROOT
    )
    return file.read_text()


async def test_diagnostics_come_with_place_and_severity(editor):
    _, (found,) = await editor.open("import torch\n\nprint('𝔸'); scaler = torch.cuda.amp.GradScaler()\n")
    assert (found.code, found.source, found.severity) == ("AMP102", "ampify", types.DiagnosticSeverity.Warning)
    assert found.range.start == types.Position(2, 22)  # the letter is two units of UTF-16


async def test_typing_is_looked_at_once_it_pauses(editor):
    uri, found = await editor.open("import torch\n")
    assert codes(found) == []
    for version in range(2, 12):
        editor.type(uri, "x", version, at(0))
    editor.type(uri, OLD, 12)
    assert codes(await editor.told(uri)) == ["AMP102"]


async def test_a_form_feed_ends_no_line(editor):
    uri, _ = await editor.open("import torch\n\f\nscaler = 1\n")
    editor.type(uri, "torch.cuda.amp.GradScaler()", 2, types.Range(types.Position(2, 9), types.Position(2, 10)))
    (found,) = await editor.told(uri)
    assert (found.code, found.range.start) == ("AMP102", types.Position(2, 9))


async def test_a_fix_is_that_of_the_command(editor, tmp_path):
    uri, _ = await editor.open(OLD)
    actions = await editor.actions(uri, at(2, 12))
    fix = next(action for action in actions.values() if action.is_preferred)
    assert (fix.kind, codes(fix.diagnostics)) == (types.CodeActionKind.QuickFix, ["AMP102"])
    assert (await editor.resolved(fix))[uri] == fixed_by_the_command(tmp_path, OLD)


async def test_a_training_step_is_converted_from_any_of_its_lines(editor, tmp_path):
    uri, found = await editor.open(STEP)
    assert codes(found) == ["AMP001"]
    actions = await editor.actions(uri, at(8), [types.CodeActionKind.Refactor])
    (convert,) = actions.values()
    assert (convert.title, convert.disabled) == ("Convert this training step to mixed precision", None)
    after = (await editor.resolved(convert))[uri]
    assert "scaler.scale(loss).backward()" in after
    assert after == fixed_by_the_command(tmp_path, STEP)
    assert await editor.actions(uri, at(0), [types.CodeActionKind.Refactor]) == {}


async def test_a_step_that_is_refused_says_why(editor):
    uri, (found,) = await editor.open(STEP.replace(".cuda()", ""))
    (convert,) = (await editor.actions(uri, at(8), [types.CodeActionKind.Refactor])).values()
    assert convert.disabled.reason in found.message


async def test_ignore_here(editor):
    text = "import torch\n\nscaler = torch.cuda.amp.GradScaler(\n    enabled=True,\n)\n"
    uri, _ = await editor.open(text)
    ignore = (await editor.actions(uri, at(2, 12)))["Ignore AMP102 here"]
    after = (await editor.resolved(ignore))[uri]
    assert after == text.replace("Scaler(", "Scaler(  # ampify: ignore[AMP102]")
    editor.type(uri, after, 2)
    assert codes(await editor.told(uri)) == []


async def test_everything_is_fixed_as_a_source_action(editor, tmp_path):
    text = OLD + "with torch.cuda.amp.autocast():\n    pass\n"
    uri, found = await editor.open(text)
    assert len(found) == 2
    (fix,) = (await editor.actions(uri, at(0), [types.CodeActionKind.SourceFixAll])).values()
    assert fix.kind == "source.fixAll.ampify"
    assert (await editor.resolved(fix))[uri] == fixed_by_the_command(tmp_path, text)


async def test_hover_shows_the_page(editor):
    uri, _ = await editor.open(OLD + "# AMP206\n")
    document = types.TextDocumentIdentifier(uri)
    ask = editor.client.text_document_hover_async
    assert (await ask(types.HoverParams(document, types.Position(2, 12)))).contents.value == page("AMP102")
    assert (await ask(types.HoverParams(document, types.Position(3, 4)))).contents.value == page("AMP206")
    assert await ask(types.HoverParams(document, types.Position(0, 2))) is None


async def test_unsafe_fixes_are_told_apart(editor):
    uri, _ = await editor.open("import torch\n\nwith torch.autocast('cuda', args.use_amp):\n    pass\n")
    actions = await editor.actions(uri, at(2, 30))
    assert [title.endswith("(unsafe)") for title, action in actions.items()] == [True, False]
    unsafe, ignore = actions.values()
    assert (unsafe.is_preferred, ignore.is_preferred) == (None, None)


async def test_a_step_of_several_files_is_converted_in_all_of_them(editor):
    helper = "def train(model, loader, optimizer):\n" + "".join(f"    {line}\n" for line in STEP.splitlines()[5:])
    helper = f"from torch import nn\n\n\n{helper}"
    (editor.folder / "steps.py").write_text(helper)
    main = (
        "import torch\nfrom steps import train\n\n"
        "model = torch.nn.Linear(4, 1).cuda()\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "train(model, [], optimizer)\n"
    )
    (editor.folder / "main.py").write_text(main)
    created = types.FileEvent((editor.folder / "main.py").as_uri(), types.FileChangeType.Created)
    editor.client.workspace_did_change_watched_files(types.DidChangeWatchedFilesParams([created]))
    uri, found = await editor.open(helper, "steps.py")
    assert codes(found) == ["AMP001"]
    (convert,) = (await editor.actions(uri, at(8), [types.CodeActionKind.Refactor])).values()
    after = await editor.resolved(convert)
    assert "scaler.step(optimizer)" in after[uri]
    assert "GradScaler" in after[(editor.folder / "main.py").as_uri()]


class Book:
    """A notebook that is open, with code in every cell but those that begin with ``#``, which are Markdown."""

    def __init__(self, editor, *cells):
        self.uri = (editor.folder / "train.ipynb").as_uri()
        self.cells = [f"vscode-notebook-cell:{self.uri}#W{number}" for number in range(len(cells))]
        editor.books = [self]
        editor.texts |= dict(zip(self.cells, cells, strict=True))
        kinds = [types.NotebookCellKind.Markup if c.startswith("#") else types.NotebookCellKind.Code for c in cells]
        rows = [types.NotebookCell(kind, uri) for kind, uri in zip(kinds, self.cells, strict=True)]
        texts = [types.TextDocumentItem(uri, "python", 1, text) for uri, text in zip(self.cells, cells, strict=True)]
        book = types.NotebookDocument(self.uri, "jupyter-notebook", 1, rows)
        editor.client.notebook_document_did_open(types.DidOpenNotebookDocumentParams(book, texts))

    def closed(self):
        cells = [types.TextDocumentIdentifier(uri) for uri in self.cells]
        return types.DidCloseNotebookDocumentParams(types.NotebookDocumentIdentifier(self.uri), cells)


async def test_a_notebook_is_one_program_with_a_document_for_each_cell(editor):
    head, body = STEP.split("for inputs", 1)
    book = Book(editor, head, "# Training", "%time train = 1\nfor inputs" + body)
    (found,) = await editor.told(book.cells[2])
    assert (found.code, found.range.start) == ("AMP001", types.Position(1, 0))
    (convert,) = (await editor.actions(book.cells[2], at(4), [types.CodeActionKind.Refactor])).values()
    after = await editor.resolved(convert)
    assert "GradScaler" in after[book.cells[0]]
    assert after[book.cells[2]].startswith("%time train = 1\n")
    assert "scaler.scale(loss).backward()" in after[book.cells[2]]
    editor.close()
    assert codes(await editor.told(book.cells[2])) == []


async def test_a_column_behind_a_magic(editor):
    book = Book(editor, "import torch\n", "%time scaler = torch.cuda.amp.GradScaler()\n")
    (found,) = await editor.told(book.cells[1])
    assert (found.code, found.range.start) == ("AMP102", types.Position(0, 15))


async def test_wrong_settings_are_told_once_and_mended_ones_count(editor):
    (editor.folder / "ampify.toml").write_text('ignore = ["AMP9999"]')
    uri = (editor.folder / "train.py").as_uri()
    editor.texts[uri] = OLD
    editor.client.text_document_did_open(types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, "python", 1, OLD)))
    async with asyncio.timeout(LONG):
        while not (told := [m.message for m in editor.client.messages if "AMP9999" in m.message]):
            await asyncio.sleep(0.05)
    assert len(told) == 1
    (editor.folder / "ampify.toml").write_text("")
    changed = types.FileEvent((editor.folder / "ampify.toml").as_uri(), types.FileChangeType.Changed)
    editor.client.workspace_did_change_watched_files(types.DidChangeWatchedFilesParams([changed]))
    assert codes(await editor.told(uri)) == ["AMP102"]


async def test_the_client_is_asked_to_watch_files(client):
    assert client.registered == [types.WORKSPACE_DID_CHANGE_WATCHED_FILES]


async def test_a_simple_client_is_given_whole_edits(simple, tmp_path):
    editor = Editor(simple, tmp_path)
    uri, _ = await editor.open(OLD)
    actions = await editor.actions(uri, at(2, 12))
    edits = [action.edit.changes[uri] for action in actions.values()]
    assert [applied(OLD, each) for each in edits] == [
        OLD.replace("torch.cuda.amp.GradScaler()", 'torch.amp.GradScaler("cuda")'),
        OLD.replace("()", "()  # ampify: ignore[AMP102]"),
    ]
    uri, _ = await editor.open(STEP.replace(".cuda()", ""), "cpu.py")
    assert await editor.actions(uri, at(8), [types.CodeActionKind.Refactor]) == {}
