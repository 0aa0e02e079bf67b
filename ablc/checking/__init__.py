"""All that can be said of files once they are compiled: their faults, the lints, and the claims that fail."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ablc.checking.allow import Allows, allows_in
from ablc.faults import Fault, Source
from ablc.lints import Subject, lints
from ablc.pipeline import Compiled
from ablc.planning.verdicts import failure

__all__ = ["Checked", "check"]


@dataclass(frozen=True)
class Checked:
    """A file with what there is to tell of it: errors and warnings in the order of their places, then failed claims."""

    compiled: Compiled
    faults: tuple[Fault, ...]
    failed: tuple[Fault, ...]

    @property
    def told(self) -> tuple[Fault, ...]:
        return self.faults + self.failed


def check(compiled: Sequence[Compiled]) -> list[Checked]:
    """Look at files together. A file with an error isn't linted: what it means isn't known."""
    subjects = {number: subject for number, one in enumerate(compiled) if (subject := _subject(one)) is not None}
    by_name: dict[str, list[tuple[int, Subject]]] = defaultdict(list)
    for number, subject in subjects.items():
        by_name[subject.source.name].append((number, subject))
    found: list[list[Fault]] = [list(one.faults) for one in compiled]
    for lint in lints():
        for fault in lint.find([*subjects.values()]):
            found[_file_of(fault, by_name)].append(fault)
    return [
        Checked(one, tuple(_allowed(faults, subjects.get(number))), tuple(_failed(one)))
        for number, (one, faults) in enumerate(zip(compiled, found, strict=True))
    ]


def _subject(one: Compiled) -> Subject | None:
    if not one.variants:
        return None
    spec = one.variants[0].spec
    return Subject(Source(spec.file, spec.sources[spec.file]), one.variants)


def _file_of(fault: Fault, by_name: Mapping[str, list[tuple[int, Subject]]]) -> int:
    """The file that a lint's warning is about; texts that come from no file all have one name."""
    assert fault.span is not None, "a lint says where"
    return next(number for number, subject in by_name[fault.span.source.name] if subject.is_own(fault.span))


def _allowed(faults: Iterable[Fault], subject: Subject | None) -> list[Fault]:
    """Without what comments allow, and with what is to be said of those comments."""
    known: dict[str, Allows] = {}
    if subject is not None:
        known[subject.source.name] = allows_in(subject.source)
    left = []
    for fault in dict.fromkeys(faults):
        source = fault.span.source if fault.span is not None else None
        if source is None:
            left.append(fault)
            continue
        if source.name not in known:  # an extended file: its comments hold for what it says, whoever builds on it
            known[source.name] = allows_in(source)
        if not known[source.name].cover(fault):
            left.append(fault)
    if subject is not None:
        left += known[subject.source.name].faults()
    return sorted(left, key=_place)


def _failed(one: Compiled) -> Iterator[Fault]:
    for planned in one.variants:
        for verdict in planned.verdicts:
            if verdict.holds is False:
                yield failure(verdict, planned.spec.variant)


def _place(fault: Fault) -> tuple[str, int]:
    return (fault.span.source.name, fault.span.start) if fault.span is not None else ("", 0)
