"""How long what a writer of specs waits for takes.

    python benchmarks/language.py [--rounds 30] [--only keystroke]

Each measure is a function that yields seconds, one for each round; a table of their medians is printed. Whole processes
are measured, spoken to as their users do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ABLC = [sys.executable, "-m", "ablc"]
STATEMENTS = 500
Seconds = Iterator[float]


# --- what is written -------------------------------------------------------------------------------------------------


def many_layers(rank: int) -> str:
    """A spec of 500 lines on the largest base, each with an edit of its own; the third has this rank."""
    slots = ("attention.q", "attention.k", "attention.v", "attention.out")
    lines = [f"{slots[n % 4]}[{n // 4}] = lora({rank if n == 2 else n + 1})" for n in range(STATEMENTS - 2)]
    return "\n".join(['model = "llama-3.1-405b"', *lines, "expect params < 405_853_388_800", ""])


def many_changes(rank: int) -> str:
    """A spec of 500 lines that take each other back in 24 layers, with comments: 300 warnings."""
    lines = []
    for n in range(STATEMENTS - 2):
        said = f"attention.qkv[{n % 24}] = lora({rank if n == 4 else 1 + n % 300})"
        lines.append((said, f"mlp[{n % 24}] = nonlinear_lora({1 + n % 30})", f"# about {n}")[n % 3])
    return "\n".join(['model = "EleutherAI/pythia-410m"', *lines, "expect params < 405_334_016", ""])


def family(rank: int) -> str:
    """A family of 50 variants."""
    ranks = ", ".join(str(rank + n) for n in range(50))
    return f'model = "EleutherAI/pythia-410m"\nvary r = {ranks}\nattention.qkv[3:] = lora(r)\nmlp[12:] = lora_mlp(r)\n'


# --- keystroke to diagnostics ----------------------------------------------------------------------------------------


class Server:
    """`ablc lsp`, and one open document."""

    def __init__(self, text: str) -> None:
        self._process = subprocess.Popen([*ABLC, "lsp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._version = 1
        self._send(id=1, method="initialize", params={"processId": os.getpid(), "rootUri": None, "capabilities": {}})
        self._send(method="initialized", params={})
        document = {"uri": "file:///benchmark.abl", "languageId": "ablc", "version": 1, "text": text}
        self._send(method="textDocument/didOpen", params={"textDocument": document})
        self._wait()

    def keystrokes(self, *texts: str) -> float:
        """Seconds from the last of several new texts to what is said of it."""
        for text in texts:
            self._version += 1
            document = {"uri": "file:///benchmark.abl", "version": self._version}
            params = {"textDocument": document, "contentChanges": [{"text": text}]}
            started = time.perf_counter()
            self._send(method="textDocument/didChange", params=params)
        self._wait()
        return time.perf_counter() - started

    def stop(self) -> None:
        self._send(id=2, method="shutdown", params=None)
        self._send(method="exit", params=None)
        self._process.wait()

    def _send(self, **message: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _wait(self) -> None:
        """Until the newest version has its diagnostics."""
        out = self._process.stdout
        assert out is not None
        while True:
            length = 0
            while (header := out.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                length = int(value) if name == b"Content-Length" else length
            message = json.loads(out.read(length))
            if message.get("params", {}).get("version") == self._version:
                return


def keystroke(text: Callable[[int], str], rounds: int, at_once: int = 1) -> Seconds:
    """A rank changes, as it does while somebody writes, or several times `at_once`, faster than it is compiled."""
    server = Server(text(1))
    for number in range(rounds):
        first = 2 + at_once * number
        yield server.keystrokes(*map(text, range(first, first + at_once)))
    server.stop()


# --- whole commands --------------------------------------------------------------------------------------------------


def folder(place: Path, changed: int) -> None:
    """A thousand different specs; in the first `changed` of them a rank is another one."""
    place.mkdir()
    for n in range(1000):
        rank = 8 + n // 24 + (3 if n < changed else 0)
        lines = (
            'model = "EleutherAI/pythia-410m"',
            "",
            "attention.out = none",
            f"attention.qkv[{n % 24}:] = lora({rank})",
            f"mlp[{n % 12}:{12 + n % 12}] = nonlinear_lora({n + 1})",
            "expect layers.mlp == 12",
        )
        (place / f"{n:04}.abl").write_text("".join(f"{line}\n" for line in lines))


def command(rounds: int, *words: str, changed: int = 0) -> Seconds:
    """A command in a folder that has a thousand specs in `a`, and in `b` the same but for those that changed."""
    with tempfile.TemporaryDirectory() as place:
        folder(Path(place, "a"), 0)
        folder(Path(place, "b"), changed)
        for _ in range(rounds):
            started = time.perf_counter()
            subprocess.run([*ABLC, *words], cwd=place, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            yield time.perf_counter() - started


# --- the table -------------------------------------------------------------------------------------------------------

MEASURES: dict[str, Callable[[int], Seconds]] = {
    "keystroke to diagnostics, 500 edits of 126 layers": lambda rounds: keystroke(many_layers, rounds),
    "keystroke to diagnostics, 500 lines, 300 warnings": lambda rounds: keystroke(many_changes, rounds),
    "the last of 10 keystrokes at once, 300 warnings": lambda rounds: keystroke(many_changes, rounds, 10),
    "keystroke to diagnostics, first of 50 variants": lambda rounds: keystroke(family, rounds),
    "fmt --check of 1,000 specs": lambda rounds: command(rounds, "fmt", "--check", "a"),
    "check of 1,000 specs": lambda rounds: command(rounds, "check", "a"),
    "diff of two folders of 1,000 specs, 50 changed": lambda rounds: command(rounds, "diff", "a", "b", changed=50),
    "diff of two folders of 1,000 specs, all changed": lambda rounds: command(rounds, "diff", "a", "b", changed=1000),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", help="measures with this word in their name")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; ", end="")
    print(f"{arguments.rounds} rounds; milliseconds\n")
    print(f"{'':52}  median    best   worst")
    for name, measured in MEASURES.items():
        if arguments.only in name:
            took = [1000 * seconds for seconds in measured(arguments.rounds)]
            print(f"{name:52}  {statistics.median(took):6.1f}  {min(took):6.1f}  {max(took):6.1f}")


if __name__ == "__main__":
    main()
