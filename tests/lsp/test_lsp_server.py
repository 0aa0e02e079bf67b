"""`ablc lsp` as an editor has it: a process that is spoken to on its standard streams."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from documents import MODEL
from lsp_client import ROOT, Client, covered, place

from ablc.lsp.analysis import analyse
from ablc.lsp.documents import Document
from ablc.lsp.server import Server

CAPABILITIES: dict[str, Any] = {
    "textDocument": {
        "publishDiagnostics": {"relatedInformation": True},
        "completion": {"completionItem": {"snippetSupport": True}},
    }
}
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCK:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from ablc.__main__ import main
sys.argv = ["ablc", "lsp"]
main()
"""


def blocking(*names: str) -> list[str]:
    return [sys.executable, "-c", f"BLOCK = {names!r}\n{BLOCKED}"]


@pytest.fixture(scope="module")
def shared() -> Iterator[Client]:
    """A server that tests share which leave it as it was."""
    with Client() as client:
        client.start(ROOT, **CAPABILITIES)
        yield client


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as client:
        client.start(ROOT, **CAPABILITIES)
        yield client


def codes(found: list[dict[str, Any]]) -> list[str]:
    return [one["code"] for one in found]


def whole(text: str) -> dict[str, Any]:
    return {"start": {"line": 0, "character": 0}, "end": {"line": text.count("\n") + 1, "character": 0}}


# --- what it can do --------------------------------------------------------------------------------------------------


def test_it_says_what_it_can_and_leaves_in_peace() -> None:
    with Client() as client:
        can = client.start(ROOT)
        assert can["positionEncoding"] == "utf-16"
        assert can["textDocumentSync"]["openClose"] and can["textDocumentSync"]["change"] == 2
        for provider in ("hover", "completion", "definition", "inlayHint", "documentSymbol", "documentFormatting"):
            assert can[f"{provider}Provider"], provider
        assert client.stop() == 0
        assert client.process.stderr is not None and client.process.stderr.read() == b""


def test_diagnostics_follow_what_is_typed(shared: Client) -> None:
    shared.open("file:///a.abl", MODEL + "mlp = loar(3)\n")
    (one,) = shared.diagnostics("file:///a.abl")
    assert (one["code"], one["severity"], one["source"]) == ("unknown-operation", 1, "ablc")
    assert one["message"].endswith("help: did you mean `lora`?")
    assert "codeDescription" not in one
    change = {"range": {"start": {"line": 1, "character": 6}, "end": {"line": 1, "character": 10}}, "text": "lora"}
    shared.change("file:///a.abl", change)
    assert shared.diagnostics("file:///a.abl") == []


def test_a_warning_leads_to_the_line_that_made_it(shared: Client) -> None:
    shared.open("file:///w.abl", MODEL + "mlp = none\nmlp = lora(8)\n")
    (one,) = shared.diagnostics("file:///w.abl")
    assert (one["code"], one["severity"]) == ("erased", 2)
    (note,) = one["relatedInformation"]
    assert note["location"]["uri"] == "file:///w.abl" and note["location"]["range"]["start"]["line"] == 2


def test_a_client_that_shows_no_related_places_gets_none() -> None:
    with Client() as client:
        client.start(ROOT)
        client.open("file:///w.abl", MODEL + "mlp = none\nmlp = lora(8)\n")
        assert "relatedInformation" not in client.diagnostics("file:///w.abl")[0]


TEXT = (
    '# a \U0001f642 in a comment\nabout = "\U0001f642\U0001f642" ; model = "EleutherAI/pythia-410m"\n'
    'name = "\U0001f642"; attention.qkv[3:] = lora(8); mlp = loar(9)\nfreeze embedding\n'
)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_columns_after_an_emoji_and_lines_of_any_ends(shared: Client, ends: str, bom: str) -> None:
    uri = "file:///emoji.abl"
    shared.open(uri, bom + TEXT.replace("\n", ends))
    found = shared.diagnostics(uri)
    if ends == "\r":  # the language has no such lines, and says so; places must still be those of the editor
        assert found and all(one["range"]["end"]["line"] < 6 for one in found)
        return
    assert [covered(TEXT, one["range"]) for one in found] == ["loar"]
    hover = shared.at("hover", uri, *place(TEXT, "lora", 1))
    assert covered(TEXT, hover["range"]) == "lora"
    assert "-65,371,992" in hover["contents"]["value"]
    hints = shared.ask("textDocument/inlayHint", textDocument={"uri": uri}, range=whole(TEXT))
    ends_of = [place(TEXT, word, len(word)) for word in ('410m"', "lora(8)", "freeze embedding")]
    assert [(h["position"]["line"], h["position"]["character"]) for h in hints] == ends_of


def test_a_bom_is_a_character_of_the_first_line_for_an_editor(shared: Client) -> None:
    shared.open("file:///bom.abl", "\ufeffmlp = loar(3)")
    (one,) = [one for one in shared.diagnostics("file:///bom.abl") if one["code"] == "unknown-operation"]
    assert (one["range"]["start"]["character"], one["range"]["end"]["character"]) == (7, 11)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_the_encoding_of_columns_is_negotiated(encoding: str) -> None:
    with Client() as client:
        can = client.start(ROOT, general={"positionEncodings": [encoding]})
        assert can["positionEncoding"] == encoding
        text = MODEL + 'name = "\U0001f642"; mlp = loar(9)\n'
        client.open("file:///a.abl", text)
        (one,) = client.diagnostics("file:///a.abl")
        width = {"utf-8": 4, "utf-16": 2, "utf-32": 1}[encoding]
        assert one["range"]["start"] == {"line": 1, "character": len('name = ""; mlp = ') + width}
        before = {"line": 1, "character": len('name = "') + width}
        client.change("file:///a.abl", {"range": {"start": before, "end": before}, "text": "\n"})
        assert codes(client.diagnostics("file:///a.abl")) != []


def test_answers_are_about_the_newest_text(client: Client) -> None:
    uri = "file:///a.abl"
    client.open(uri, MODEL)
    for rank in range(1, 40):
        client.rewrite(uri, MODEL + f"attention.out = lora({rank})\n")
    hover = client.at("hover", uri, 1, 12)
    assert "Linear(1024, 39)" in hover["contents"]["value"]
    assert client.diagnostics(uri) == []
    told = [note["params"]["version"] for note in client.notes if "version" in note.get("params", {})]
    assert told == sorted(told), "never an older version after a newer one"
    assert len(told) < 40, "stale versions are skipped"


def test_an_older_version_isnt_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    old, new = (Document("file:///a.abl", version, MODEL, None, ROOT) for version in (1, 2))
    server.documents.put(old)
    server.documents.put(new)
    compiled: list[Document] = []
    monkeypatch.setattr(server, "analysed", lambda document: compiled.append(document) or analyse(document))
    monkeypatch.setattr(server, "_tell", lambda *_: None)
    server._diagnose(old)
    assert compiled == []
    server._diagnose(new)
    assert compiled == [new]


def test_what_was_typed_elsewhere_while_a_document_was_compiled_counts(tmp_path: Path) -> None:
    server = Server()
    base, own = (Document(name, 1, MODEL, tmp_path / name, tmp_path) for name in ("base.abl", "a.abl"))
    own = replace(own, text='extends "base.abl"\nexpect layers.mlp == 0\n')
    server.documents.put(base)
    server.documents.put(own)
    assert server.analysed(own).faults == ()
    assert server.analysed(own) is server.analysed(own)
    server.documents.put(replace(base, text=MODEL + "mlp = lora(8)\n"))
    assert [fault.code for fault in server.analysed(own).faults] == ["claim-fails"]


def test_completion(shared: Client) -> None:
    text = MODEL + "attention.qkv = \n"
    shared.open("file:///c.abl", text)
    found = shared.at("completion", "file:///c.abl", *place(text, "qkv = ", 6))
    assert [item["label"] for item in found["items"]] == ["full", "lora", "nonlinear_lora"]
    assert sorted(found["items"], key=lambda item: item["sortText"]) == found["items"]
    lora = found["items"][1]
    assert (lora["insertTextFormat"], lora["textEdit"]["newText"]) == (2, "lora(${1:r})")


def test_a_client_without_snippets_gets_plain_text() -> None:
    with Client() as client:
        client.start(ROOT)
        client.open("file:///c.abl", MODEL + "mlp = ")
        lora = client.at("completion", "file:///c.abl", 1, 6)["items"][1]
        assert (lora["insertTextFormat"], lora["textEdit"]["newText"]) == (1, "lora(")


def test_definition_outline_and_formatting(shared: Client) -> None:
    uri = (ROOT / "specs" / "unsaved.abl").as_uri()
    text = 'extends "18.abl"\r\nvary r=8, 9\r\nmlp = lora(r)\r\n'
    shared.open(uri, text)
    found = shared.at("definition", uri, 0, 11)
    assert found["uri"] == (ROOT / "specs" / "18.abl").as_uri()
    line, column = place(text, "lora(r", 5)
    found = shared.at("definition", uri, line, column)
    assert found == {"uri": uri, "range": {"start": {"line": 1, "character": 5}, "end": {"line": 1, "character": 6}}}
    names = [one["name"] for one in shared.ask("textDocument/documentSymbol", textDocument={"uri": uri})]
    assert names == ["extends", "vary r", "mlp"]
    options = {"tabSize": 4, "insertSpaces": True}
    (edit,) = shared.ask("textDocument/formatting", textDocument={"uri": uri}, options=options)
    assert edit["newText"] == "vary r = 8, 9\r\n"
    assert edit["range"] == {"start": {"line": 1, "character": 0}, "end": {"line": 2, "character": 0}}


def test_a_family_is_told_of_when_its_last_variant_is_looked_at(client: Client) -> None:
    ranks = ", ".join(str(rank) for rank in range(1, 60))
    client.open("file:///f.abl", MODEL + f"vary r = {ranks}, 5_000\nattention.out = lora(r)\n")

    def complete(message: dict[str, Any]) -> bool:
        return "refused" in codes(message.get("params", {}).get("diagnostics", []))

    client.wait(complete)


# --- several files ---------------------------------------------------------------------------------------------------


def until(client: Client, uri: str, *expected: str) -> list[dict[str, Any]]:
    """The diagnostics of a document once they have these codes: one that builds on others may be told of twice."""

    def said(message: dict[str, Any]) -> bool:
        params = message.get("params", {})
        is_it = message.get("method") == "textDocument/publishDiagnostics" and params["uri"] == uri
        return is_it and codes(params["diagnostics"]) == [*expected]

    found: list[dict[str, Any]] = client.wait(said)["params"]["diagnostics"]
    client.notes.clear()
    return found


def test_an_unsaved_extended_file_is_read_as_it_is_typed(shared: Client, tmp_path: Path) -> None:
    (tmp_path / "base.abl").write_text(MODEL)
    own, base = (tmp_path / "a.abl").as_uri(), (tmp_path / "base.abl").as_uri()
    shared.open(own, '# a \U0001f642\nextends "base.abl"\nmlp = lora(8)\n')
    until(shared, own)
    shared.open(base, MODEL + "attention = loar(3)\n")
    (one,) = until(shared, own, "unknown-operation")
    assert one["range"]["start"] == {"line": 1, "character": 8}
    assert one["relatedInformation"][0]["location"]["uri"] == base
    assert one["relatedInformation"][0]["location"]["range"]["start"] == {"line": 1, "character": 12}
    shared.rewrite(base, MODEL + "attention = lora(3)\n")
    until(shared, own)
    shared.rewrite(base, MODEL.replace("410m", "41m"))
    until(shared, own, "unknown-model")
    shared.notify("textDocument/didClose", textDocument={"uri": base})
    until(shared, own)


def test_a_file_that_changes_on_disk_is_read_again(shared: Client, tmp_path: Path) -> None:
    base, own = tmp_path / "base.abl", (tmp_path / "a.abl").as_uri()
    shared.open(own, 'extends "base.abl"\nmlp = lora(8)\n')
    until(shared, own, "cannot-read")
    base.write_text(MODEL)
    shared.notify("workspace/didChangeWatchedFiles", changes=[{"uri": base.as_uri(), "type": 1}])
    until(shared, own)


def test_hints_are_asked_for_again_where_another_file_changed(tmp_path: Path) -> None:
    with Client() as client:
        client.start(ROOT, workspace={"inlayHint": {"refreshSupport": True}})
        client.open((tmp_path / "a.abl").as_uri(), 'extends "base.abl"\n')
        client.diagnostics((tmp_path / "a.abl").as_uri())
        client.open((tmp_path / "base.abl").as_uri(), MODEL)
        client.wait(lambda message: message.get("method") == "workspace/inlayHint/refresh")


def test_the_hub_is_asked_when_a_document_is_opened_or_saved_and_not_while_it_is_typed(client: Client) -> None:
    uri, text = "file:///h.abl", 'model = "some-one/some-model"\n'

    def says(why: str) -> None:
        client.wait(lambda message: why in str(message.get("params", {}).get("diagnostics")))

    client.open(uri, text)
    says("the hub can't be reached")  # no test may ask it
    client.notes.clear()
    client.rewrite(uri, text + "# more")
    says("the hub is asked when the file is saved")
    assert "can't be reached" not in str(client.notes)
    client.notify("textDocument/didSave", textDocument={"uri": uri})
    says("the hub can't be reached")


def test_a_document_that_is_deleted_while_open_goes_on(shared: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.abl"
    path.write_text(MODEL)
    shared.open(path.as_uri(), MODEL)
    assert shared.diagnostics(path.as_uri()) == []
    path.unlink()
    shared.notify("workspace/didChangeWatchedFiles", changes=[{"uri": path.as_uri(), "type": 3}])
    shared.rewrite(path.as_uri(), MODEL + "mlp = loar(3)\n")
    assert codes(shared.diagnostics(path.as_uri())) == ["unknown-operation"]


def test_what_is_closed_has_no_diagnostics_left(shared: Client) -> None:
    shared.open("file:///a.abl", "mlp = (")
    assert shared.diagnostics("file:///a.abl")
    shared.notify("textDocument/didClose", textDocument={"uri": "file:///a.abl"})
    assert shared.diagnostics("file:///a.abl") == []
    assert shared.at("hover", "file:///a.abl", 0, 0) is None


def test_files_are_watched_where_the_client_can() -> None:
    with Client() as client:
        client.start(ROOT, workspace={"didChangeWatchedFiles": {"dynamicRegistration": True}})
        asked = client.wait(lambda message: message.get("method") == "client/registerCapability")
        (registration,) = asked["params"]["registrations"]
        patterns = [watcher["globPattern"] for watcher in registration["registerOptions"]["watchers"]]
        assert patterns == ["**/*.abl", "**/config.json"]


def test_an_untitled_document_counts_from_the_folder_that_is_open(tmp_path: Path) -> None:
    (tmp_path / "base.abl").write_text(MODEL)
    with Client() as client:
        client.start(tmp_path)
        client.open("untitled:Untitled-1", 'extends "base.abl"\nmlp = lora(8)\n')
        assert client.diagnostics("untitled:Untitled-1") == []


# --- what goes wrong -------------------------------------------------------------------------------------------------


def logged(client: Client) -> str:
    message = client.wait(lambda message: message.get("method") == "window/logMessage")
    text: str = message["params"]["message"]
    return text


@pytest.mark.parametrize(
    "garbage",
    [
        b"Content-Length: 7\r\n\r\ngarbage",
        b"Content-Length: 4\r\n\r\n\xff\xfe{}",
        b"Content-Length: 2\r\n\r\n[]",
        b"Content-Length: 4\r\n\r\nnull",
        b'Content-Length: 17\r\n\r\n{"jsonrpc":"2.0"}',
        b'Content-Length: 11\r\n\r\n{"id":"cat"}'[:-1],
    ],
)
def test_garbage_is_logged_and_nothing_else(shared: Client, garbage: bytes) -> None:
    shared.notes.clear()
    shared.write(garbage)
    assert logged(shared)
    shared.open("file:///a.abl", MODEL)
    assert shared.diagnostics("file:///a.abl") == []


def test_lines_that_are_no_message_are_passed_over(shared: Client) -> None:
    shared.write(b"hello\r\n\r\nwhat is this\n\nContent-Length: -5\r\n\r\n")
    assert shared.at("hover", "file:///not-open.abl", 0, 0) is None


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"textDocument": {"uri": "file:///a.abl"}},
        {"textDocument": {"uri": "file:///a.abl"}, "position": {"line": -1, "character": 0}},
        {"textDocument": {"uri": 7}, "position": {"line": "x", "character": 0}},
        [],
        "text",
    ],
)
def test_a_request_that_is_wrong_gets_an_error_and_not_silence(shared: Client, params: Any) -> None:
    shared.send(id=77, method="textDocument/hover", params=params)
    answer = shared.wait(lambda message: message.get("id") == 77)
    assert answer["error"]["code"] in (-32602, -32603)
    assert shared.at("hover", "file:///not-open.abl", 0, 0) is None


@pytest.mark.parametrize("uri", ["", "nonsense", "file:///nowhere.abl", "http://[::1", "file:///a%00b", "untitled:x"])
def test_unknown_uris_have_no_answers(shared: Client, uri: str) -> None:
    assert shared.at("hover", uri, 0, 0) is None
    assert shared.at("completion", uri, 3, 3) is None
    assert shared.at("definition", uri, 0, 0) is None
    assert shared.ask("textDocument/inlayHint", textDocument={"uri": uri}, range=whole("")) is None
    shared.open(uri, MODEL + "mlp = loar(3)\n")
    assert codes(shared.diagnostics(uri)) == ["unknown-operation"]


def test_places_outside_the_document_are_no_mistake(shared: Client) -> None:
    shared.open("file:///p.abl", MODEL)
    for line, column in [(0, 10_000), (10_000, 0), (2**31 - 1, 2**31 - 1)]:
        shared.at("hover", "file:///p.abl", line, column)
        assert shared.at("completion", "file:///p.abl", line, column) is not None
    far = {"line": 999, "character": 999}
    shared.change("file:///p.abl", {"range": {"start": far, "end": far}, "text": "mlp = loar(3)"})
    assert codes(shared.diagnostics("file:///p.abl")) == ["unknown-operation"]


def test_a_change_before_open_is_logged(shared: Client) -> None:
    shared.notes.clear()
    shared.change("file:///never.abl", {"text": "mlp = none"})
    assert "isn't open" in logged(shared)
    assert shared.at("hover", "file:///not-open.abl", 0, 0) is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("mlp = none\n" * 1_000_000, "file-too-large"),
        ("\n" * 100_000 + "mlp = loar(3)", "unknown-operation"),
        ("mlp=none;" * 100_000, "too-many-statements"),
        ("(" * 100_000, "nested-too-deep"),
        (")" * 50_000, "too-many-faults"),
        ("mlp = lora(" + "1+" * 40_000 + "1)", "expression-too-long"),
        ("\0", "nul-byte"),
        ("\ud800", "not-utf8"),
    ],
    ids=lambda value: str(value)[:20] if len(str(value)) < 30 else "text",
)
def test_huge_and_strange_documents_are_answered_with_their_fault(shared: Client, text: str, code: str) -> None:
    shared.open("file:///big.abl", text)
    assert code in codes(shared.diagnostics("file:///big.abl"))
    shared.at("hover", "file:///big.abl", 5, 5)
    shared.at("completion", "file:///big.abl", 5, 5)
    shared.ask("textDocument/inlayHint", textDocument={"uri": "file:///big.abl"}, range=whole(""))
    shared.change("file:///big.abl", {"range": whole("") | {"end": {"line": 2**31 - 1, "character": 0}}, "text": MODEL})
    assert shared.diagnostics("file:///big.abl") == []


def test_before_initialize_and_after_shutdown_requests_are_refused() -> None:
    with Client() as client:
        asked = {"textDocument": {"uri": "file:///a.abl"}, "position": {"line": 0, "character": 0}}
        assert client.answer("textDocument/hover", **asked)["error"]["code"] == -32002
        client.start(ROOT)
        client.ask("shutdown")
        assert client.answer("textDocument/hover", **asked)["error"]["code"] == -32600
        client.notify("exit")
        assert client.process.wait(timeout=20) == 0


def test_exit_without_shutdown_is_a_failure(client: Client) -> None:
    client.notify("exit")
    assert client.process.wait(timeout=20) == 1


def test_exit_before_anything_else_is_one_too() -> None:
    with Client() as client:
        client.notify("exit")
        assert client.process.wait(timeout=20) == 1


@pytest.mark.parametrize(
    "rest", [b"", b"Content-Length: 5000\r\n\r\n{half", b"Content-Length: 99999999999999\r\n\r\n{"]
)
def test_a_client_that_goes_leaves_no_server_behind(rest: bytes) -> None:
    with Client() as client:
        client.start(ROOT)
        client.write(rest)
        assert client.process.stdin is not None and client.process.stderr is not None
        client.process.stdin.close()
        assert client.process.wait(timeout=20) == 1
        assert b"Traceback" not in client.process.stderr.read()


def test_an_interrupt_ends_it_though_it_waits_for_input() -> None:
    with Client() as client:
        client.start(ROOT)
        client.process.send_signal(signal.SIGINT)
        assert client.process.wait(timeout=20) == -signal.SIGINT


def test_an_unknown_method_is_an_error_and_an_unknown_note_nothing(shared: Client) -> None:
    assert shared.answer("ablc/what")["error"]["code"] == -32601
    shared.notify("$/whatever", x=1)
    assert shared.at("hover", "file:///not-open.abl", 0, 0) is None


def test_a_request_may_be_taken_back(shared: Client) -> None:
    shared.open("file:///a.abl", MODEL)
    shared.send(
        id=9,
        method="textDocument/hover",
        params={"textDocument": {"uri": "file:///a.abl"}, "position": {"line": 0, "character": 0}},
    )
    shared.notify("$/cancelRequest", id=9)
    shared.wait(lambda message: message.get("id") == 9)
    assert shared.at("hover", "file:///not-open.abl", 0, 0) is None


# --- around it -------------------------------------------------------------------------------------------------------


def test_it_works_without_torch_and_transformers() -> None:
    with Client(blocking("torch", "transformers", "numpy", "datasets")) as client:
        client.start(ROOT)
        client.open("file:///a.abl", MODEL + "mlp = lora(8)\n")
        assert client.diagnostics("file:///a.abl") == []
        assert client.at("hover", "file:///a.abl", 1, 7)
        assert client.stop() == 0


def test_without_pygls_it_says_what_to_install() -> None:
    done = subprocess.run(blocking("pygls"), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert "the language server needs pygls" in done.stderr
    assert "help: pip install 'ablc[lsp]'" in done.stderr


IMPORTED = """
import sys
from ablc.cli.app import app
try:
    app(sys.argv[1:], standalone_mode=False)
except SystemExit:
    pass
print([name for name in sys.modules if name.startswith(("pygls", "lsprotocol", "ablc.lsp"))])
"""
CHATTER = """
from ablc.lsp import server
hover = server.hover
server.hover = lambda *given: print("chatter", flush=True) or hover(*given)
raise SystemExit(server.serve())
"""


def test_other_commands_dont_import_it() -> None:
    command = [sys.executable, "-c", IMPORTED, "check", "specs/18.abl"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_what_somebody_prints_doesnt_stand_between_messages() -> None:
    with Client([sys.executable, "-c", CHATTER]) as client:
        client.start(ROOT)
        client.open("file:///a.abl", MODEL)
        assert client.at("hover", "file:///a.abl", 0, 0) is not None
        assert client.stop() == 0
        assert not [note for note in client.notes if "broken" in note]
        assert client.process.stderr is not None and client.process.stderr.read() == b"chatter\n"
