"""The examples in explanations, run for real.

A block ```abl is a file (`example.abl` unless it is named), ```json NAME another one, ```sh makes what neither can
hold; the ```text block is what `ablc check` tells of `example.abl`. A ```console block is a command and what it tells.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ablc
from ablc.checking import check
from ablc.cli.app import app
from ablc.faults import render
from ablc.lints import lint_codes
from ablc.pipeline import compile_file

PACKAGE = Path(ablc.__file__).resolve().parent
BLOCK = re.compile(r"^```(?P<kind>\w+) ?(?P<name>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    kind: str
    name: str
    text: str


def blocks(text: str) -> list[Block]:
    return [Block(found["kind"], found["name"], found["text"]) for found in BLOCK.finditer(text)]


def file_of(code: str) -> Path:
    """The file that a text stands in."""
    if code in lint_codes():
        return PACKAGE / "lints" / f"{code.replace('-', '_')}.py"
    return PACKAGE / "explanations" / f"{code}.md"


def can_run(text: str) -> bool:
    """Whether an example can be run here: some need a machine without memory, or a run that has ended."""
    return any(block.kind in ("abl", "sh", "console") for block in blocks(text))


def outputs(text: str) -> Iterator[tuple[Block, str]]:
    """The blocks that show an output, each with what comes out; the current folder is written to."""
    files: list[str] = []
    for block in blocks(text):
        if block.kind == "sh":
            subprocess.run(["sh", "-c", block.text], check=True)
        elif block.kind in ("abl", "json"):
            path = Path(block.name or "example.abl")
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            files += [str(path)] if block.kind == "abl" else []
        elif block.kind == "console":
            command, _, _ = block.text.partition("\n")
            yield block, f"{command}\n{told(command)}"
        else:
            yield block, checked(files)


def checked(files: list[str]) -> str:
    """What `ablc check` tells of the example, with the files beside it."""
    names = dict.fromkeys([*files, "example.abl"])
    ones = check([compile_file(Path(name)) for name in names])
    (one,) = (one for one in ones if one.compiled.file == "example.abl")
    return "\n\n".join(render(fault) for fault in one.told) + "\n"


def told(command: str) -> str:
    """What a command writes to stderr."""
    program, *arguments = shlex.split(command.removeprefix("$ "))
    assert program == "ablc"
    stderr = io.StringIO()
    streams = contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO())
    with streams[0], streams[1], contextlib.suppress(SystemExit):
        app(arguments, standalone_mode=False)
    return "\n".join(line.rstrip() for line in stderr.getvalue().rstrip().splitlines()) + "\n"


def written(text: str, block: Block, output: str) -> str:
    """A text with the output of a block put in."""
    fence = f"```{block.kind}\n"
    return text.replace(f"{fence}{block.text}```", f"{fence}{output}```", 1)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
