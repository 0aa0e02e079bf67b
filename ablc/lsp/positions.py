"""Places in a text as editors count them: lines from 0, and columns in code units of an encoding."""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from itertools import accumulate

_RAW_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)")


@dataclass(frozen=True, order=True)
class Place:
    """A line and a column, both from 0."""

    line: int
    column: int


class Lines:
    """The lines of a text; each ends at LF, CRLF or CR. Offsets count characters. `raw` is a text as the editor has it:
    a `Source` has CRLF as LF already, and so each CR that is left in it ends a line by itself."""

    def __init__(self, text: str, encoding: str = "utf-16", *, raw: bool = False, bom: bool = False) -> None:
        self._text, self._encoding = text, encoding
        self._bom = units("\ufeff", encoding) if bom else 0  # a source has none, and the editor's first line has it
        if raw and "\r" in text:
            self._starts = [0, *(match.end() for match in _RAW_LINE.finditer(text))]
        else:
            lengths = (len(line) + 1 for line in text.replace("\r", "\n").split("\n")[:-1])
            self._starts = [0, *accumulate(lengths)]

    def place(self, offset: int) -> Place:
        """Where the editor has a character; the nearest there is for an offset outside the text."""
        offset = min(max(offset, 0), len(self._text))
        number = bisect.bisect_right(self._starts, offset) - 1
        before = self._line(number)[: offset - self._starts[number]]
        return Place(number, units(before, self._encoding) + (self._bom if number == 0 else 0))

    def offset(self, place: Place) -> int:
        """The character at a place; a column beyond its line is the line's end, a line beyond the text the text's."""
        if place.line >= len(self._starts):
            return len(self._text)
        column = max(0, place.column - (self._bom if place.line == 0 else 0))
        return self._starts[place.line] + _characters(self._line(place.line), column, self._encoding)

    def _line(self, number: int) -> str:
        """A line without its end."""
        end = self._starts[number + 1] if number + 1 < len(self._starts) else len(self._text)
        return self._text[self._starts[number] : end].rstrip("\r\n")


def units(text: str, encoding: str) -> int:
    """How many code units a text takes."""
    if encoding == "utf-32" or text.isascii():
        return len(text)
    if encoding == "utf-8":
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _characters(line: str, column: int, encoding: str) -> int:
    """The number of whole characters in the first `column` code units of a line."""
    if encoding == "utf-32" or line.isascii():
        return min(column, len(line))
    for number, char in enumerate(line):
        column -= units(char, encoding)
        if column < 0:
            return number
    return len(line)


def replaced(text: str, start: Place, end: Place, new: str, encoding: str) -> str:
    """An editor's text with what stands between two places replaced."""
    lines = Lines(text, encoding, raw=True)
    first, last = sorted((lines.offset(start), lines.offset(end)))
    return text[:first] + new + text[last:]
