"""A small client: `ablc lsp` in a process of its own, spoken to as an editor does."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "ablc", "lsp"]
PATIENCE = 30.0


class Client:
    """`answers` and `notes` hold what arrived and nobody asked for yet."""

    def __init__(self, command: list[str] | None = None, cwd: Path = ROOT, **env: str) -> None:
        self.process = subprocess.Popen(
            command or COMMAND,
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.arrived: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.notes: list[dict[str, Any]] = []
        self.number = 0
        self.versions: dict[str, int] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    # messages

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, **message: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def notify(self, method: str, **params: Any) -> None:
        self.send(method=method, params=params)

    def ask(self, method: str, **params: Any) -> Any:
        """The result of a request."""
        answer = self.answer(method, **params)
        assert "error" not in answer, answer
        return answer.get("result")

    def answer(self, method: str, **params: Any) -> dict[str, Any]:
        """The whole response to a request, error or result."""
        self.number += 1
        self.send(id=self.number, method=method, params=params)
        return self.wait(lambda message: message.get("id") == self.number and "method" not in message)

    def wait(self, wanted: Any, patience: float = PATIENCE) -> dict[str, Any]:
        """The first message that is wanted; others are kept in `notes`, and looked at first the next time."""
        for note in self.notes:
            if wanted(note):
                self.notes.remove(note)
                return note
        while True:
            message = self.arrived.get(timeout=patience)
            assert message is not None, "the server has gone"
            if wanted(message):
                return message
            self.notes.append(message)

    def _read(self) -> None:
        """Every message until the end; what isn't one is a failure of whoever waits."""
        out = self.process.stdout
        assert out is not None
        while (header := out.readline()) != b"":
            length = 0
            while header not in (b"\r\n", b""):
                name, colon, value = header.partition(b":")
                if not colon:
                    self.arrived.put({"broken": header})
                length = int(value) if name == b"Content-Length" else length
                header = out.readline()
            self.arrived.put(json.loads(out.read(length)))
        self.arrived.put(None)

    # documents

    def start(self, root: Path | None = None, **capabilities: Any) -> Any:
        """`initialize` and `initialized`; what the server can do."""
        uri = root.as_uri() if root is not None else None
        found = self.ask("initialize", processId=os.getpid(), rootUri=uri, capabilities=capabilities)
        self.notify("initialized")
        return found["capabilities"]

    def open(self, uri: str, text: str) -> None:
        self.versions[uri] = 1
        document = {"uri": uri, "languageId": "ablc", "version": 1, "text": text}
        self.notify("textDocument/didOpen", textDocument=document)

    def change(self, uri: str, *changes: dict[str, Any]) -> None:
        self.versions[uri] = self.versions.get(uri, 1) + 1
        document = {"uri": uri, "version": self.versions[uri]}
        self.notify("textDocument/didChange", textDocument=document, contentChanges=list(changes))

    def rewrite(self, uri: str, text: str) -> None:
        self.change(uri, {"text": text})

    def diagnostics(self, uri: str, version: int | None = None) -> list[dict[str, Any]]:
        """What is said of the newest version of a document, or of this one."""
        wanted = self.versions.get(uri) if version is None else version

        def said(message: dict[str, Any]) -> bool:
            params = message.get("params", {})
            is_it = message.get("method") == "textDocument/publishDiagnostics" and params["uri"] == uri
            return is_it and params.get("version") == wanted

        found: list[dict[str, Any]] = self.wait(said)["params"]["diagnostics"]
        return found

    def at(self, method: str, uri: str, line: int, character: int) -> Any:
        position = {"line": line, "character": character}
        return self.ask(f"textDocument/{method}", textDocument={"uri": uri}, position=position)

    def stop(self) -> int:
        """`shutdown` and `exit`; the exit code."""
        self.ask("shutdown")
        self.notify("exit")
        return self.process.wait(timeout=PATIENCE)


def place(text: str, word: str, shift: int = 0) -> tuple[int, int]:
    """Line and UTF-16 column of the first occurrence of a word."""
    before = text[: text.index(word) + shift]
    line = before.count("\n")
    return line, len(before.rpartition("\n")[2].encode("utf-16-le")) // 2


def covered(text: str, range: dict[str, Any]) -> str:
    """The text in a range of UTF-16 columns."""
    lines = text.replace("\r\n", "\n").split("\n")
    (first, start), (last, end) = ((range[side]["line"], range[side]["character"]) for side in ("start", "end"))
    if first != last:
        return "\n".join([_columns(lines[first], start, None), *lines[first + 1 : last], _columns(lines[last], 0, end)])
    return _columns(lines[first], start, end)


def _columns(line: str, start: int, end: int | None) -> str:
    data = line.encode("utf-16-le")
    return data[2 * start : None if end is None else 2 * end].decode("utf-16-le")
