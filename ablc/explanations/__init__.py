"""What every code means: one text each, found by being here.

The text on a fault is `CODE.md` in this folder; that on a lint is the docstring of its file. Both begin with one
sentence and hold an example with what comes out, which is tested."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from ablc.faults import Level
from ablc.lints import docstring, lint_codes


@cache
def codes() -> tuple[str, ...]:
    """Every code that a command can tell."""
    written = [entry.name[:-3] for entry in files(__name__).iterdir() if entry.name.endswith(".md")]
    return tuple(sorted({*written, *lint_codes()}))


def explanation(code: str) -> str:
    """The text on a code that `codes()` lists, in Markdown."""
    if code in lint_codes():
        return docstring(code).strip() + "\n"
    return files(__name__).joinpath(f"{code}.md").read_text(encoding="utf-8")


def title(code: str) -> str:
    """The sentence that a text begins with."""
    return " ".join(explanation(code).partition("\n\n")[0].split())


@cache
def level(code: str) -> Level:
    """Whether a code is an error's or a warning's: read off its example."""
    return "warning" if re.search(rf"^warning\[{code}\]", explanation(code), re.MULTILINE) else "error"
