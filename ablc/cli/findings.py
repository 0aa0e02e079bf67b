"""What `ablc check` found, as JSON and as annotations of GitHub."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ablc.faults import Fault, Span, visible


def as_json(faults: Iterable[Fault], mended: Sequence[Mapping[str, Any]]) -> str:
    """Every fault with its place; `end` is the place after its last character."""
    entries = [_entry(fault) for fault in faults]
    return json.dumps(
        {"format_version": "1.0", "faults": entries, "mended": list(mended)}, indent=2, ensure_ascii=False
    )


def as_annotation(fault: Fault) -> str:
    """A workflow command that makes GitHub show a fault beside its line."""
    properties = {"title": fault.code}
    if fault.span is not None:
        line, column, end_line, end_column = _corners(fault.span)
        where = {"file": fault.span.source.name, "line": line, "col": column, "endLine": end_line}
        properties = {**{name: str(value) for name, value in where.items()}, "endColumn": str(end_column), **properties}
    said = "\n".join([fault.message, *(f"{label}: {span}" for span, label in fault.related)])
    said += f"\nhelp: {fault.help}" if fault.help else ""
    shown = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in properties.items())
    return f"::{fault.level} {shown}::{_escaped(said)}"


def _entry(fault: Fault) -> dict[str, Any]:
    entry: dict[str, Any] = {"code": fault.code, "level": fault.level, "message": fault.message, "help": fault.help}
    entry |= _place(fault.span)
    entry["related"] = [{"message": label, **_place(span)} for span, label in fault.related]
    return entry


def _place(span: Span | None) -> dict[str, Any]:
    if span is None:
        return {"file": None, "line": None, "column": None, "end": None}
    line, column, end_line, end_column = _corners(span)
    return {
        "file": span.source.name,
        "line": line,
        "column": column,
        "end": {"line": end_line, "column": end_column},
    }


def _corners(span: Span) -> tuple[int, int, int, int]:
    return span.line, span.column, *span.source.position(max(span.end, span.start))


def _escaped(text: str, more: str = "") -> str:
    """Text as a workflow command wants it; `%` first, since it begins every other escape."""
    for char in ("%", "\r", "\n", *more):
        text = text.replace(char, f"%{ord(char):02X}")
    return visible(text)
