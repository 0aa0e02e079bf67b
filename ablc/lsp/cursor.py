"""What stands at a place: the statement, and the parts of it that are around the place, the widest first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TypeVar

from ablc.faults import Span
from ablc.language import tree
from ablc.language.parse import KEYWORDS
from ablc.language.tree import Statement
from ablc.lsp.analysis import Analysis

N = TypeVar("N", bound=tree.Node)


@dataclass(frozen=True)
class Cursor:
    """A place in a statement. `parts` leads from the statement to the narrowest part there."""

    statement: Statement
    parts: tuple[tree.Node, ...]

    @property
    def narrowest(self) -> tree.Node:
        return self.parts[-1]

    def around(self, kind: type[N]) -> N | None:
        """The narrowest part of a kind that is around the place."""
        return next((part for part in reversed(self.parts) if isinstance(part, kind)), None)

    def span(self) -> Span:
        return self.statement.span(self.narrowest)


def cursor(analysis: Analysis, offset: int) -> Cursor | None:
    """What stands before or after a place between two characters; None between statements."""
    for statement in analysis.file.statements:
        end = analysis.ends.get(statement.offset, statement.span().end)
        if statement.offset <= offset <= end:
            inside = offset - statement.offset
            return Cursor(statement, (statement.node, *_parts(statement.node, inside)))
    return None


def keyword(at: Cursor, offset: int) -> str | None:
    """The keyword that the statement begins with, if the place is in it."""
    first = re.match(r"\w*", at.statement.span().text)
    word = first.group() if first is not None else ""
    return word if word in KEYWORDS and offset - at.statement.offset <= len(word) else None


def _parts(node: tree.Node, place: int) -> Iterator[tree.Node]:
    for child in _children(node):
        if child.start <= place <= child.end:
            yield child
            yield from _parts(child, place)
            return


def _children(node: tree.Node) -> Iterator[tree.Node]:
    for field in fields(node):
        value = getattr(node, field.name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, tree.Node):
                yield child
