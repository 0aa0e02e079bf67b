"""Text to tree: one statement at a time, by the grammar in `grammar/ablc.lark`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError

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
_OPERATORS = {"PLUS", "MINUS", "STAR", "FLOORDIV"}
_HELP_FOR_CHARACTER = {
    "/": "integer division is written `//`",
    "'": 'strings are written in double quotes: "…"',
    "{": "layers stand in `[…]`, arguments in `(…)`",
    "!": "a claim is `==`, `<`, `<=`, `>`, `>=`, or `within 1% of`",
}


def parse(source: Source, faults: list[Fault]) -> File:
    """All statements of a file that could be parsed; a syntax error in one hides none in the others."""
    pieces = split(source, faults)
    statements = []
    for span in pieces.statements:
        result = parse_statement(span.text)
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
    allowed = frozenset(error.allowed or ()) if isinstance(error, UnexpectedCharacters) else frozenset[str]()
    return _Unexpected(place, place + 1, f"`{text[place]}`", allowed)


def _wanted(expected: frozenset[str]) -> str:
    """What could stand here, in words; operators are left out, since they could nearly always."""
    names = sorted({_WORDS_FOR[name] for name in expected if name in _WORDS_FOR and name not in _OPERATORS})
    return " or ".join(names) if len(names) < 3 else ", ".join(names[:-1]) + " or " + names[-1]


def _help(found: _Unexpected, text: str) -> str | None:
    first = next(iter(re.findall(r"[^\s=(]+", text)), "")
    if meant := meant_keyword(first):
        return f"did you mean `{meant}`?"
    if found.what == "`=`" and first == "expect":
        return "equality is written `==` in a claim"
    return _HELP_FOR_CHARACTER.get(text[found.start : found.start + 1])
