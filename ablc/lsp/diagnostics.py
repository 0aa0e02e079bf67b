"""Faults as an editor shows them: each at a place in the open document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ablc.faults import Fault, Level, Source, Span, visible
from ablc.lsp.analysis import Analysis, through

MOST = 1_000  # of one document: a file of closing brackets has as many faults
LONGEST = 2_000  # characters of a message


@dataclass(frozen=True)
class Finding:
    """What is wrong at some characters of the document, with places, here or in other files, that explain it."""

    start: int
    end: int
    level: Level
    code: str
    message: str
    related: tuple[tuple[Span, str], ...] = ()


def findings(analysis: Analysis, faults: Iterable[Fault]) -> list[Finding]:
    """Every fault; one in a file that the document extends stands at the `extends` that leads there."""
    everything = list(faults)
    shown = [*_findings(analysis, everything[:MOST])]
    if len(everything) > MOST:
        shown.append(Finding(0, 1, "error", "too-many-faults", f"… and {len(everything) - MOST:,} more"))
    return shown


def _findings(analysis: Analysis, faults: list[Fault]) -> Iterator[Finding]:
    known: dict[str, Span | None] = {}
    for fault in faults:
        span, related = fault.span, fault.related
        message = f"{fault.message}\nhelp: {fault.help}" if fault.help else fault.message
        if span is not None and not _is_own(span.source, analysis.source):
            name = span.source.name
            if name not in known:
                known[name] = through(analysis, name)
            related = ((span, fault.message), *related)
            message = f"{name}:{span.line}: {message}"
            span = known[name]
        start, end = _wide(span) if span is not None else (0, 1)
        notes = tuple((place, visible(note)[:LONGEST]) for place, note in related)
        yield Finding(start, end, fault.level, fault.code, visible(message)[:LONGEST], notes)


def _is_own(source: Source, own: Source) -> bool:
    return source is own or source == own


def _wide(span: Span) -> tuple[int, int]:
    """The characters to underline: at least one where the line has one."""
    text, start, end = span.source.text, span.start, span.end
    if start < end:
        return start, end
    if text[start : start + 1] not in ("", "\n", "\r"):
        return start, start + 1
    if start and text[start - 1] not in "\n\r":
        return start - 1, start
    return start, start
