"""The syntax tree of `.abl`: frozen, and equal whatever the layout.

`start` and `end` count characters from the start of the *statement*: so equal statements give equal trees wherever they
stand, and one that didn't change needn't be parsed again. `Statement.span` places them in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from ablc.faults import Source, Span


@dataclass(frozen=True, slots=True)
class Node:
    start: int = field(compare=False)
    end: int = field(compare=False)


# --- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Integer(Node):
    value: int
    text: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Float(Node):
    """A number with a point or an exponent. `text` keeps it exact: a claim is decided on fractions, not on floats."""

    value: float
    text: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class String(Node):
    value: str


@dataclass(frozen=True, slots=True)
class Word(Node):
    """A bare word: a `vary` name, a config field, `layer`, true, false, null, or else the same as the quoted word."""

    name: str


@dataclass(frozen=True, slots=True)
class Negative(Node):
    operand: Value
    terms: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Binary(Node):
    operator: str
    left: Value
    right: Value
    terms: int = field(compare=False)


Value = Integer | Float | String | Word | Negative | Binary


# --- targets and operations ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Index(Node):
    value: Value


@dataclass(frozen=True, slots=True)
class Slice(Node):
    first: Value | None
    last: Value | None
    step: Value | None


@dataclass(frozen=True, slots=True)
class Layers(Node):
    items: tuple[Index | Slice, ...]


@dataclass(frozen=True, slots=True)
class Dotted(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Target(Node):
    slot: Dotted
    layers: Layers | None


@dataclass(frozen=True, slots=True)
class Argument(Node):
    keyword: Word | None
    value: Value


@dataclass(frozen=True, slots=True)
class Call(Node):
    operation: Word
    arguments: tuple[Argument, ...]


# --- statements ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Metadata(Node):
    """`name = …` or `about = …`."""

    key: str
    value: Value


@dataclass(frozen=True, slots=True)
class Override(Node):
    field: Dotted
    value: Value


@dataclass(frozen=True, slots=True)
class Model(Node):
    value: Value
    overrides: tuple[Override, ...]


@dataclass(frozen=True, slots=True)
class Extends(Node):
    path: String


@dataclass(frozen=True, slots=True)
class Vary(Node):
    name: Word
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Freeze(Node):
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Train(Node):
    key: Word
    value: Value


@dataclass(frozen=True, slots=True)
class Expect(Node):
    """`tolerance` is the percentage of `within … of`, None for the relations `== < <= > >=`."""

    measure: Dotted
    relation: str
    tolerance: Integer | Float | None
    value: Value


@dataclass(frozen=True, slots=True)
class Assign(Node):
    targets: tuple[Target, ...]
    call: Call


StatementNode = Metadata | Model | Extends | Vary | Freeze | Train | Expect | Assign


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement where it stands: `offset` is the place of its first character in the source."""

    source: Source = field(compare=False, repr=False)
    offset: int = field(compare=False)
    node: StatementNode

    def span(self, node: Node | None = None) -> Span:
        """The place of a part of this statement, or of all of it."""
        node = node or self.node
        return Span(self.source, self.offset + node.start, self.offset + node.end)


@dataclass(frozen=True, slots=True)
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
