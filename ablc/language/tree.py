"""The syntax tree of `.abl`: frozen, and equal whatever the layout.

`start` and `end` count characters from the start of the *statement*: so equal statements give equal trees wherever they
stand, and one that didn't change needn't be parsed again. `Statement.span` places them in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TypeVar, dataclass_transform

from ablc.faults import Source, Span

T = TypeVar("T")


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
def node(kind: type[T]) -> type[T]:
    """A frozen dataclass that takes equality and text from `Node`: two dozen classes are made at every start of the
    command, and half of what that takes is generated methods."""
    return dataclass(frozen=True, eq=False, repr=False)(kind)


@node
class Node:
    """A part of a statement. Equal to another of its kind with the same content, wherever the two stand."""

    start: int = field(compare=False)
    end: int = field(compare=False)

    def _content(self) -> tuple[object, ...]:
        return tuple(getattr(self, f.name) for f in fields(self) if f.compare)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Node) and self._content() == other._content()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._content()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._content()))})"


# --- values ----------------------------------------------------------------------------------------------------------


@node
class Integer(Node):
    value: int
    text: str = field(compare=False)


@node
class Float(Node):
    """A number with a point or an exponent. `text` keeps it exact: a claim is decided on fractions, not on floats."""

    value: float
    text: str = field(compare=False)


@node
class String(Node):
    value: str


@node
class Word(Node):
    """A bare word: a `vary` name, a config field, `layer`, true, false, null, or else the same as the quoted word."""

    name: str


@node
class Negative(Node):
    operand: Value
    terms: int = field(compare=False)


@node
class Binary(Node):
    operator: str
    left: Value
    right: Value
    terms: int = field(compare=False)


Value = Integer | Float | String | Word | Negative | Binary


# --- targets and operations ------------------------------------------------------------------------------------------


@node
class Index(Node):
    value: Value


@node
class Slice(Node):
    first: Value | None
    last: Value | None
    step: Value | None


@node
class Layers(Node):
    items: tuple[Index | Slice, ...]


@node
class Dotted(Node):
    name: str


@node
class Target(Node):
    slot: Dotted
    layers: Layers | None


@node
class Argument(Node):
    keyword: Word | None
    value: Value


@node
class Call(Node):
    operation: Word
    arguments: tuple[Argument, ...]


# --- statements ------------------------------------------------------------------------------------------------------


@node
class Metadata(Node):
    """`name = …` or `about = …`."""

    key: str
    value: Value


@node
class Override(Node):
    field: Dotted
    value: Value


@node
class Model(Node):
    value: Value
    overrides: tuple[Override, ...]


@node
class Extends(Node):
    path: String


@node
class Vary(Node):
    name: Word
    values: tuple[Value, ...]


@node
class Freeze(Node):
    targets: tuple[Target, ...]


@node
class Train(Node):
    key: Word
    value: Value


@node
class Expect(Node):
    """`tolerance` is the percentage of `within … of`, None for the relations `== < <= > >=`."""

    measure: Dotted
    relation: str
    tolerance: Integer | Float | None
    value: Value


@node
class Assign(Node):
    targets: tuple[Target, ...]
    call: Call


StatementNode = Metadata | Model | Extends | Vary | Freeze | Train | Expect | Assign


@dataclass(frozen=True)
class Statement:
    """A statement where it stands: `offset` is the place of its first character in the source."""

    source: Source = field(compare=False, repr=False)
    offset: int = field(compare=False)
    node: StatementNode

    def span(self, part: Node | None = None) -> Span:
        """The place of a part of this statement, or of all of it."""
        part = part or self.node
        return Span(self.source, self.offset + part.start, self.offset + part.end)


@dataclass(frozen=True)
class File:
    """A parsed file. The statements that could be parsed, in order; comments as spans."""

    source: Source = field(compare=False, repr=False)
    statements: tuple[Statement, ...]
    comments: tuple[Span, ...] = field(default=(), compare=False)


def terms(value: Value) -> int:
    """How many operands and signs an expression has; bounds its depth too."""
    return value.terms if isinstance(value, Negative | Binary) else 1


def words(node: object) -> Iterator[Word]:
    """Every bare word in a tree, in text order."""
    if isinstance(node, Word):
        yield node
    elif isinstance(node, tuple):
        for child in node:
            yield from words(child)
    elif isinstance(node, Node):
        for f in fields(node):
            yield from words(getattr(node, f.name))
