"""What is written beside a range says other layers than the range means.

Ranges are half-open and counted from 0: `[12:18]` is layers 12 to 17, six of them. Words like "layers 12 to 18",
"12-18" or "seven layers" beside it, on the same line, in the comment right above, in the name or in `about`, say that
layer 18 was meant too.

```abl
model = "EleutherAI/pythia-410m"
mlp[12:18] = lora_mlp(16)  # layers 12 to 18
```

```text
warning[misread-range]: `[12:18]` is layers 12 to 17, 6 of them; the comment says "12 to 18"
 --> example.abl:2:4
  |
2 | mlp[12:18] = lora_mlp(16)  # layers 12 to 18
  |    ^^^^^^^
  help: write [12:19] if layer 18 is meant too
```

Correct whichever is wrong. Words that agree with any range they may speak of are left alone: what the range holds,
what it leaves, where it begins or ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ablc.faults import Fault, Span
from ablc.language import tree
from ablc.language.tree import Statement
from ablc.lints.lint import Subject, lint
from ablc.spec import Edit, Freeze

_FROM_TO = re.compile(
    r"(?<![\d.,])(?<!\d{4}-)(?P<first>\d{1,4})(?:\s*[-–—…]\s*|\s*\.{2,3}\s*|[\s_-]+(?:to|through)[\s_-]+)(?=(?P<last>\d{1,4})(?!\d|\s*%|[.,]\d))",
    re.IGNORECASE,
)
_WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_NUMBERS = {word: number for number, word in enumerate(_WORDS, start=1)}
_HOW_MANY = re.compile(
    rf"(?<![\w.,])(?<!\d-)(?<!\d–)(?P<number>\d{{1,4}}|{'|'.join(_WORDS)})(?:[\s_-]+(?!of\b|to\b|or\b|and\b)[a-z]+){{0,2}}?[\s_-]+layers\b",
    re.IGNORECASE,
)
_NOT_A_NUMBER_OF_LAYERS = re.compile(
    r"(rank|lora|mlp|width|size|layers?|\bto|through|[=*/+:·×])[\s_-]*$", re.IGNORECASE
)


# What a text must hold for a second look: most speak neither of layers by number nor of anything from here to there.
_WORTH_READING = re.compile(r"layers\b(?!\.)|\d[\s_]*(?:[-–—…]|\.\.|to\b|through\b)[\s#_.-]*\d", re.IGNORECASE)


@dataclass(frozen=True)
class Range:
    """A range with a beginning and an end in a file, and the layers that it means; `written` where its end is."""

    brackets: Span
    layers: frozenset[int]
    first: int
    end: int
    written: bool

    @property
    def shown(self) -> str:
        last = self.end - 1
        which = (
            f"layer {self.first}"
            if last == self.first
            else f"layers {self.first} to {last}, {last - self.first + 1} of them"
        )
        return f"`{' '.join(self.brackets.text.split())}` is {which}"


@dataclass(frozen=True)
class Words:
    """What someone wrote, the ranges that it may speak of, and whether it stands right beside them."""

    span: Span
    text: str
    ranges: tuple[Range, ...]
    beside: bool
    what: str


@lint
def misread_range(subject: Subject) -> Iterator[Fault]:
    if not _WORTH_READING.search(subject.source.text) or not (layers := _layers(subject)):
        return
    depth = len(subject.variants[0].plan.original.layers)
    ranges = {statement.offset: _ranges(statement, layers) for statement in subject.tree.statements}
    told: set[Span] = set()
    for words in _words(subject, ranges):
        fault = _ends(words, depth) or _counts(words, depth)
        if fault is not None and fault.span is not None and fault.span not in told:
            told.add(fault.span)
            yield fault


def _ends(words: Words, depth: int) -> Fault | None:
    """Words that name the last layer where the range has its end."""
    for match in _FROM_TO.finditer(words.text):
        first, last = int(match["first"]), int(match["last"])
        meant = frozenset(range(first, last + 1))
        if first >= last or any(one.layers == meant for one in words.ranges):
            continue
        for one in words.ranges:
            near = one.end == last or (words.beside and _speaks_of_layers(words.text, match) and last < depth)
            if one.first == first and one.written and near and one.layers == frozenset(range(first, one.end)):
                said = f'"{match.group()}{last}"'
                help = f"write [{first}:{last + 1}] if layer {last} is meant too" if last < depth else None
                return _fault(one, words, said, help)
    return None


def _counts(words: Words, depth: int) -> Fault | None:
    """A number of layers that no range beside it has, leaves, begins or ends with; further away only the number that
    counts the end too."""
    for match in _HOW_MANY.finditer(words.text):
        number = _NUMBERS.get(match["number"].lower()) or int(match["number"])
        if _NOT_A_NUMBER_OF_LAYERS.search(words.text[: match.start()]):
            continue
        explained = {n for one in words.ranges for n in _explained(one, depth)} | {depth}
        for one in words.ranges:
            one_too_many = one.written and number == one.end - one.first + 1
            if number not in explained and (one_too_many or words.beside):
                help = f"write [{one.first}:{one.end + 1}] if layer {one.end} is meant too" if one_too_many else None
                return _fault(one, words, f'"{match.group()}"', help if one.end < depth else None)
    return None


def _explained(one: Range, depth: int) -> set[int]:
    """The numbers that a sentence about a range may well mention."""
    held = len(one.layers)
    return {held, depth - held, one.first, one.end, depth - one.first, depth - one.end, one.end - one.first}


def _fault(one: Range, words: Words, said: str, help: str | None) -> Fault:
    message = f"{one.shown}; {words.what} says {' '.join(said.split())}"
    related = ((words.span, "here"),) if words.span.line != one.brackets.line else ()
    return Fault("misread-range", message, one.brackets, help, "warning", related)


def _speaks_of_layers(text: str, match: re.Match[str]) -> bool:
    return re.search(r"\blayers?[\s_-]*$", text[: match.start()], re.IGNORECASE) is not None


# --- what is written where -------------------------------------------------------------------------------------------


def _words(subject: Subject, ranges: dict[int, tuple[Range, ...]]) -> Iterator[Words]:
    """Comments beside ranges first, then what speaks of the whole file: the comment on top, the name, `about`."""
    statements = subject.tree.statements
    everything = tuple(one for some in ranges.values() for one in some)
    by_line: dict[int, list[Statement]] = {}
    for statement in statements:
        by_line.setdefault(statement.span().line, []).append(statement)
    ends = {subject.source.position(s.offset + s.node.end)[0]: s for s in statements}
    for block in _blocks(subject):
        line = block[-1].line
        text = " ".join(comment.text.lstrip("#").strip() for comment in block)
        same = [s for s in statements if s is ends.get(line) or s in by_line.get(line, [])]
        if same:
            yield Words(block[0], text, _of(same, ranges), True, "the comment")
        elif below := _paragraph(by_line, line + 1):
            if ranges.get(below[0].offset):
                yield Words(block[0], text, _of(below, ranges), True, "the comment above")
            elif not statements or block[0].start < statements[0].offset:
                yield Words(block[0], text, everything, False, "the comment on top")
        elif not statements or block[0].start < statements[0].offset:
            yield Words(block[0], text, everything, False, "the comment on top")
    for statement in statements:
        node = statement.node
        if isinstance(node, tree.Metadata) and isinstance(node.value, tree.String):
            what = "the name" if node.key == "name" else "`about`"
            yield Words(statement.span(node.value), node.value.value, everything, False, what)


def _blocks(subject: Subject) -> list[list[Span]]:
    """Comments, those of adjacent lines together; one behind a statement stands for itself."""
    blocks: list[list[Span]] = []
    for comment in subject.tree.comments:
        alone = not subject.source.line(comment.line)[: comment.column - 1].strip()
        previous = blocks[-1][-1] if blocks else None
        if alone and previous is not None and previous.line == comment.line - 1 and previous.column == comment.column:
            blocks[-1].append(comment)
        else:
            blocks.append([comment])
    return blocks


def _paragraph(by_line: dict[int, list[Statement]], line: int) -> list[Statement]:
    """The statements from a line on, up to the first line where none begins."""
    found: list[Statement] = []
    while line in by_line:
        found += by_line[line]
        line += 1
    return found


def _of(statements: Sequence[Statement], ranges: dict[int, tuple[Range, ...]]) -> tuple[Range, ...]:
    return tuple(one for statement in statements for one in ranges[statement.offset])


# --- ranges ----------------------------------------------------------------------------------------------------------


def _layers(subject: Subject) -> dict[Span, frozenset[int]]:
    """The layers of each target in brackets that has the same ones in every variant."""
    found: dict[Span, set[frozenset[int]]] = {}
    for planned in subject.variants:
        of_variant: dict[Span, set[int]] = {}
        entries: tuple[Edit | Freeze, ...] = (*planned.spec.edits, *planned.spec.freezes)
        for said in entries:
            if said.layers and "[" in said.span.text:
                of_variant.setdefault(said.span, set()).update(said.layers)
        for span, layers in of_variant.items():
            found.setdefault(span, set()).add(frozenset(layers))
    return {span: next(iter(sets)) for span, sets in found.items() if len(sets) == 1}


def _ranges(statement: Statement, layers: Mapping[Span, frozenset[int]]) -> tuple[Range, ...]:
    node = statement.node
    targets = node.targets if isinstance(node, tree.Assign | tree.Freeze) else ()
    found = (_range(statement, target, layers.get(statement.span(target), frozenset())) for target in targets)
    return tuple(one for one in found if one is not None)


def _range(statement: Statement, target: tree.Target, layers: frozenset[int]) -> Range | None:
    """A target whose layers are one range."""
    if target.layers is None or len(target.layers.items) != 1 or not layers:
        return None
    (item,) = target.layers.items
    if not isinstance(item, tree.Slice):
        return None
    written = item.last is not None and item.step is None
    return Range(statement.span(target.layers), layers, min(layers), max(layers) + 1, written)
