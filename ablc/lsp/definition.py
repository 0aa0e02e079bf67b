"""Where what stands at a place is said: a file, or a statement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ablc.faults import Source
from ablc.language import tree
from ablc.language.read import identity, is_file
from ablc.lsp.analysis import Analysis
from ablc.lsp.cursor import Cursor, cursor
from ablc.pipeline import split_variant


@dataclass(frozen=True)
class Definition:
    """Characters of a file: of `source`, or the first of a file that needn't be read for that. `start` and `end` are
    those of the document that lead there."""

    start: int
    end: int
    path: Path | None
    source: Source | None = None
    first: int = 0
    last: int = 0


def definition(analysis: Analysis, offset: int) -> Definition | None:
    """Where a path leads, or where a `vary` name gets its values."""
    at = cursor(analysis, offset)
    if at is None:
        return None
    if isinstance(at.narrowest, tree.String):
        return _file(analysis, at, at.narrowest.value)
    return _name(analysis, at, at.narrowest.name) if isinstance(at.narrowest, tree.Word) else None


def _file(analysis: Analysis, at: Cursor, said: str) -> Definition | None:
    folder, node, span = analysis.source.folder, at.statement.node, at.span()
    if isinstance(node, tree.Model) and at.around(tree.Override) is None and said.startswith((".", "/")):
        path = folder / said / "config.json"
    elif isinstance(node, tree.Extends):
        path = folder / said
    elif isinstance(node, tree.Expect):
        path = split_variant(folder / said)[0]
    else:
        return None
    there = is_file(path) or identity(path) in analysis.texts
    return Definition(span.start, span.end, identity(path)) if there else None


def _name(analysis: Analysis, at: Cursor, name: str) -> Definition | None:
    statement = analysis.found.vary.get(name)
    if statement is None or not isinstance(statement.node, tree.Vary) or not _may_be_varied(at):
        return None
    there, span = statement.span(statement.node.name), at.span()
    path = analysis.document.path if analysis.program.is_own(statement) else identity(Path(there.source.name))
    return Definition(span.start, span.end, path, there.source, there.start, there.end)


def _may_be_varied(at: Cursor) -> bool:
    """Whether the word at the cursor is a value: an operation's name, a keyword or a key is none."""
    call, argument, node = at.around(tree.Call), at.around(tree.Argument), at.statement.node
    said = [call.operation if call else None, argument.keyword if argument else None]
    said.append(node.key if isinstance(node, tree.Train) else None)
    return all(at.narrowest is not word for word in said)
