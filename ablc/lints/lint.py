"""What a lint is, and what it is given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ablc.blueprint import Blueprint, Layers, Node
from ablc.faults import Fault, Source, Span
from ablc.language.parse import parse
from ablc.language.tree import File
from ablc.pipeline import Planned


@dataclass(frozen=True)
class Subject:
    """A file without errors, as a lint sees it: its text, and every variant planned and judged."""

    source: Source
    variants: tuple[Planned, ...]

    @cached_property
    def tree(self) -> File:
        """The statements and comments of the file itself. Parsed for the lints that ask for it; most files need
        none."""
        return parse(self.source, [])

    def is_own(self, span: Span) -> bool:
        """Whether the file itself says this. What an extended file says is told where that one is checked."""
        return span.source == self.source


PerFile = Callable[[Subject], Iterator[Fault]]
Together = Callable[[Sequence[Subject]], Iterator[Fault]]


@dataclass(frozen=True)
class Lint:
    """One kind of warning. `find` is given all files that are checked together.

    `mend` is True where taking out what a warning points at leaves the model as it is; that is checked each time
    before a file is touched. `together` is True where what is told depends on the other files."""

    code: str
    find: Together
    mend: bool = False
    together: bool = False


def lint(find: PerFile) -> Lint:
    """Make a function a lint that looks at each file by itself. Its name, with hyphens, is the code."""
    return Lint(_code(find), lambda subjects: (fault for subject in subjects for fault in find(subject)))


def mended_lint(find: PerFile) -> Lint:
    """A lint of that kind whose warnings point at what `ablc check --fix` may take out."""
    return replace(lint(find), mend=True)


def lint_together(find: Together) -> Lint:
    """Make a function a lint that compares the files that are checked together."""
    return Lint(_code(find), find, together=True)


def _code(find: Callable[..., Iterator[Fault]]) -> str:
    return find.__name__.replace("_", "-")


def each_variant(subject: Subject, find: Callable[[Planned], Iterable[Fault]]) -> Iterator[Fault]:
    """What is found in the variants of a file, one warning a place: what isn't the same in all says in which it is
    so."""
    if len(subject.variants) == 1:
        yield from find(subject.variants[0])
        return
    found: dict[tuple[str, Span | None], dict[str, Fault]] = defaultdict(dict)
    for planned in subject.variants:
        for fault in find(planned):
            found[fault.code, fault.span][planned.spec.variant or ""] = fault
    for by_variant in found.values():
        label, first = next(iter(by_variant.items()))
        if len(by_variant) == len(subject.variants) and len(set(by_variant.values())) == 1:
            yield first
        else:
            others = f" and {len(by_variant) - 1} more" if len(by_variant) > 1 else ""
            yield replace(first, message=f"{first.message} (in {label}{others})")


def distinct_sections(blueprint: Blueprint) -> Iterator[tuple[Node, Layers]]:
    """Every section once, with the layers that are this very object (None: outside the layers)."""
    yield blueprint.root, None
    alike: dict[int, list[int]] = defaultdict(list)
    for layer, node in enumerate(blueprint.layers):
        alike[id(node)].append(layer)
    for layers in alike.values():
        yield blueprint.layers[layers[0]], tuple(layers)


def by_owner(layers: Layers, owners: Mapping[int | None, Span]) -> dict[Span, Layers]:
    """Layers by the place that is to blame for each; those that nothing is to blame for are left out."""
    if layers is None:
        return {owners[None]: None} if None in owners else {}
    found: dict[Span, list[int]] = defaultdict(list)
    for layer in layers:
        if layer in owners:
            found[owners[layer]].append(layer)
    return {span: tuple(some) for span, some in found.items()}


def last_edits(planned: Planned, slot: str) -> dict[int | None, Span]:
    """For each layer (None: outside them), the target that last put something into a slot by its own name."""
    owners: dict[int | None, Span] = {}
    for edit in planned.spec.edits:
        if edit.slot == slot:
            owners.update(dict.fromkeys((None,) if edit.layers is None else edit.layers, edit.span))
    return owners


def in_layers(layers: Layers) -> str:
    """`in 6 layers`, `in layer 3`; nothing for what stands outside the layers."""
    if layers is None:
        return ""
    return f" in {len(layers)} layers" if len(layers) != 1 else f" in layer {layers[0]}"
