"""The language server: what arrives from an editor, in which order it is answered, and nothing of the language itself.

All that compiles runs in one thread beside the one that reads messages, job after job. A change of a document puts a
job there; by the time that it runs the document may have changed again, and then it is skipped. A request waits for the
jobs before it, and so is answered for the text that its sender saw.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from lsprotocol import types
from pygls.exceptions import JsonRpcException, PyglsError
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, lsp_method

from ablc import __version__
from ablc.faults import Fault
from ablc.language.read import identity
from ablc.lsp import convert
from ablc.lsp.analysis import Analysis, analyse, further, reading
from ablc.lsp.completion import completion
from ablc.lsp.convert import Pages
from ablc.lsp.definition import definition
from ablc.lsp.diagnostics import findings
from ablc.lsp.documents import Document, Documents
from ablc.lsp.edits import format_edits
from ablc.lsp.hints import hints, symbols
from ablc.lsp.hover import hover

T = TypeVar("T")
TRIGGERS = [".", "=", " ", '"', "(", "[", ",", "/", "@"]
CHUNK = 1 << 20
SWITCH_S = 0.0005  # a message passes between threads a dozen times, and a compiling one would hold each up for 5 ms
_NOT_INITIALIZED, _INVALID_REQUEST = -32002, -32600
log = logging.getLogger("ablc.lsp")


class Protocol(LanguageServerProtocol):
    """The protocol with documents kept by `Server`, and with an answer to every request, whatever is wrong with it."""

    _server: Server

    def structure_message(self, data: dict[str, Any]) -> Any:
        try:
            return super().structure_message(data)
        except JsonRpcException as error:
            if "id" in data and "method" in data:  # whoever sent it waits for an answer
                self._send_response(data["id"], error=error.to_response_error())
            raise

    def handle_message(self, message: Any) -> None:
        method, number = getattr(message, "method", None), getattr(message, "id", None)
        too_early = self._workspace is None and method not in (types.INITIALIZE, types.EXIT)
        if method is not None and (too_early or (self._shutdown and method != types.EXIT)):
            if number is not None:
                code, why = (_NOT_INITIALIZED, "not initialized") if too_early else (_INVALID_REQUEST, "shut down")
                self._send_response(number, error=types.ResponseError(code, f"the server is {why}"))
            return
        super().handle_message(message)

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams) -> None:
        self._server.opened(params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams) -> None:
        self._server.changed(params)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams) -> None:
        self._server.closed(params)


class Server(LanguageServer):
    """The open documents, what is known of each, and the thread in which that is found out."""

    protocol: Protocol

    def __init__(self) -> None:
        super().__init__("ablc", __version__, protocol_cls=Protocol)
        self.documents = Documents()
        self.analyses: dict[str, Analysis] = {}
        self.jobs = ThreadPoolExecutor(1, thread_name_prefix="ablc-lsp")
        self.loop: asyncio.AbstractEventLoop | None = None
        self.was_shut_down = False

    # what the client is and wants

    @property
    def encoding(self) -> str:
        return str(getattr(self.workspace.position_encoding, "value", self.workspace.position_encoding))

    def client_can(self, *path: str) -> bool:
        """Whether a capability is set, named from the widest word to the narrowest."""
        found: Any = self.client_capabilities
        for step in path:
            found = getattr(found, step, None)
        return bool(found)

    def report_server_error(self, error: Exception, source: type[PyglsError] | type[JsonRpcException]) -> None:
        """To the client's log, and not into its user's face: what a client got wrong its user can't mend."""
        log.error("%s: %s", type(error).__name__, error)

    # documents

    def opened(self, params: types.DidOpenTextDocumentParams) -> None:
        root = convert.path_of(self.workspace.root_uri) if self.workspace.root_uri else None
        document = convert.document_of(params.text_document, root or Path())
        self.documents.put(document)
        self._look_at(document)
        self._look_for_its_base(document)

    def changed(self, params: types.DidChangeTextDocumentParams) -> None:
        edits = [convert.edit_of(change) for change in params.content_changes]
        uri, version = params.text_document.uri, params.text_document.version
        document = self.documents.change(uri, version, edits, self.encoding)
        if document is None:
            log.warning("%s changed, which isn't open", uri)
        else:
            self._look_at(document)

    def closed(self, params: types.DidCloseTextDocumentParams) -> None:
        document = self.documents.close(params.text_document.uri)
        self.analyses.pop(params.text_document.uri, None)
        if document is not None:
            self._publish(document, [])
            self._look_at_readers(document.path)

    def saved(self, uri: str) -> None:
        if (document := self.documents.get(uri)) is not None:
            self._look_for_its_base(document)

    def changed_outside(self, paths: list[Path]) -> None:
        """Files that changed on disk: whoever reads one of them means something else now."""
        for path in paths:
            self._look_at_readers(path)

    def _look_at_readers(self, path: Path | None) -> None:
        """Look again at the documents that depend on a file; for the config of a base, at all."""
        if path is None:
            return
        found, is_config = identity(path), path.name == "config.json"
        analyses = [one for one in [*self.analyses.values()] if is_config or found in one.reads]
        readers = [one.document for one in analyses if one.document.path != path]
        for uri in (reader.uri for reader in readers):
            self.analyses.pop(uri, None)
            if (document := self.documents.get(uri)) is not None:
                self._look_at(document, with_readers=False)
        if readers and self.client_can("workspace", "inlay_hint", "refresh_support"):
            self.workspace_inlay_hint_refresh(None)

    # diagnostics

    def _look_at(self, document: Document, *, with_readers: bool = True) -> None:
        self._do(lambda: self._diagnose(document))
        if with_readers:
            self._look_at_readers(document.path)

    def _diagnose(self, document: Document) -> None:
        """In the jobs' thread: what is wrong with a document, if it is still the newest."""
        if self.documents.is_current(document):
            analysis = self.analysed(document)
            self._tell(analysis, analysis.faults)
            if not self._holds(analysis, document):  # what it builds on was typed at meanwhile
                self._do(lambda: self._diagnose(document))
            elif len(analysis.labels) > 1:
                self._go_on(analysis, further(analysis))

    def _go_on(self, analysis: Analysis, rest: Iterator[tuple[Fault, ...] | None]) -> None:
        """One more variant, as a job of its own: a large family must not keep others waiting."""

        def job() -> None:
            if self.documents.is_current(analysis.document) and self.analyses.get(analysis.document.uri) is analysis:
                with reading(analysis.texts, analysis.reads):
                    faults = next(rest, rest)
                if faults is rest:  # there is no further variant
                    return
                if isinstance(faults, tuple):
                    self._tell(analysis, faults)
                self._go_on(analysis, rest)

        self._do(job)

    def _tell(self, analysis: Analysis, faults: tuple[Fault, ...]) -> None:
        with reading(analysis.texts, analysis.reads):
            pages = Pages(analysis, self.encoding)
            with_related = self.client_can("text_document", "publish_diagnostics", "related_information")
            found = convert.diagnostics(findings(analysis, faults), pages, with_related)
        self._in_loop(lambda: self._publish_newest(analysis.document, found))

    def _publish_newest(self, document: Document, found: list[types.Diagnostic]) -> None:
        if self.documents.is_current(document):
            self._publish(document, found)

    def _publish(self, document: Document, found: list[types.Diagnostic]) -> None:
        said = types.PublishDiagnosticsParams(document.uri, found, document.version)
        self.text_document_publish_diagnostics(said)

    def analysed(self, document: Document) -> Analysis:
        """In the jobs' thread: what is known of a document."""
        analysis = self.analyses.get(document.uri)
        if analysis is None or not self._holds(analysis, document):
            analysis = analyse(document, self.documents.texts())
            self.analyses[document.uri] = analysis
        return analysis

    def _holds(self, analysis: Analysis, document: Document) -> bool:
        """Whether an analysis is one of this version, and of what is open now of the files that it reads."""
        now = self.documents.texts()
        same = all(analysis.texts.get(path) == now.get(path) for path in analysis.reads)
        return analysis.document is document and same

    def _look_for_its_base(self, document: Document) -> None:
        """Ask the hub for a base that isn't on this machine, which may take seconds, in a thread of its own."""

        def ask() -> None:
            analysis = analyse(document, self.documents.texts(), ask=True)
            if self.documents.is_current(document):
                self.analyses[document.uri] = analysis
                self._tell(analysis, analysis.faults)

        def job() -> None:
            unknown = {"unknown-model"} & {fault.code for fault in self.analysed(document).faults}
            if unknown and self.documents.is_current(document):
                threading.Thread(target=_logged(ask), daemon=True).start()

        self._do(job)

    # threads

    def _do(self, job: Callable[[], None]) -> None:
        self.jobs.submit(_logged(job))

    def _in_loop(self, call: Callable[[], None]) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(_logged(call))

    async def answer(self, uri: str, question: Callable[[Analysis, Pages], T]) -> T | None:
        """The answer to a question about a document, None where it isn't open."""
        document = self.documents.get(uri)
        if document is None:
            return None

        def job() -> T:
            analysis = self.analysed(document)
            with reading(analysis.texts, analysis.reads):
                return question(analysis, Pages(analysis, self.encoding))

        return await asyncio.get_running_loop().run_in_executor(self.jobs, job)


def _logged(call: Callable[[], None]) -> Callable[[], None]:
    """A call whose errors, which are ours, go to the client's log, and end nothing."""

    def run() -> None:
        try:
            call()
        except Exception:
            log.exception("this is a mistake in ablc")

    return run


# --- features --------------------------------------------------------------------------------------------------------


def make_server() -> Server:
    """A server with all that it can do."""
    server = Server()
    feature = server.feature

    @feature(types.INITIALIZE)
    def initialize(_: types.InitializeParams) -> None:
        server.loop = asyncio.get_running_loop()

    @feature(types.INITIALIZED)
    def initialized(_: types.InitializedParams) -> None:
        if server.client_can("workspace", "did_change_watched_files", "dynamic_registration"):
            server.client_register_capability(_watching())

    @feature(types.SHUTDOWN)
    def shutdown(_: None) -> None:
        server.was_shut_down = True

    @feature(types.TEXT_DOCUMENT_DID_SAVE)
    def did_save(params: types.DidSaveTextDocumentParams) -> None:
        server.saved(params.text_document.uri)

    @feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def did_change_watched_files(params: types.DidChangeWatchedFilesParams) -> None:
        paths = [convert.path_of(change.uri) for change in params.changes]
        server.changed_outside([path for path in paths if path is not None])

    _register_questions(server)
    return server


def _register_questions(server: Server) -> None:
    """What an editor may ask of a document."""
    feature = server.feature

    @feature(types.TEXT_DOCUMENT_HOVER)
    async def on_hover(params: types.HoverParams) -> types.Hover | None:
        def question(analysis: Analysis, pages: Pages) -> types.Hover | None:
            return convert.hover(hover(analysis, pages.offset(params.position)), pages)

        return await server.answer(params.text_document.uri, question)

    @feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=TRIGGERS))
    async def on_completion(params: types.CompletionParams) -> types.CompletionList | None:
        snippets = server.client_can("text_document", "completion", "completion_item", "snippet_support")

        def question(analysis: Analysis, pages: Pages) -> types.CompletionList:
            offset = pages.offset(params.position)
            return convert.completions(completion(analysis, offset), offset, pages, snippets)

        return await server.answer(params.text_document.uri, question)

    @feature(types.TEXT_DOCUMENT_DEFINITION)
    async def on_definition(params: types.DefinitionParams) -> types.Location | None:
        def question(analysis: Analysis, pages: Pages) -> types.Location | None:
            return convert.definition(definition(analysis, pages.offset(params.position)), pages)

        return await server.answer(params.text_document.uri, question)

    @feature(types.TEXT_DOCUMENT_INLAY_HINT)
    async def on_inlay_hint(params: types.InlayHintParams) -> list[types.InlayHint] | None:
        def question(analysis: Analysis, pages: Pages) -> list[types.InlayHint]:
            start, end = pages.offset(params.range.start), pages.offset(params.range.end)
            return convert.inlay_hints(hints(analysis, start, end), pages)

        return await server.answer(params.text_document.uri, question)

    @feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    async def on_document_symbol(params: types.DocumentSymbolParams) -> list[types.DocumentSymbol] | None:
        return await server.answer(
            params.text_document.uri, lambda analysis, pages: convert.symbols(symbols(analysis), pages)
        )

    @feature(types.TEXT_DOCUMENT_FORMATTING)
    async def on_formatting(params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
        return await server.answer(
            params.text_document.uri, lambda analysis, pages: convert.text_edits(format_edits(analysis), pages)
        )


def _watching() -> types.RegistrationParams:
    """That files which others read be watched."""
    watchers = [types.FileSystemWatcher(glob_pattern=pattern) for pattern in ("**/*.abl", "**/config.json")]
    options = types.DidChangeWatchedFilesRegistrationOptions(watchers)
    method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
    return types.RegistrationParams([types.Registration("files", method, options)])


# --- streams ---------------------------------------------------------------------------------------------------------


class _Input(io.RawIOBase):
    """Standard input read in pieces: a length that a client made up must not be reserved at once."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readline(self, size: int | None = -1) -> bytes:
        return self._stream.readline()

    def read(self, size: int = -1) -> bytes:
        pieces: list[bytes] = []
        while size > 0 and (piece := self._stream.read(min(size, CHUNK))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


class _ToClient(logging.Handler):
    """Sends what is logged to the client."""

    def __init__(self, server: Server) -> None:
        super().__init__(logging.WARNING)
        self._server = server

    def emit(self, record: logging.LogRecord) -> None:
        kind = types.MessageType.Error if record.levelno >= logging.ERROR else types.MessageType.Warning
        is_ours = record.name.startswith("ablc")  # then it's a mistake, and whoever mends it wants to see where
        said = types.LogMessageParams(kind, self.format(record) if is_ours else record.getMessage())
        self._server._in_loop(lambda: self._server.window_log_message(said))


def serve() -> int:
    """Answer on standard input and output until the client says `exit`; 0 if it said `shutdown` before."""
    sys.setswitchinterval(SWITCH_S)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the thread that reads can't be interrupted; there is nothing to save
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else may print mustn't stand between two messages
    server = make_server()
    for name in ("pygls", "ablc", "asyncio"):
        logging.getLogger(name).addHandler(_ToClient(server))
        logging.getLogger(name).propagate = False
    server.start_io(_Input(sys.stdin.buffer), out)  # type: ignore[arg-type]
    server.jobs.shutdown(wait=False, cancel_futures=True)
    return 0 if server.was_shut_down else 1
