"""Text to canonical text: a statement a line, as the printer spells it; comments and blank lines where they stood.

A formatter must never change what a file says. So `difference` looks for that with means of its own, and whoever writes
a canonical text asks it first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterator
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
_TO_ABLC = re.compile(r"#\s*ablc:")
_STRING_OR_MARK = re.compile(r'"[^"\n]*"|[()\[\],]')


@dataclass
class _Row:
    """What no newline parts: statements, a comment behind them, or either."""

    statements: list[Span]
    comment: Span | None
    after_blank: bool

    @property
    def text(self) -> str:
        """From the first statement to the last."""
        if not self.statements:
            return ""
        return self.statements[0].source.text[self.statements[0].start : self.statements[-1].end]

    @property
    def speaks_to_ablc(self) -> bool:
        text = self.text + (self.comment.text if self.comment is not None else "")
        return any(_TO_ABLC.match(comment) for _, comment in _comments(text))


@dataclass
class _Line:
    """A statement, which may take several lines, with the comment behind it; or a comment alone."""

    code: str
    after_blank: bool
    comment: str = ""
    column: int = 0  # where the comment stood
    continues: bool = False  # a comment alone that goes on with the one above

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
    spans = split(file.source, []).statements  # a node may end before the bracket that closes its statement
    codes = {span.start: _code(s.node, span.text) for span, s in zip(spans, file.statements, strict=True)}
    lines: list[_Line] = []
    is_told = False  # whether a comment to ablc stands on this row, or on a row of comments above
    for row in _rows(file.source.text, sorted([*spans, *file.comments], key=lambda span: span.start), codes):
        is_told = is_told or row.speaks_to_ablc
        # such a comment is about all that is on a line
        is_one = is_told and len(row.statements) > 1
        shown = [_kept(row.text)] if is_one else [codes[span.start] for span in row.statements] or [""]
        above = lines[-1] if lines else None
        lines += [_Line(code, row.after_blank and place == 0) for place, code in enumerate(shown)]
        if row.comment is not None:
            lines[-1].comment, lines[-1].column = row.comment.text.rstrip(), _column(row.comment)
            lines[-1].continues = not row.statements and not row.after_blank and _goes_on(above, lines[-1].column)
        is_told = is_told and not row.statements
    return lines


def _rows(text: str, spans: list[Span], codes: Container[int]) -> list[_Row]:
    """Statements and comments, by the newlines between them."""
    rows: list[_Row] = []
    end = 0
    for span in spans:
        between = text[end : span.start].split("\n")
        if not rows or len(between) > 1:
            rows.append(_Row([], None, bool(rows) and not all(line.strip() for line in between[1:-1])))
        if span.start in codes:
            rows[-1].statements.append(span)
        else:
            rows[-1].comment = span
        end = span.end
    return rows


def _goes_on(above: _Line | None, column: int) -> bool:
    """Whether a comment that has its line for itself goes on with the one above: it stands right below."""
    return above is not None and bool(above.comment) and above.column == column


def _column(comment: Span) -> int:
    return _width(comment.source.text[comment.start - comment.column + 1 : comment.start].expandtabs())


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
        return _kept(text)
    flat = show(node)
    return flat if _width(flat) <= WIDTH else _broken(flat)


def _kept(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.split("\n"))


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
