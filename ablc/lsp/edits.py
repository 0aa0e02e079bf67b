"""What the formatter would change in a document."""

from __future__ import annotations

from dataclasses import dataclass

from ablc.faults import Fault, Source
from ablc.language.formatting import difference, formatted
from ablc.language.parse import parse
from ablc.lsp.analysis import Analysis


@dataclass(frozen=True)
class TextEdit:
    """New text in place of the characters from `start` to `end`."""

    start: int
    end: int
    text: str


def format_edits(analysis: Analysis) -> list[TextEdit]:
    """One edit from the first line that changes to the last; none where the document doesn't parse."""
    faults: list[Fault] = []
    file = parse(analysis.source, faults)
    if faults or not analysis.source.text:
        return []
    text = formatted(file)
    after = parse(Source(analysis.source.name, text, analysis.source.folder), faults)
    if text == analysis.source.text or faults or difference(file, after) is not None:
        return []
    return [_edit(analysis.source.text, text)]


def _edit(before: str, after: str) -> TextEdit:
    """The shortest run of lines that makes one text of the other."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    tail = 0
    while tail < min(len(old), len(new)) - same and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    start = sum(map(len, old[:same]))
    end = len(before) - sum(map(len, old[len(old) - tail :]))
    return TextEdit(start, end, "".join(new[same : len(new) - tail]))
