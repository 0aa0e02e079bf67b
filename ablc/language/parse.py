"""Text to tree: one statement at a time, by the grammar in `grammar/ablc.lark`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError

from ablc.cache import cache_dir
from ablc.faults import Fault, Source, Span, nearest
from ablc.language.build import Problem, TreeBuilder
from ablc.language.split import split
from ablc.language.tree import File, Statement, StatementNode

_WORDS_FOR = {
    "WORD": "a name",
    "INT": "a number",
    "FLOAT": "a number",
    "STRING": "a string in double quotes",
    "$END": "the end of the statement",
    "EQUAL": "`=`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "DOT": "`.`",
    "EQ": "a relation (`==`, `<`, `<=`, `>`, `>=`, or `within 1% of`)",
    "PERCENT": "`%`",
    "OF": "`of`",
}
KEYWORDS = ("name", "about", "model", "extends", "vary", "freeze", "train", "expect")
MAX_STATEMENTS = 2_000
MAX_CHARACTERS = 100_000  # of a statement
_TOO_LONG = Problem("statement-too-long", f"a statement has at most {MAX_CHARACTERS:,} characters", 0, 1)
SYNTAX_CODES = frozenset(
    {
        "syntax",
        "bad-number",
        "expression-too-long",
        "list-too-long",
        "statement-too-long",
        "nested-too-deep",
        "too-many-statements",
    }
    | {"unclosed-string", "unclosed-bracket", "unopened-bracket", "mismatched-bracket"}
)
_OPERATORS = {"PLUS", "MINUS", "STAR", "FLOORDIV"}
_HELP_FOR_CHARACTER = {
    "/": "integer division is written `//`",
    "'": 'strings are written in double quotes: "…"',
    "{": "layers stand in `[…]`, arguments in `(…)`",
    "\r": "lines end with LF or CRLF; in this file some end with CR alone",
    "!": "a claim is `==`, `<`, `<=`, `>`, `>=`, or `within 1% of`",
}


def parse(source: Source, faults: list[Fault]) -> File:
    """All statements of a file that could be parsed; a syntax error in one hides none in the others."""
    pieces = split(source, faults)
    statements = []
    if len(pieces.statements) > MAX_STATEMENTS:
        message = f"{len(pieces.statements):,} statements; a file has at most {MAX_STATEMENTS:,}"
        place = pieces.statements[MAX_STATEMENTS]
        faults.append(Fault("too-many-statements", message, Span(source, place.start, place.start + 1)))
        return File(source, (), pieces.comments)
    for span in pieces.statements:
        result = parse_statement(span.text) if span.end - span.start <= MAX_CHARACTERS else _TOO_LONG
        if isinstance(result, Problem):
            place = Span(source, span.start + result.start, span.start + result.end)
            faults.append(Fault(result.code, result.message, place, result.help))
        else:
            statements.append(Statement(source, span.start, result))
    return File(source, tuple(statements), pieces.comments)


@lru_cache(maxsize=8192)
def parse_statement(text: str) -> StatementNode | Problem:
    """One statement as a tree with places relative to its start, or what is wrong with it."""
    try:
        return _parser().parse(text)  # type: ignore[return-value]
    except UnexpectedInput as error:
        return _explain(error, text)
    except VisitError as error:
        if isinstance(error.orig_exc, Problem):
            return error.orig_exc
        raise
    except Problem as problem:
        return problem


def meant_keyword(word: str) -> str | None:
    """The keyword that a mistyped first word of a statement most probably meant, or None."""
    return nearest(word, KEYWORDS) if word not in KEYWORDS else None


def grammar_text() -> str:
    """The grammar: inside the package where it was installed, in the repository's `grammar/` in an editable install."""
    here = Path(__file__).resolve().parent
    for path in (here / "ablc.lark", here.parents[1] / "grammar" / "ablc.lark"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise FileNotFoundError("ablc.lark is missing from this installation of ablc; install it again")


@cache
def _parser() -> Lark:
    """The parser, its tables taken from the user's cache where they are there (lark checks version and grammar)."""
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stored: str | bool = str(folder / "grammar.lark-cache")
    except OSError:
        stored = False
    options: dict[str, Any] = {"parser": "lalr", "keep_all_tokens": True, "maybe_placeholders": True}
    return Lark(grammar_text(), transformer=TreeBuilder(), cache=stored, **options)


@dataclass(frozen=True)
class _Unexpected:
    start: int
    end: int
    what: str
    expected: frozenset[str]


def _explain(error: UnexpectedInput, text: str) -> Problem:
    found = _found(error, text)
    wanted = _wanted(found.expected)
    message = f"unexpected {found.what}" + (f"; expected {wanted}" if wanted else "")
    return Problem("syntax", message, found.start, found.end, _help(found, text))


def _found(error: UnexpectedInput, text: str) -> _Unexpected:
    if isinstance(error, UnexpectedToken):
        token: Token = error.token
        expected = frozenset(error.accepts or error.expected)
        if token.type == "$END":
            return _Unexpected(len(text), len(text), "end of the statement", expected)
        return _Unexpected(token.start_pos or 0, token.end_pos or len(text), f"`{token[:40]}`", expected)
    place = error.pos_in_stream or 0
    return _Unexpected(place, place + 1, _character(text[place]), _allowed(text[:place]))


def _allowed(before: str) -> frozenset[str]:
    """What the grammar allows after a text. The lexer's own list also has what only could stand in a like place."""
    reader = _parser().parse_interactive(before)
    reader.exhaust_lexer()
    return frozenset(reader.accepts())  # type: ignore[no-untyped-call]


def _character(char: str) -> str:
    """A character as a reader can tell it from others: what isn't ASCII with its number and name."""
    if char.isascii() and char.isprintable():
        return f"`{char}`"
    return f"`{char}` (U+{ord(char):04X} {unicodedata.name(char, '').lower()})".replace(" )", ")")


def _wanted(expected: frozenset[str]) -> str:
    """What could stand here, in words; operators are left out, since they could nearly always."""
    names = sorted({_WORDS_FOR[name] for name in expected if name in _WORDS_FOR and name not in _OPERATORS})
    return " or ".join(names) if len(names) < 3 else ", ".join(names[:-1]) + " or " + names[-1]


def _help(found: _Unexpected, text: str) -> str | None:
    first = next(iter(re.findall(r"\w+", text)), "")
    if meant := meant_keyword(first):
        return f"did you mean `{meant}`?"
    value = text.partition("=")[2].strip()
    if first in ("model", "train", "vary") and value and found.start > text.index("="):
        example = "" if first == "vary" or '"' in value else f': "{value}"'
        return f"what isn't a plain word or number stands in double quotes{example}"
    if found.what == "`=`" and first == "expect":
        return "equality is written `==` in a claim"
    return _HELP_FOR_CHARACTER.get(text[found.start : found.start + 1])
