"""Colours for `.abl`: a Pygments lexer, which pygmentize, Sphinx, MkDocs and rich find by its name `ablc`.

What a word is depends on its place in the statement and not on the word alone: `mlp = none` has a slot and an
operation, `mlp[none] = none` an index as well. So statements are cut where the parser cuts them, and each word is named
by its place. What only reads or counts specs doesn't import this module, and so pays nothing for Pygments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from pygments.lexer import Lexer
from pygments.token import Comment, Error, Keyword, Name, Number, Operator, Punctuation, String, Whitespace

from ablc.faults import Source
from ablc.language.parse import KEYWORDS
from ablc.language.split import split

Kind = Any  # one of Pygments' token types, which have no types of their own

_LEXEMES = re.compile(
    r"(?P<blank>[ \t\f]+|\n)"
    r"|(?P<comment>#[^\n]*)"
    r'|(?P<string>"[^"\n]*")'
    r"|(?P<float>[0-9][0-9_]*(?:\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+))"
    r"|(?P<integer>[0-9][0-9_]*)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<operator>==|<=|>=|//|[=<>+*%-])"
    r"|(?P<punctuation>[.,:;()\[\]])"
    r'|(?P<error>"[^"\n]*|.)'
)
_KINDS: dict[str, Kind] = {
    "blank": Whitespace,
    "comment": Comment.Single,
    "string": String.Double,
    "float": Number.Float,
    "integer": Number.Integer,
    "word": Name,
    "operator": Operator,
    "punctuation": Punctuation,
    "error": Error,
}
SLOT, OPERATION, FIELD, MEASURE, VARIED = Name.Variable, Name.Function, Name.Attribute, Name.Builtin, Name.Constant
_ON_THE_LEFT: dict[str, Kind] = {"": SLOT, "freeze": SLOT, "train": FIELD, "vary": VARIED}
_RELATIONS = {"=", "==", "<", "<=", ">", ">="}
_CONSTANTS = {"true", "false", "null"}
# legible on light and dark; red, yellow and bold are left to what is wrong
_STYLES: tuple[tuple[Kind, str], ...] = (
    (Keyword, "magenta"),
    (Operator.Word, "magenta"),
    (OPERATION, "bright_blue"),
    (String, "green"),
    (Number, "cyan"),
    (Comment, "dim"),
)


@dataclass
class _Lexeme:
    start: int
    text: str
    kind: Kind


class AblLexer(Lexer):  # type: ignore[misc]
    """Statements of `.abl`. Its name is `ablc` alone: `abl` is OpenEdge's."""

    name = "ablc"
    aliases: ClassVar[list[str]] = ["ablc"]
    filenames: ClassVar[list[str]] = ["*.abl"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, Kind, str]]:
        for statement in _statements(text):
            _name_words([lexeme for lexeme in statement if lexeme.kind not in (Whitespace, Comment.Single)])
            for lexeme in statement:
                yield lexeme.start, lexeme.kind, lexeme.text


@lru_cache(maxsize=16)
def styled_lines(text: str) -> list[list[tuple[str, str]]]:
    """For each line of a file its pieces, each after the style that a terminal shows it in, empty for the usual one."""
    lines: list[list[tuple[str, str]]] = [[]]
    for _, kind, value in AblLexer().get_tokens_unprocessed(text):
        if value == "\n":  # a token of its own always
            lines.append([])
        else:
            lines[-1].append((next((style for kinds, style in _STYLES if kind in kinds), ""), value))
    return lines


def _statements(text: str) -> Iterator[list[_Lexeme]]:
    """All lexemes of a text, statement by statement; what stands between two statements belongs to the latter."""
    spans = iter(split(Source("", text), []).statements)
    span = next(spans, None)
    statement: list[_Lexeme] = []
    for match in _LEXEMES.finditer(text):
        lexeme = _Lexeme(match.start(), match.group(), _KINDS[match.lastgroup or "error"])
        while span is not None and span.end <= lexeme.start:
            span = next(spans, None)
        statement.append(lexeme)
        if lexeme.text in ("\n", ";") and (span is None or lexeme.start < span.start):
            yield statement
            statement = []
    yield statement


def _name_words(parts: list[_Lexeme]) -> None:
    """Names the words of one statement by their places; `parts` is the statement without blanks and comments."""
    keyword = parts[0].text if parts and parts[0].text in KEYWORDS else ""
    depths = _depths(parts)
    middle = _middle(parts, depths)
    fields = _fields(parts, depths)
    for place, part in enumerate(parts):
        before = parts[place - 1].text if place else ""
        if part.kind is not Name:
            continue
        if keyword and place == 0:
            part.kind = Keyword
        elif place <= middle and depths[place] == 0:
            part.kind = _claimed(part.text, place, before) if keyword == "expect" else _ON_THE_LEFT.get(keyword, Name)
        elif place in fields:
            part.kind = FIELD
        elif not keyword and place == middle + 1:
            part.kind = OPERATION
        else:
            part.kind = _value(part.text, is_argument=not keyword and place > middle)


def _depths(parts: list[_Lexeme]) -> list[int]:
    """In how many brackets each part stands."""
    depths, depth = [], 0
    for part in parts:
        depth = max(0, depth - (part.text in (")", "]")))
        depths.append(depth)
        depth += part.text in ("(", "[")
    return depths


def _middle(parts: list[_Lexeme], depths: list[int]) -> int:
    """The place that parts the left side from the right: an equals sign, a relation, or the `of` of `within 1% of`."""
    for place, part in enumerate(parts):
        ends_within = part.text == "of" and place > 0 and parts[place - 1].text == "%"
        if depths[place] == 0 and (part.text in _RELATIONS or ends_within):
            return place
    return len(parts)


def _fields(parts: list[_Lexeme], depths: list[int]) -> set[int]:
    """Places of the words before an `=` in brackets: fields of a config, keywords of an operation."""
    fields: set[int] = set()
    for place, part in enumerate(parts):
        if part.text != "=" or depths[place] == 0:
            continue
        word = place - 1
        while word > 0 and parts[word].kind is Name:
            fields.add(word)
            word = word - 2 if parts[word - 1].text == "." else 0
    return fields


def _claimed(word: str, place: int, before: str) -> Kind:
    """A word of a claim before what it is compared with: `expect layers.mlp within 1% of …`."""
    if place == 1:
        return MEASURE
    if before == ".":
        return SLOT
    return Operator.Word if word in ("within", "of") else Name


def _value(word: str, is_argument: bool) -> Kind:
    if word in _CONSTANTS:
        return Keyword.Constant
    return Name.Builtin.Pseudo if is_argument and word == "layer" else Name
