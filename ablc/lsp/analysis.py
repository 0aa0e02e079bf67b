"""What the compiler says of an open document, and what it knows of it even where something is wrong.

A file is compiled and looked at as by `ablc check`. Of a family the first variant comes first, since it answers most
questions of an editor; the others only add to what is wrong.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ablc.bases import may_ask
from ablc.checking import check
from ablc.faults import Fault, Source, Span
from ablc.language import tree
from ablc.language.parse import parse
from ablc.language.read import Instead, decode, identity, instead
from ablc.language.split import split
from ablc.language.tree import File, Statement
from ablc.lsp.documents import Document
from ablc.pipeline import Compiled, Planned, compile_source
from ablc.spec.gather import Program, gather
from ablc.spec.original import Original, find_original
from ablc.spec.settings import Settings, Variant, settings, variants

MOST_ERRORS = 100  # that a document may have and still be looked at for what is right in it
ROUNDS = 4  # of leaving out what is wrong: one mistake may have hidden the next
_MAY_VARY = re.compile(r"\b(vary|extends)\b")


@dataclass(frozen=True, eq=False)
class Analysis:
    """All that is known of one version of a document. `faults` are those of its first variant, failed claims among
    them; `reads` the files that its meaning depends on, those that aren't there included; `texts` what was read in
    place of files."""

    document: Document
    source: Source
    compiled: Compiled
    faults: tuple[Fault, ...]
    labels: tuple[str, ...] = ()
    reads: set[Path] = field(default_factory=set)
    texts: Mapping[Path, str] = field(default_factory=dict)

    @cached_property
    def file(self) -> File:
        """The statements of the document itself, `extends` included."""
        return parse(self.source, [])

    @cached_property
    def ends(self) -> Mapping[int, int]:
        """Where each statement ends, by where it starts; its node may end before the bracket that closes it."""
        return {span.start: span.end for span in split(self.source, []).statements}

    @cached_property
    def program(self) -> Program:
        """The statements of the document and of all it extends."""
        return gather(self.source, [], self.document.path)

    @cached_property
    def found(self) -> Settings:
        return settings(self.program, [])

    @cached_property
    def variant(self) -> Variant:
        """The first variant; one that says nothing where there is none."""
        return next(variants(self.program, self.found, []), Variant(None, {}))

    @cached_property
    def original(self) -> Original | None:
        """The base model, if it can be had, whatever else is wrong."""
        return find_original(self.program, self.found, self.variant, [])

    @cached_property
    def planned(self) -> Planned | None:
        """The first variant; where the document has errors, that of its statements without them."""
        compiled, source = self.compiled, self.source
        for _ in range(ROUNDS):
            if compiled.variants:
                return compiled.variants[0]
            rest = _without_errors(source, compiled.faults)
            if rest is None:
                return None
            source, only = rest, self.labels[0] if self.labels else None
            compiled = compile_source(source, self.document.path, only=only, claims=False)
        return compiled.variants[0] if compiled.variants else None


def analyse(document: Document, texts: Mapping[Path, str] | None = None, *, ask: bool = False) -> Analysis:
    """The first variant of a document. `texts` stand in place of files; with `ask`, the hub may be asked for a base."""
    texts, reads = texts or {}, set[Path]()
    with reading(texts, reads, ask):
        faults: list[Fault] = []
        data = document.text.encode("utf-8", "surrogatepass")
        source = decode(data, document.name, faults, folder=document.folder)
        if source is None:
            nothing = Source(document.name, "", document.folder)
            return Analysis(
                document, nothing, Compiled(document.name, (), tuple(faults)), tuple(faults), (), reads, texts
            )
        labels = _labels(source, document.path)
        compiled = compile_source(source, document.path, only=labels[0] if labels else None)
        return Analysis(document, source, compiled, _told(compiled), labels, reads, texts)


def further(analysis: Analysis) -> Iterator[tuple[Fault, ...] | None]:
    """One step for each further variant. A step gives all that is to be said of the variants until then, but not each
    does: at 2, 4, 8 … variants and at the last. As in `compile_source`, one with errors is the last."""
    merged, labels = analysis.compiled, analysis.labels
    for number, label in enumerate(labels[1:] if merged.ok else (), 2):
        one = compile_source(analysis.source, analysis.document.path, only=label)
        faults = tuple(sorted(dict.fromkeys((*merged.faults, *one.faults)), key=_order))
        merged = Compiled(merged.file, (*merged.variants, *one.variants) if one.ok else (), faults)
        is_last = number == len(labels) or not merged.ok
        yield _told(merged) if is_last or number & (number - 1) == 0 else None
        if is_last:
            return


@contextlib.contextmanager
def reading(texts: Mapping[Path, str], reads: set[Path], ask: bool = False) -> Iterator[None]:
    """Whatever is read inside is taken from `texts` where it is there, and noted in `reads`."""
    text_token, ask_token = instead.set(Instead(_reader(texts, reads))), may_ask.set(ask)
    try:
        yield
    finally:
        instead.reset(text_token)
        may_ask.reset(ask_token)


def through(analysis: Analysis, name: str) -> Span | None:
    """The path in the `extends` of this document through which a file of this name comes in."""
    for statement in analysis.file.statements:
        if isinstance(statement.node, tree.Extends):
            faults: list[Fault] = []
            alone = Source(analysis.source.name, statement.span().text, analysis.source.folder)
            inner = gather(alone, faults, analysis.document.path).statements
            names = {said.source.name for said in inner}
            names |= {fault.span.source.name for fault in faults if fault.span is not None}
            if name in names:
                return statement.span(statement.node.path)
    return None


def statement_of(file: File, line: int, text: str) -> Statement | None:
    """The statement that a plan names by its line and its text."""
    for statement in file.statements:
        span = statement.span()
        if span.line == line and " ".join(span.text.split()) == text:
            return statement
    return None


def _reader(texts: Mapping[Path, str], reads: set[Path]) -> Callable[[Path], bytes | None]:
    def read(path: Path) -> bytes | None:
        path = identity(path)
        reads.add(path)
        text = texts.get(path)
        return None if text is None else text.encode("utf-8", "surrogatepass")

    return read


def _labels(source: Source, path: Path | None) -> tuple[str, ...]:
    """The variants of a family, none for any other file. Most have no word that could make them one."""
    if not _MAY_VARY.search(source.text):
        return ()
    program = gather(source, [], path)
    found = settings(program, [])
    return tuple(variant.label or "" for variant in variants(program, found, [])) if found.vary else ()


def _told(compiled: Compiled) -> tuple[Fault, ...]:
    """What `ablc check` tells of a file: its faults and the lints, and its claims that fail."""
    return check([compiled])[0].told


def _order(fault: Fault) -> tuple[str, int]:
    return (fault.span.source.name, fault.span.start) if fault.span is not None else ("", 0)


def _without_errors(source: Source, faults: tuple[Fault, ...]) -> Source | None:
    """The text with each statement that has an error blanked out, so that all others stay where they are; None where
    an error isn't in a statement."""
    statements = split(source, []).statements
    text = source.text
    errors = [fault for fault in faults if fault.level == "error"]
    if len(errors) > MOST_ERRORS:
        return None
    for fault in errors:
        if fault.code == "no-model" or fault.span is None or fault.span.source != source:
            return None
        place = fault.span.start
        around = next((span for span in statements if span.start <= place <= span.end), None)
        start, end = (around.start, around.end) if around is not None else _line(source.text, place)
        text = text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]
    return Source(source.name, text, source.folder) if text != source.text else None


def _line(text: str, place: int) -> tuple[int, int]:
    end = text.find("\n", place)
    return text.rfind("\n", 0, place) + 1, len(text) if end < 0 else end
