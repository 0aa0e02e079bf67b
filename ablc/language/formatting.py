"""Text to canonical text: a statement a line, as the printer spells it; comments and blank lines where they stood.

A formatter must never change what a file says. So `difference` looks for that with means of its own, and whoever writes
a canonical text asks it first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from ablc.faults import Span
from ablc.language.printer import show
from ablc.language.split import split
from ablc.language.tree import File, StatementNode

WIDTH = 100  # columns of a statement
WAITED_FOR = 60  # columns of the widest statement that the comments of its neighbours stand behind
_INDENT = "    "
_GAP = 2  # blanks before a comment
_STRING_OR_COMMENT = re.compile(r'"[^"\n]*"|#[^\n]*')
_STRING_OR_MARK = re.compile(r'"[^"\n]*"|[()\[\],]')


@dataclass
class _Line:
    """A statement, which may take several lines, with the comment behind it; or a comment alone."""

    code: str
    comment: str
    after_blank: bool
    continues: bool = False  # a comment alone that goes on with the one above, behind a statement

    @property
    def width(self) -> int:
        return _width(self.code.rpartition("\n")[2])

    @property
    def is_short(self) -> bool:
        return bool(self.code) and "\n" not in self.code and self.width <= WAITED_FOR


def formatted(file: File) -> str:
    """The canonical text of a file that was parsed without faults."""
    text = []
    for run in _runs(_lines(file)):
        column = max(line.width for line in run) + _GAP if run[0].code else 0
        for line in run:
            comment = " " * (column - line.width) + line.comment if line.comment else ""
            text.append("\n" * line.after_blank + line.code + comment + "\n")
    return "".join(text)


def difference(before: File, after: File) -> Span | None:
    """Where the second file says something else than the first: the first statement or comment that isn't the same."""
    for one, other in zip_longest(_said(before), _said(after)):
        if one is None:
            end = len(before.source.text)
            return Span(before.source, end, end)
        if other is None or one[0] != other[0]:
            return one[1]
    return None


def _said(file: File) -> list[tuple[object, Span]]:
    """Statements and comments in text order. A number's spelling is part of it: the tree alone compares values."""
    statements = [((s.node, show(s.node)), s.span()) for s in file.statements]
    comments = [(text, Span(file.source, start, start + len(text))) for start, text in _comments(file.source.text)]
    return sorted([*statements, *comments], key=lambda said: said[1].start)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Every comment, also those inside statements, with its place."""
    for match in _STRING_OR_COMMENT.finditer(text):
        if match.group()[0] == "#":
            yield match.start(), match.group().rstrip()


def _width(text: str) -> int:
    """Columns that a text takes."""
    return len(text) if text.isascii() else len(text) + sum(unicodedata.east_asian_width(c) in "WF" for c in text)


# --- lines -----------------------------------------------------------------------------------------------------------


def _lines(file: File) -> list[_Line]:
    text = file.source.text
    spans = split(file.source, []).statements  # a node may end before the bracket that closes its statement
    codes = {span.start: _code(s.node, span.text) for span, s in zip(spans, file.statements, strict=True)}
    lines: list[_Line] = []
    before = Span(file.source, 0, 0)
    for span in sorted([*spans, *file.comments], key=lambda span: span.start):
        between = text[before.end : span.start].split("\n")
        after_blank = bool(lines) and not all(line.strip() for line in between[1:-1])
        if span.start in codes:
            lines.append(_Line(codes[span.start], "", after_blank))
        elif lines and len(between) == 1:
            lines[-1].comment = span.text.rstrip()
        else:
            goes_on = bool(lines) and not after_blank and _goes_on(lines[-1], before, span)
            lines.append(_Line("", span.text.rstrip(), after_blank, goes_on))
        before = span
    return lines


def _goes_on(above: _Line, before: Span, comment: Span) -> bool:
    """Whether a comment that has its line for itself goes on with one behind a statement: it stands right below."""
    is_behind = bool(above.comment) and bool(above.code or above.continues)
    return is_behind and _column(before) == _column(comment)


def _column(span: Span) -> int:
    return _width(span.source.text[span.start - span.column + 1 : span.start].expandtabs())


def _runs(lines: list[_Line]) -> list[list[_Line]]:
    """Lines whose comments begin in one column: a comment and what goes on with it, behind statements of like width."""
    runs: list[list[_Line]] = []
    for line in lines:
        stands_beside = line.is_short and line.comment and not line.after_blank
        if line.continues or (runs and stands_beside and runs[-1][0].is_short and runs[-1][-1].comment):
            runs[-1].append(line)
        else:
            runs.append([line])
    return runs


# --- statements ------------------------------------------------------------------------------------------------------


def _code(node: StatementNode, text: str) -> str:
    """The text of a statement. With comments inside it stays: where they belong, only its author knows."""
    if any(_comments(text)):
        return "\n".join(line.rstrip() for line in text.split("\n"))
    flat = show(node)
    return flat if _width(flat) <= WIDTH else _broken(flat)


def _broken(flat: str) -> str:
    """A long statement with an item a line in those brackets without which a line would be too wide."""
    brackets = _brackets(flat)
    reaches = [*(marks[0] + 1 for marks in brackets), len(flat)][1:]  # the next place where a line may end
    lines, line, done = "", "", 0
    for marks, reach in zip(brackets, reaches, strict=True):
        if _width(line + flat[done:reach]) > WIDTH:
            items = "".join(f"{_INDENT}{flat[start + 1 : end].strip()},\n" for start, end in pairwise(marks))
            lines += line + flat[done : marks[0] + 1] + "\n" + items
            line = ""
        else:
            line += flat[done : marks[-1]]
        done = marks[-1]
    return lines + line + flat[done:]


def _brackets(flat: str) -> list[list[int]]:
    """The outermost brackets that hold a list: the places where each opens, of its commas, and where it closes."""
    found: list[list[int]] = []
    marks: list[int] = []
    depth = 0
    for match in _STRING_OR_MARK.finditer(flat):
        place, mark = match.start(), match.group()
        depth -= mark in (")", "]")
        if depth == 0 and mark in ("(", "["):
            marks = [place]
        elif depth == 1 and mark == ",":
            marks.append(place)
        elif depth == 0 and mark in (")", "]") and flat[marks[0] - 1] not in " -":  # those stand before a group
            found.append([*marks, place])
        depth += mark in ("(", "[")
    return found
