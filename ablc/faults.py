"""What went wrong, as data: a fault has a code, a place, one sentence and, where there is one, a way out.

Passes collect faults and go on; nothing here prints. `render` is the one place that turns a fault into text.
"""

from __future__ import annotations

import bisect
import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SNIPPET_WIDTH = 100
LONGEST = 1000  # characters of a sentence


@dataclass(frozen=True)
class Source:
    """A text and the name it is shown under. `folder` is what relative paths in it count from."""

    name: str
    text: str
    folder: Path = field(default=Path(), compare=False)
    _starts: list[int] = field(default_factory=list, compare=False, repr=False)

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a character offset, both counted from 1."""
        if not self._starts:
            self._starts.append(0)
            self._starts.extend(i + 1 for i, char in enumerate(self.text) if char == "\n")
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line counted from 1, without its newline."""
        start = self._starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : len(self.text) if end < 0 else end]


@dataclass(frozen=True)
class Span:
    """A place in a source: characters `start` to `end`, half-open."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        return self.source.position(self.start)[1]

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"


Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong (`error`) or deserves a look (`warning`)."""

    code: str
    message: str
    span: Span | None = None
    help: str | None = None
    level: Level = "error"
    related: tuple[tuple[Span, str], ...] = ()


class UserError(Exception):
    """Something that whoever asked for it can mend: one sentence and, where there is one, a way out.

    `faults` is how a command tells it; `code` names its kind there.
    """

    code = "failed"

    def __init__(self, message: str, help: str | None = None) -> None:
        self.message, self.help = message, help
        self.faults: tuple[Fault, ...] = (Fault(self.code, message, help=help),)
        super().__init__(message, help)

    def __str__(self) -> str:
        return f"{self.message} ({self.help})" if self.help else self.message


class SpecError(UserError):
    """Raised by the Python interface where a spec has errors; `faults` holds all of them."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        found = tuple(faults)
        super().__init__("\n\n".join(render(fault) for fault in found))
        self.faults = found

    def __reduce__(self) -> tuple[type[SpecError], tuple[tuple[Fault, ...]]]:
        return SpecError, (self.faults,)  # what a worker process raises must arrive


def expect(value: object, kind: type | tuple[type, ...], sentence: str) -> None:
    """Raise TypeError with the sentence, which says what belongs there, unless it is of that kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{sentence}; this is {type(value).__name__}")


def reason_of(error: BaseException) -> str:
    """Why something failed, in one line, as it may stand after a colon: what the system says, else the first line that
    the error has, else its kind."""
    said = getattr(error, "strerror", None)
    if said:
        return str(said).lower()
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, KeyError):  # which says no more than the key
        return f"there is no {first}"
    return first or type(error).__name__


def has_errors(faults: Iterable[Fault]) -> bool:
    return any(fault.level == "error" for fault in faults)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that a mistyped word most probably meant, or None."""
    if len(word) > 200:
        return None
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str], what: str = "choices") -> str:
    """Help for an unknown word: the nearest choice if one is near, else all of them."""
    choices = sorted(choices)
    near = nearest(word, choices)
    listed = f"{what}: {', '.join(choices[:40])}" + (", …" if len(choices) > 40 else "")
    return f"did you mean `{near}`?" if near else listed


def render(fault: Fault) -> str:
    """A fault as a reader sees it: level, code, sentence, place, the line with the place underlined, the way out."""
    lines = [f"{fault.level}[{fault.code}]: {one_line(_cut(fault.message))}"]
    if fault.span is not None:
        lines += _snippet(fault.span)
    for span, label in fault.related:
        lines += [f"  note: {one_line(label)}", *_snippet(span)]
    if fault.help:
        lines.append(f"  help: {one_line(_cut(fault.help))}")
    return "\n".join(lines)


def _cut(text: str) -> str:
    """A sentence with the middle taken out where a huge name stands in it."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def visible(text: str) -> str:
    """Text with control characters made visible, so that a file can't write to the terminal through an error."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else "�" for c in text)


def one_line(text: str) -> str:
    """Text that can't begin a line of its own: a name may hold anything, and some read our output by lines."""
    return visible(text).replace("\n", "�")


def _snippet(span: Span) -> list[str]:
    line, column = span.source.position(span.start)
    text = span.source.line(line)
    first = max(0, column - 1 - SNIPPET_WIDTH // 2) if len(text) > SNIPPET_WIDTH else 0
    shown = visible(text[first : first + SNIPPET_WIDTH])
    before = shown[: column - 1 - first]
    marked = shown[len(before) : len(before) + max(1, span.end - span.start)]
    pad = "".join("\t" if c == "\t" else " " * _cells(c) for c in before)
    carets = "^" * max(1, sum(_cells(c) for c in marked))
    number = str(line)
    gutter = " " * len(number)
    return [
        f"{gutter}--> {one_line(span.source.name)}:{line}:{column}",
        f"{gutter} |",
        f"{number} | {shown}",
        f"{gutter} | {pad}{carets}",
    ]


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
