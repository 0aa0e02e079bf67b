"""Cuts a file into statements before any of them is parsed.

A statement ends at a newline or `;` outside brackets. Brackets are matched over the whole file first, in one pass,
so that one left open is reported where it stands and swallows its own line only.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass

from ablc.faults import Fault, Source, Span

MAX_NESTING = 100
_CLOSES = {")": "(", "]": "["}
_LEXEMES = re.compile(r'"[^"\n]*"|"[^"\n]*|#[^\n]*|[()\[\];\n]')


@dataclass(frozen=True)
class Pieces:
    """Spans of the statements and of the comments outside them, in text order."""

    statements: tuple[Span, ...]
    comments: tuple[Span, ...]


def split(source: Source, faults: list[Fault]) -> Pieces:
    """The statements of a file; reports strings and brackets that don't close. Linear in the length of the text."""
    lexemes = [(match.start(), match.group()) for match in _LEXEMES.finditer(source.text)]
    inside, broken = _match_brackets(source, lexemes, faults)
    statements: list[Span] = []
    comments: list[Span] = []
    start = depth = 0

    def close(end: int) -> None:
        text = source.text[start:end]
        piece = text.strip()
        first = start + len(text) - len(text.lstrip())
        last = first + len(piece)
        is_broken = bisect.bisect_left(broken, first) < bisect.bisect_left(broken, last)
        if piece and not is_broken:
            statements.append(Span(source, first, last))

    for place, text in lexemes:
        depth += inside.get(place, 0)
        if depth or text[0] not in "\n;#":
            continue
        close(place)
        start = place + len(text)
        if text[0] == "#":
            comments.append(Span(source, place, start))
    close(len(source.text))
    return Pieces(tuple(statements), tuple(comments))


def _match_brackets(
    source: Source, lexemes: list[tuple[int, str]], faults: list[Fault]
) -> tuple[dict[int, int], list[int]]:
    """Depth change at each matched bracket, and the places of what is broken, in text order."""
    inside: dict[int, int] = {}
    broken: list[int] = []
    open_: list[tuple[int, str]] = []

    def report(place: int, code: str, message: str, help: str | None = None) -> None:
        broken.append(place)
        faults.append(Fault(code, message, Span(source, place, place + 1), help))

    for place, text in lexemes:
        char = text[0]
        if char == '"' and (len(text) == 1 or text[-1] != '"'):
            report(place, "unclosed-string", 'this string has no closing `"` on its line')
        elif char in "([":
            open_.append((place, char))
            if len(open_) == MAX_NESTING + 1:
                report(place, "nested-too-deep", f"brackets are nested more than {MAX_NESTING} deep")
        elif char in ")]":
            if open_ and open_[-1][1] == _CLOSES[char]:
                inside[open_.pop()[0]], inside[place] = 1, -1
            elif open_ and source.text.find("\n", open_[-1][0], place) < 0:
                opened = open_.pop()
                report(place, "mismatched-bracket", f"`{opened[1]}` is closed by `{char}`")
            else:
                report(place, "unopened-bracket", f"this `{char}` closes nothing")
    line_reported = 0
    for place, char in open_:
        line = source.position(place)[0]
        if line == line_reported:
            broken.append(place)  # one message a line says enough
        else:
            report(place, "unclosed-bracket", f"this `{char}` is never closed")
        line_reported = line
    broken.sort()
    return inside, broken
