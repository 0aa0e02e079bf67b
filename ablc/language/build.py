"""Turns what the parser reduces into tree nodes, as it reduces it; bounds numbers and expressions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lark import Token, Transformer

from ablc.language import tree

MAX_TERMS = 100
MAX_DIGITS = 60
MAX_ITEMS = 1_000
N = TypeVar("N", bound=tree.Node)
Child = Any  # a Token, a Node, a list of nodes, or None for an optional part that isn't there


class Problem(Exception):
    """What is wrong with one statement; places count from its start."""

    def __init__(self, code: str, message: str, start: int, end: int, help: str | None = None) -> None:
        self.code, self.message, self.start, self.end, self.help = code, message, start, end, help
        super().__init__(message)


class TreeBuilder(Transformer[Token, Any]):
    """One method a rule of the grammar; children are tokens and already built nodes."""

    def start(self, children: list[Child]) -> tree.StatementNode:
        return children[0]  # type: ignore[no-any-return]

    def metadata(self, c: list[Child]) -> tree.Metadata:
        return tree.Metadata(*_ends(c), str(c[0]), c[2])

    def model(self, c: list[Child]) -> tree.Model:
        return tree.Model(*_ends(c), c[2], _only(c, tree.Override))

    def override(self, c: list[Child]) -> tree.Override:
        return tree.Override(*_ends(c), c[0], c[2])

    def extends(self, c: list[Child]) -> tree.Extends:
        return tree.Extends(*_ends(c), self.string(c[1:]))

    def vary(self, c: list[Child]) -> tree.Vary:
        return tree.Vary(*_ends(c), self.word(c[1:2]), tuple(n for n in c[3:] if not isinstance(n, Token)))

    def freeze(self, c: list[Child]) -> tree.Freeze:
        return tree.Freeze(*_ends(c), c[1])

    def train(self, c: list[Child]) -> tree.Train:
        return tree.Train(*_ends(c), self.word(c[2:3]), c[4])

    def expect(self, c: list[Child]) -> tree.Expect:
        relation, tolerance = c[2]
        return tree.Expect(*_ends([c[0], c[3]]), c[1], relation, tolerance, c[3])

    def relation(self, c: list[Child]) -> tuple[str, tree.Integer | tree.Float | None]:
        return ("within", c[0]) if isinstance(c[0], tree.Integer | tree.Float) else (str(c[0]), None)

    def within(self, c: list[Child]) -> tree.Integer | tree.Float:
        return self.integer(c[1:2]) if c[1].type == "INT" else self.float(c[1:2])

    def assign(self, c: list[Child]) -> tree.Assign:
        return tree.Assign(c[0][0].start, c[2].end, c[0], c[2])

    def targets(self, c: list[Child]) -> tuple[tree.Target, ...]:
        return _only(c, tree.Target)

    def target(self, c: list[Child]) -> tree.Target:
        return tree.Target(*_ends(c), c[0], c[1])

    def layers(self, c: list[Child]) -> tree.Layers:
        items = tuple(n for n in c if isinstance(n, tree.Index | tree.Slice))
        if len(items) > MAX_ITEMS:
            raise Problem("list-too-long", f"a list of layers has at most {MAX_ITEMS:,} items", *_ends(c))
        return tree.Layers(*_ends(c), items)

    def index(self, c: list[Child]) -> tree.Index:
        return tree.Index(*_ends(c), c[0])

    def slice(self, c: list[Child]) -> tree.Slice:
        return tree.Slice(*_ends(c), c[0], c[2], c[4])

    def call(self, c: list[Child]) -> tree.Call:
        return tree.Call(*_ends(c), self.word(c[:1]), _only(c, tree.Argument))

    def argument(self, c: list[Child]) -> tree.Argument:
        return tree.Argument(*_ends(c), self.word(c[:1]) if c[0] else None, c[2])

    def dotted(self, c: list[Child]) -> tree.Dotted:
        return tree.Dotted(*_ends(c), "".join(c))

    def binary(self, c: list[Child]) -> tree.Binary:
        terms = _bounded(c, tree.terms(c[0]) + tree.terms(c[2]))
        return tree.Binary(*_ends(c), str(c[1]), c[0], c[2], terms)

    def negative(self, c: list[Child]) -> tree.Negative:
        return tree.Negative(*_ends(c), c[1], _bounded(c, tree.terms(c[1]) + 1))

    def group(self, c: list[Child]) -> tree.Value:
        return c[1]  # type: ignore[no-any-return]

    def integer(self, c: list[Child]) -> tree.Integer:
        text = _number(c[0], r"0|[1-9]\d*(_\d+)*")
        return tree.Integer(*_ends(c), int(text), text)

    def float(self, c: list[Child]) -> tree.Float:
        text = _number(c[0], r"(0|[1-9]\d*(_\d+)*)(\.\d+(_\d+)*)?([eE][+-]?\d+)?")
        value = float(text)
        if math.isinf(value) or (value == 0 and re.search("[1-9]", text.lower().partition("e")[0])):
            raise Problem("bad-number", f"{text} is beyond what a float can hold", *_ends(c))
        return tree.Float(*_ends(c), value, text)

    def string(self, c: list[Child]) -> tree.String:
        return tree.String(*_ends(c[:1]), str(c[0])[1:-1])

    def word(self, c: list[Child]) -> tree.Word:
        return tree.Word(*_ends(c), str(c[0]))


def _ends(children: Sequence[Child]) -> tuple[int, int]:
    flat = [
        leaf for child in children if child is not None for leaf in (child if isinstance(child, tuple) else (child,))
    ]
    first, last = flat[0], flat[-1]
    return _place(first, "start"), _place(last, "end")


def _place(leaf: Token | tree.Node, side: str) -> int:
    return int(getattr(leaf, f"{side}_pos" if isinstance(leaf, Token) else side))


def _only(children: Sequence[Child], kind: Callable[..., N]) -> tuple[N, ...]:
    return tuple(child for child in children if isinstance(child, kind))  # type: ignore[arg-type]


def _bounded(children: Sequence[Child], terms: int) -> int:
    if terms > MAX_TERMS:
        raise Problem("expression-too-long", f"an expression has at most {MAX_TERMS} terms and signs", *_ends(children))
    return terms


def _number(token: Token, pattern: str) -> str:
    place = _ends([token])
    if not re.fullmatch(pattern, token):
        digits = token.replace("_", "")
        help = f"write {int(digits)}" if digits.isdigit() and len(digits) < MAX_DIGITS else None
        raise Problem("bad-number", f"`{token[:40]}` has a leading zero or a misplaced `_`", *place, help)
    if len(token) > MAX_DIGITS:
        raise Problem("bad-number", f"a number has at most {MAX_DIGITS} digits", *place)
    return str(token)
