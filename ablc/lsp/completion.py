"""What may be written at a place, from the words before it in its statement.

A statement that is being written seldom parses, so the tree isn't asked but the words: which keyword begins it, which
brackets are open, and what stands before the cursor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from ablc.bases import builtin
from ablc.blueprint import Blueprint, Tied
from ablc.blueprint.activations import ACTIVATIONS
from ablc.blueprint.measures import MEASURES, SLOT_MEASURES
from ablc.blueprint.slots import slots_of
from ablc.families import family
from ablc.language import tree
from ablc.language.parse import KEYWORDS
from ablc.language.printer import show
from ablc.language.read import identity
from ablc.lsp.analysis import Analysis, analyse
from ablc.lsp.documents import Document
from ablc.lsp.fit import fits, stands
from ablc.lsp.words import (
    KEYWORD_TEXTS,
    MEASURE_TEXTS,
    RELATIONS,
    all_slots,
    argument_choices,
    argument_text,
    recipe_choices,
    recipe_text,
)
from ablc.ops import operation, operations
from ablc.ops.operation import Operation, Parameter
from ablc.pipeline import split_variant
from ablc.planning.places import standing
from ablc.spec.claims import RUN_MEASURES
from ablc.spec.original import Original
from ablc.spec.recipe import recipe_keys

MOST_FILES = 200
_LEXEMES = re.compile(r'"[^"\n]*"?|#[^\n]*|==|<=|>=|//|[A-Za-z_][\w.]*|\d[\w.]*|[^\s]')
_ENDS = re.compile(r'"[^"\n]*"?|#[^\n]*|;')
_WORD = re.compile(r"[A-Za-z_][\w.]*\Z")
_RELATION_LEXEMES = {"==", "<", "<=", ">", ">=", "of"}


@dataclass(frozen=True)
class Item:
    """Something that may stand here. `insert` is written in place of the characters from `start` to the cursor; in a
    `snippet` the cursor then goes to `$1`."""

    label: str
    kind: str
    detail: str = ""
    text: str = ""
    insert: str = ""
    snippet: str = ""


@dataclass(frozen=True)
class Offer:
    """What may stand at a place, in the order to show it; `start` is where the word that it completes begins."""

    start: int
    items: tuple[Item, ...] = ()


@dataclass(frozen=True)
class _Context:
    """The words of a statement before the cursor, without the one that is being written; the brackets still open,
    each with the place of its lexeme; and the document that is known around it."""

    analysis: Analysis
    words: tuple[str, ...]
    partial: str
    open: tuple[int, ...] = field(default=())

    @property
    def keyword(self) -> str:
        return self.words[0] if self.words and self.words[0].split(".")[0] in KEYWORDS else ""

    @property
    def before(self) -> str:
        return self.words[-1] if self.words else ""

    @property
    def base(self) -> Blueprint | None:
        return self.analysis.original.blueprint if self.analysis.original is not None else None

    @property
    def named(self) -> Original | None:
        """The base that a `model` statement names, which doesn't count for the document until it is written."""
        document = self.analysis.document
        text = f"model = {self.words[2]}" if len(self.words) > 2 else ""
        return analyse(replace(document, text=text), self.analysis.texts).original

    @property
    def assigned(self) -> int | None:
        """The place of the first `=` outside brackets."""
        depth = 0
        for place, word in enumerate(self.words):
            depth += (word in "([") - (word in ")]")
            if word == "=" and depth == 0:
                return place
        return None


def completion(analysis: Analysis, offset: int) -> Offer:
    """What may be written at a place."""
    text = analysis.source.text[_start(analysis, offset) : offset]
    lexemes = [match.group() for match in _LEXEMES.finditer(text)]
    last = lexemes[-1] if lexemes else ""
    if last.startswith("#"):
        return Offer(offset)
    if last.startswith('"') and (len(last) == 1 or not last.endswith('"')):
        context = _context(analysis, lexemes[:-1], last[1:])
        return Offer(offset - len(last) + 1, tuple(_strings(context)))
    partial = match.group() if (match := _WORD.search(text)) else ""
    context = _context(analysis, lexemes[: len(lexemes) - bool(partial)], partial)
    return Offer(offset - len(partial), tuple(_items(context)))


def _start(analysis: Analysis, offset: int) -> int:
    """Where the statement around a place begins: the one that was found there, or else what stands on the line."""
    for start, end in analysis.ends.items():
        if start <= offset <= end:
            return start
    text = analysis.source.text
    start = text.rfind("\n", 0, offset) + 1
    ends = [match.end() for match in _ENDS.finditer(text[start:offset]) if match.group() == ";"]
    return start + ends[-1] if ends else start


def _context(analysis: Analysis, words: list[str], partial: str) -> _Context:
    opened: list[int] = []
    for place, word in enumerate(words):
        if word in "([":
            opened.append(place)
        elif word in ")]" and opened:
            opened.pop()
    return _Context(analysis, tuple(words), partial, tuple(opened))


def _items(context: _Context) -> Iterable[Item]:
    """What may stand where a word may."""
    by_keyword: Mapping[str, Callable[[_Context], Iterable[Item]]] = {
        "model": _in_model,
        "extends": _quoted_files,
        "vary": lambda _: (),
        "name": lambda _: (),
        "about": lambda _: (),
        "freeze": _targets,
        "expect": _in_claim,
    }
    if not context.words:
        return _first_words(context)
    if context.words[0].startswith("train.") or context.keyword == "train":
        return _in_train(context)
    if context.keyword:
        return by_keyword[context.keyword](context)
    return _in_assignment(context) if context.assigned is not None else _targets(context)


# --- starts of statements, targets -----------------------------------------------------------------------------------


def _first_words(context: _Context) -> Iterator[Item]:
    if context.partial.startswith("train."):
        yield from _recipe_keys()
        return
    yield from _slots(context)
    written = {
        "name": 'name = "$1"',
        "about": 'about = "$1"',
        "model": 'model = "$1"',
        "extends": 'extends "$1"',
        "vary": "vary $1 = $2",
    }
    for word in KEYWORDS:
        insert = "train." if word == "train" else f"{word} "
        yield Item(word, "keyword", "", KEYWORD_TEXTS[word], insert, written.get(word, ""))


def _targets(context: _Context) -> Iterable[Item]:
    """Slots, or what a bound of layers may be computed from."""
    if context.open:
        return _numbers(context)
    is_done = _is_word(context.before) and context.before not in KEYWORDS
    return () if is_done or context.before == "]" else _slots(context)


def _slots(context: _Context) -> Iterator[Item]:
    if context.base is None:
        for slot in all_slots():
            yield Item(slot, "slot")
        return
    for slot in slots_of(context.base).names:
        if not isinstance(next(standing(context.base, slot)), Tied):  # it is no slot of its own then
            yield Item(slot, "slot", stands(context.base, slot))


def _is_word(text: str) -> bool:
    return bool(_WORD.fullmatch(text))


# --- assignments -----------------------------------------------------------------------------------------------------


def _in_assignment(context: _Context) -> Iterable[Item]:
    place = context.assigned or 0
    if context.open:
        return _arguments(context, context.words[place + 1], context.words[context.open[0] + 1 :])
    return _operations(context, context.words[:place]) if context.before == "=" else ()


def _operations(context: _Context, left: tuple[str, ...]) -> Iterator[Item]:
    """The operations that fit every slot on the left."""
    targets = [word for word in _outside(left) if _is_word(word)]
    base = context.base
    known = [slot for slot in targets if base is not None and slot in slots_of(base).names]
    for name in operations():
        if base is None or all(name in fits(base, slot) for slot in known):
            yield _operation(operation(name))


def _outside(words: tuple[str, ...]) -> Iterator[str]:
    """The words outside brackets."""
    depth = 0
    for word in words:
        depth += (word in "([") - (word in ")]")
        if depth == 0:
            yield word


def _operation(op: Operation) -> Item:
    required = [parameter.name for parameter in op.parameters if parameter.required]
    text = " ".join(op.doc.partition("\n\n")[0].split())
    if not required:
        return Item(op.name, "operation", op.signature(), text)
    filled = ", ".join(f"${{{number}:{name}}}" for number, name in enumerate(required, 1))
    return Item(op.name, "operation", op.signature(), text, f"{op.name}(", f"{op.name}({filled})")


def _arguments(context: _Context, name: str, said: tuple[str, ...]) -> Iterator[Item]:
    """What may stand in the brackets of an operation: choices of the argument at hand, numbers, further arguments."""
    if name not in operations():
        return
    parameters = {parameter.name: parameter for parameter in operation(name).parameters}
    if context.before == "=":
        parameter = parameters.get(context.words[-2])
        yield from _values(context, parameter) if parameter is not None else ()
        return
    given = {before for before, word in pairwise(said) if word == "="}
    if context.before in ("(", ","):
        for parameter in parameters.values():
            if parameter.keyword_only and parameter.name not in given:
                text = argument_text(parameter)
                yield Item(f"{parameter.name}=", "argument", text, insert=f"{parameter.name}=")
    if context.before in ("(", ",", "+", "-", "*", "//"):
        yield from _numbers(context, in_argument=True)


def _values(context: _Context, parameter: Parameter) -> Iterator[Item]:
    choices = argument_choices(parameter)
    for choice, meaning in choices.items():
        yield Item(choice, "choice", meaning)
    yield from _varied(context) if choices else _numbers(context, in_argument=True)


def _numbers(context: _Context, in_argument: bool = False) -> Iterator[Item]:
    """What an integer expression may read."""
    yield from _varied(context)
    if in_argument:
        yield Item("layer", "name", "the index of the layer at hand, from 0")
    original = context.named if context.keyword == "model" else context.analysis.original
    for name, value in sorted(original.fields.items()) if original is not None else ():
        yield Item(name, "field", str(value))


def _varied(context: _Context) -> Iterator[Item]:
    for name, statement in context.analysis.found.vary.items():
        if isinstance(statement.node, tree.Vary):
            yield Item(name, "name", ", ".join(map(show, statement.node.values)))


# --- models ----------------------------------------------------------------------------------------------------------


def _in_model(context: _Context) -> Iterable[Item]:
    if not context.open:
        quoted = (Item(f'"{name}"', "model", insert=f'"{name}"') for name in builtin())
        return [*quoted, *_varied(context)] if context.before == "=" else ()
    if context.before in ("(", ","):
        return _fields(context)
    return _field_values(context, context.words[-2]) if context.before == "=" else _numbers(context)


def _fields(context: _Context) -> Iterator[Item]:
    """The config fields that an override may set."""
    original = context.named
    for name, one in family(original.family).fields.items() if original is not None else ():
        value = original.blueprint.config.get(name, one.default) if original is not None else None
        yield Item(name, "field", f"{one.kind}, {value}", insert=f"{name} = ")


def _field_values(context: _Context, name: str) -> Iterator[Item]:
    original = context.named
    known = family(original.family).fields.get(name) if original is not None else None
    words = {"flag": ("true", "false"), "activation": ACTIVATIONS}.get(known.kind if known is not None else "", ())
    for word in words:
        yield Item(word, "choice")
    yield from _varied(context) if words else _numbers(context)


# --- recipes, claims -------------------------------------------------------------------------------------------------


def _in_train(context: _Context) -> Iterator[Item]:
    if context.before == "=":
        key = context.words[0].partition(".")[2]
        for choice in recipe_choices(key):
            yield Item(choice, "choice")
        yield from _varied(context)
    elif context.words == ("train",):
        yield from _recipe_keys()


def _recipe_keys() -> Iterator[Item]:
    for key in recipe_keys():
        yield Item(f"train.{key}", "key", "", recipe_text(key) or "", f"train.{key} = ")


def _in_claim(context: _Context) -> Iterator[Item]:
    if context.words == ("expect",):
        yield from _measures(context)
    elif len(context.words) == 2:
        for relation in RELATIONS:
            yield Item(relation, "choice", insert=f"{relation} ")
    elif context.before in _RELATION_LEXEMES or context.before == "*":
        yield from _quoted_files(context)


def _measures(context: _Context) -> Iterator[Item]:
    for name in (*MEASURES, *RUN_MEASURES):
        yield Item(name, "measure", MEASURE_TEXTS[name])
    for slot in slots_of(context.base).names if context.base is not None else all_slots():
        for name in SLOT_MEASURES:
            if name == "params" or context.base is None or slot in slots_of(context.base).layered:
                yield Item(f"{name}.{slot}", "measure", MEASURE_TEXTS[f"{name}.SLOT"])


# --- files -----------------------------------------------------------------------------------------------------------


def _strings(context: _Context) -> Iterable[Item]:
    """What may stand in the quotes that are open."""
    if context.keyword == "model" and not context.open:
        names = [Item(name, "model") for name in builtin()]
        return _entries(context, has_config) if context.partial.startswith((".", "/")) else names
    if context.keyword == "expect" and "@" in context.partial:
        return _variants(context)
    return _entries(context, is_spec) if context.keyword in ("extends", "expect") else ()


def _quoted_files(context: _Context) -> Iterator[Item]:
    for item in _entries(context, is_spec):
        yield Item(f'"{item.label}"', item.kind, insert=f'"{item.label}"')


def is_spec(path: Path) -> bool:
    return path.suffix == ".abl"


def has_config(path: Path) -> bool:
    return (path / "config.json").is_file()


def _entries(context: _Context, fits: Callable[[Path], bool]) -> Iterator[Item]:
    """What lies in the folder that the path so far leads to: what fits, and the folders on the way to more."""
    folder = context.partial.rpartition("/")[0] + "/" if "/" in context.partial else ""
    own = context.analysis.document.path
    for path, is_folder in _listed(context.analysis.source.folder / folder):
        if fits(path) and path != own:
            yield Item(f"{folder}{path.name}", "file")
        elif is_folder:
            yield Item(f"{folder}{path.name}/", "folder")


def _listed(folder: Path) -> list[tuple[Path, bool]]:
    """The entries of a folder that aren't hidden, with whether each is a folder; none where it can't be read."""
    try:
        with os.scandir(folder) as entries:
            found = [(folder / entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except (OSError, ValueError):
        return []
    return sorted(found)[:MOST_FILES]


def _variants(context: _Context) -> Iterator[Item]:
    """The variants of the family that is named before the `@`."""
    name = context.partial.partition("@")[0]
    path = identity(split_variant(context.analysis.source.folder / name)[0])
    try:
        text = context.analysis.texts.get(path) or path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return
    family_of = analyse(Document("", None, text, path, path.parent), context.analysis.texts)
    for label in family_of.labels:
        yield Item(f"{name}@{label}", "name")
